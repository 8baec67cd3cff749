"""Every Keras file of the fixtures and the corpus, read by bncheck and by h5py: the same bits."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

from bncheck.checkpoint import open_checkpoint
from tests.conftest import CORPUS, FIXTURES

MAGIC = b"\x89HDF\r\n\x1a\n"


def keras_files(folder: Path) -> list[str]:
    """Return HDF5 files and archives by content, but for the parts of something larger."""
    found = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_file() and not (path.parent / "config.json").exists():
            head = path.open("rb").read(8)
            part = path.name[-17:-11].startswith("_0")
            if (head == MAGIC and not part) or head[:4] == b"PK\x03\x04":
                found.append(str(path.relative_to(folder)))
    return found


def h5py_reads(source: Any) -> dict[str, Any]:
    """Return every dataset of an HDF5 file; bare two-byte voids are Keras' bfloat16."""
    arrays: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            array = np.asarray(item[()])
            arrays[name] = array.view(ml_dtypes.bfloat16) if array.dtype == "V2" else array

    with h5py.File(source) as file:
        file.visititems(visit)
    return arrays


def read_by_bncheck(path: str) -> dict[str, Any]:
    checkpoint = open_checkpoint(path)
    assert checkpoint.variables.keys() >= checkpoint.structure.slots.keys()
    values = checkpoint.read(checkpoint.variables)
    assert values.unread == {}
    for name, array in values.arrays.items():
        assert array.dtype.name == checkpoint.variables[name].dtype, name
        assert array.shape == checkpoint.variables[name].shape, name
    return dict(values.arrays)


def assert_same(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    for name, array in want.items():
        native = array.astype(array.dtype.newbyteorder("="))
        assert got[name].tobytes() == native.tobytes(), name


@pytest.mark.parametrize("path", keras_files(FIXTURES))
def test_fixture(path: str) -> None:
    assert_same_as_h5py(FIXTURES / path)


@pytest.mark.parametrize("path", keras_files(CORPUS))
def test_corpus(path: str) -> None:
    assert_same_as_h5py(CORPUS / path)


def assert_same_as_h5py(path: Path) -> None:
    source: Any = path
    if zipfile.is_zipfile(path):
        source = io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))
    want = h5py_reads(source)
    assert want
    assert_same(read_by_bncheck(str(path)), want)


def test_there_are_files_of_every_kind() -> None:
    names = {Path(path).name for path in keras_files(FIXTURES)}
    assert names >= {"model.keras", "model.h5", "model.weights.h5", "weights.h5"}
    assert len(keras_files(FIXTURES)) > 100


@pytest.mark.parametrize("path", sorted(FIXTURES.rglob("*.weights.json")), ids=str)
def test_weights_in_several_files(path: Path) -> None:
    """The list says which file has which variables; together they are one checkpoint's."""
    if (path.parent / "config.json").exists():
        pytest.skip("is a part of an unzipped archive")
    shards = {
        shard
        for value in json.loads(path.read_text("utf-8"))["weight_map"].values()
        for shard in ([value] if isinstance(value, str) else value)
    }
    assert len(shards) > 1
    want: dict[str, Any] = {}
    for shard in shards:
        want |= h5py_reads(path.parent / shard)
    assert_same(read_by_bncheck(str(path)), want)


@pytest.mark.parametrize("path", sorted(p.parent for p in FIXTURES.rglob("config.json")), ids=str)
def test_unzipped_archives(path: Path) -> None:
    assert_same(read_by_bncheck(str(path)), h5py_reads(path / "model.weights.h5"))
