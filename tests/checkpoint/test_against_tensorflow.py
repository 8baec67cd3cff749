"""Every real checkpoint, read by bncheck and by TensorFlow: the same, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.checkpoint import open_checkpoint
from tests.checkpoint.oracle import assert_same, assert_same_as_tensorflow, read_all
from tests.conftest import CORPUS, FIXTURES, manifest

pytestmark = pytest.mark.tensorflow


def indices(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.index"))


def v1_files(folder: Path) -> list[str]:
    """Return the V1 checkpoints by the path that TensorFlow takes: a file or a glob of shards."""
    paths = {
        path
        for story in manifest(folder)
        for path in [story.get("path"), *(c["path"] for c in story.get("checkpoints", []))]
        if path and ("?" in path or is_v1(folder / path))
    }
    return sorted(paths)


def is_v1(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[-8:] == bytes.fromhex("57fb808b247547db")


def has_data(index: Path) -> bool:
    return any(index.parent.glob(index.name[: -len(".index")] + ".data-*"))


def test_there_are_fixtures_of_both_formats(fixtures: Path) -> None:
    assert indices(fixtures)
    assert v1_files(fixtures)
    listed = {story["path"] for story in manifest(fixtures)}
    assert all((fixtures / path).parent.is_dir() for path in listed)


@pytest.mark.parametrize("index", indices(FIXTURES))
def test_bundle_fixture(tf: Any, fixtures: Path, index: str) -> None:
    path = fixtures / index
    assert assert_same_as_tensorflow(tf, path, str(path)[: -len(".index")]) > 0


@pytest.mark.parametrize("path", v1_files(FIXTURES))
def test_v1_fixture(tf: Any, fixtures: Path, path: str) -> None:
    assert assert_same_as_tensorflow(tf, fixtures / path, str(fixtures / path)) > 0


@pytest.mark.parametrize("index", indices(CORPUS))
def test_bundle_of_the_corpus(tf: Any, corpus: Path, index: str) -> None:
    path = corpus / index
    prefix = str(path)[: -len(".index")]
    whole = has_data(path)
    assert assert_same_as_tensorflow(tf, path, prefix, values=whole) > 0
    checkpoint = open_checkpoint(str(path))
    damaged = checkpoint.damaged_files()
    if whole:
        assert damaged == {}
        return
    values = checkpoint.read(checkpoint.variables)
    assert values.arrays == {}
    assert all("this data file is missing" in reason for reason in values.unread.values())
    assert set(damaged) == {f"{prefix}.data-00000-of-00001"}


@pytest.mark.parametrize("path", v1_files(CORPUS))
def test_v1_of_the_corpus(tf: Any, corpus: Path, path: str) -> None:
    pattern = str(corpus / path)
    checkpoint = open_checkpoint(pattern)
    assert checkpoint.format == "tensor-slices-v1"
    assert assert_same_as_tensorflow(tf, pattern, pattern) > 0
    assert checkpoint.damaged_files() == {}


def test_corpus_has_what_it_is_for(corpus: Path) -> None:
    """Snappy, several shards, object-based, an empty basename: all are among those compared."""
    compressed = [path for path in indices(corpus) if is_snappy(corpus / path)]
    object_based = [
        path
        for path in indices(corpus)
        if "_CHECKPOINTABLE_OBJECT_GRAPH" in open_checkpoint(str(corpus / path)).variables
    ]
    assert compressed
    assert object_based
    assert any(path.endswith("/.index") for path in indices(corpus))
    assert {open_checkpoint(str(corpus / path)).shards for path in indices(corpus)} >= {1, 2}
    assert len(v1_files(corpus)) >= 3


def is_snappy(index: Path) -> bool:
    """Whether the first block is compressed: it starts with its length then, else with `shared`."""
    return index.read_bytes()[0] != 0


def test_checkpoints_that_tensorflow_writes_now(tf: Any, tmp_path: Path) -> None:
    """An object-based one, with a string, a sharded variable and slices in two dimensions."""
    model = tf.Module()
    model.table = tf.Variable(np.arange(10_000, dtype=np.float32).reshape(100, 100))
    model.label = tf.Variable("\u00e9\0", dtype=tf.string)
    options = tf.train.CheckpointOptions(
        experimental_sharding_callback=tf.train.experimental.MaxShardSizePolicy(10_000)
    )
    prefix = tf.train.Checkpoint(model=model).write(str(tmp_path / "ckpt"), options)
    checkpoint = open_checkpoint(prefix)
    assert checkpoint.shards > 3
    arrays = read_all(prefix)
    assert_same(arrays["model/table/.ATTRIBUTES/VARIABLE_VALUE"], model.table.numpy())
    assert arrays["model/label/.ATTRIBUTES/VARIABLE_VALUE"].item() == "\u00e9\0".encode()
    assert assert_same_as_tensorflow(tf, prefix, prefix) == len(arrays)
