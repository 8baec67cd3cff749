"""Paths that lead to no checkpoint, or to more than one: what is told instead."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.checkpoint import locate, open_checkpoint
from bncheck.errors import (
    AmbiguousError,
    BncheckError,
    DamagedError,
    NotACheckpointError,
    NotFoundError,
    UnsupportedError,
)
from tests.writers import write_bundle, write_table, write_v1

Write = Callable[[Path], Any]
ONE = {"v": np.ones(2)}
TWO = {"v": np.ones(2), "w": np.zeros(2)}


def files(contents: dict[str, bytes]) -> Write:
    def write(folder: Path) -> None:
        for name, raw in contents.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(raw)

    return write


def remove(name: str, write: Write) -> Write:
    return lambda folder: (write(folder), os.remove(folder / name))


def bundles(*names: str, **options: Any) -> Write:
    return lambda folder: [write_bundle(folder / name, TWO, **options) for name in names]


def v1(name: str, *shards: int | None) -> Write:
    return lambda folder: [write_v1(folder / name, TWO, shards=count) for count in shards]


NOTHING = files({})
# What is in the folder; the path; the error, the file that it names (in the folder), its words.
ERRORS: dict[str, tuple[Write, str, type[BncheckError], str, list[str]]] = {
    "a typo": (
        bundles("model.ckpt-60", "model.ckpt-30", "other"),
        "model.ckpt-6",
        NotFoundError,
        "model.ckpt-6",
        ["no such file, directory or checkpoint", "Did you mean", "/model.ckpt-60"],
    ),
    "a typo in an empty folder": (
        NOTHING,
        "m",
        NotFoundError,
        "m",
        ["no such file, directory or checkpoint"],
    ),
    "a folder that is not there": (NOTHING, "no/m", NotFoundError, "no/m", ["/no does not exist"]),
    "below a file": (
        files({"f": b"x"}),
        "f/m",
        NotFoundError,
        "f/m",
        ["no such file", "f does not"],
    ),
    "a dangling link": (
        lambda folder: (folder / "m").symlink_to("nothing"),
        "m",
        NotFoundError,
        "m",
        ["no such file"],
    ),
    "a typo beside an incomplete V1 checkpoint": (
        remove("x-00000-of-00002", v1("x", 2)),
        "typo",
        NotFoundError,
        "typo",
        ["no such file, directory or checkpoint"],
    ),
    "data without index": (
        remove("m.index", bundles("m")),
        "m",
        NotFoundError,
        "m.index",
        ["the data files of this checkpoint are here, but its index is not", "Copy the index, too"],
    ),
    "a data file without index": (
        remove("m.index", bundles("m")),
        "m.data-00000-of-00001",
        NotFoundError,
        "m.index",
        ["its index is not"],
    ),
    "an index that is gone": (
        remove("m.index", bundles("m")),
        "m.index",
        NotFoundError,
        "m.index",
        ["no such file"],
    ),
    "only the graph": (
        files({"m.meta": b"\x12\x00"}),
        "m",
        NotFoundError,
        "m",
        ["only the graph (.meta) is here", "Copy the .index and .data files, too"],
    ),
    "only the graph, as a file": (
        files({"m.meta": b"\x12\x00"}),
        "m.meta",
        NotFoundError,
        "m",
        ["only the graph (.meta) is here"],
    ),
    "V1 shards missing": (
        remove("m-00001-of-00003", v1("m", 3)),
        "m",
        NotFoundError,
        "m-00001-of-00003",
        ["1 of 3 files of this V1 checkpoint are missing", "Copy all of them"],
    ),
    "V1 shards missing, given a shard": (
        remove("m-00001-of-00002", v1("m", 2)),
        "m-00000-of-00002",
        NotFoundError,
        "m-00001-of-00002",
        ["1 of 2 files"],
    ),
    "V1 shards missing, given the folder": (
        remove("m-00001-of-00002", v1("m", 2)),
        "",
        NotFoundError,
        "m-00001-of-00002",
        ["1 of 2 files"],
    ),
    "V1 in two cuts": (
        v1("m", 1, 2),
        "m",
        AmbiguousError,
        "m",
        ["V1 checkpoints of 1 and of 2 shards", "Name the first file of the one that you mean"],
    ),
    "an index under another name": (
        lambda folder: (write_bundle(folder / "m", ONE), (folder / "m.index").rename(folder / "n")),
        "n",
        UnsupportedError,
        "n",
        ["is the index of a V2 checkpoint under another name", "call it PREFIX.index"],
    ),
    "LevelDB's own table": (
        lambda folder: write_table(folder / "000005.ldb", [(b"key", b"value")]),
        "000005.ldb",
        NotACheckpointError,
        "000005.ldb",
        ["is no TensorFlow checkpoint but of no format that bncheck knows"],
    ),
    "a damaged V1 file": (
        lambda folder: write_v1(
            folder / "m", ONE, edit_stored=lambda n, raw: b"?" + raw[1:] if n == "data 0" else raw
        ),
        "m",
        DamagedError,
        "m",
        ["data block 0 fails its checksum"],
    ),
    "an empty folder": (NOTHING, "", NotFoundError, "", ["no checkpoint in this directory"]),
    "a folder of other things": (
        files({"a.npy": b"\x93NUMPY", "b.txt": b"hello", "m.meta": b"\x12\x00"}),
        "",
        NotFoundError,
        "",
        ["no checkpoint in this directory"],
    ),
    "a folder with two": (
        bundles("m-1", "m-2"),
        "",
        AmbiguousError,
        "",
        ["there are 2 checkpoints here and no state file", "Name one: ", "/m-1, ", "/m-2."],
    ),
    "a folder with seven": (
        bundles(*(f"m-{i}" for i in range(7))),
        "",
        AmbiguousError,
        "",
        ["there are 7 checkpoints here", "/m-4 and 2 more."],
    ),
    "a SavedModel and a Keras file": (
        files({"saved_model.pb": b"\x08\x01", "m.h5": b"\x89HDF\r\n\x1a\n"}),
        "",
        AmbiguousError,
        "",
        ["there are 2 checkpoints here", "/m.h5"],
    ),
    "a folder of served versions": (
        files({"1/saved_model.pb": b"\x08\x01", "2/saved_model.pb": b"\x08\x01"}),
        "",
        NotFoundError,
        "",
        ["there is no checkpoint in this directory", "in 1, 2."],
    ),
    "a stale state file beside a Keras file": (
        files({"checkpoint": b'model_checkpoint_path: "gone"', "m.h5": b"\x89HDF\r\n\x1a\n"}),
        "",
        NotFoundError,
        "",
        ["names 'gone', which is not there, and there is no checkpoint"],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(tmp_path: Path, name: str) -> None:
    write, path, kind, named, words = ERRORS[name]
    write(tmp_path)
    with pytest.raises(kind) as caught:
        locate(f"{tmp_path}/{path}" if path else str(tmp_path))
        pytest.fail("it was found")
    assert caught.value.path == (f"{tmp_path}/{named}" if named else str(tmp_path))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_empty_path() -> None:
    with pytest.raises(NotFoundError) as caught:
        locate("")
    assert str(caught.value) == "'': is an empty path. Check the path."


def test_v1_in_no_shards_is_no_empty_checkpoint(tmp_path: Path) -> None:
    """A file that says it is one of none: an error, or what it holds."""
    path = tmp_path / "m-00000-of-00000"
    write_v1(path, ONE)
    try:
        variables = open_checkpoint(str(path)).variables
    except BncheckError as error:
        assert error.path == str(path)
    else:
        assert list(variables) == ["v"]


def test_only_names_that_are_near_are_suggested(tmp_path: Path) -> None:
    """The folder's name, which all of them share, says nothing about how near they are."""
    folder = tmp_path / ("a" * 60)
    folder.mkdir()
    for name in ("model.ckpt-60", "zebra"):
        write_bundle(folder / name, ONE)
    with pytest.raises(NotFoundError) as caught:
        locate(str(folder / "model.ckpt-6"))
    assert caught.value.remedy == f"Did you mean {folder}/model.ckpt-60?"


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(NotFoundError, match="cannot be listed: Permission denied"):
        locate(str(tmp_path))


def test_an_unreadable_file_hides_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's log in the same folder is no reason not to find the checkpoint."""
    write_bundle(tmp_path / "m", ONE)
    (tmp_path / "a.log").write_bytes(b"secret")
    real_open = os.open

    def refuse(path: Any, *arguments: Any) -> int:
        if str(path).endswith(".log"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real_open(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NotFoundError, match="cannot be opened: Permission denied"):
        locate(str(tmp_path / "a.log"))
    assert locate(str(tmp_path)).prefix == str(tmp_path / "m")


def test_an_incomplete_checkpoint_counts_as_one(tmp_path: Path) -> None:
    """A folder with a whole checkpoint and the rest of another one has two to choose from."""
    write_bundle(tmp_path / "m-1", ONE)
    write_v1(tmp_path / "m-2", TWO, shards=2)
    os.remove(tmp_path / "m-2-00001-of-00002")
    with pytest.raises(AmbiguousError) as caught:
        locate(str(tmp_path))
    assert f"{tmp_path}/m-1" in str(caught.value)


@pytest.mark.parametrize(
    "text", [b"model_checkpoint_path", b"x = state.model_checkpoint_path\n", b"\xff" * 9]
)
def test_a_data_file_whose_strings_look_like_a_state_file(tmp_path: Path, text: bytes) -> None:
    """A saved source file or configuration in a string tensor is still data."""
    for name in ("m-1", "m-2"):
        write_bundle(tmp_path / name, {"s": np.array([text], object)})
    checkpoint = open_checkpoint(f"{tmp_path}/m-2.data-00000-of-00001")
    assert checkpoint.path == f"{tmp_path}/m-2"
    assert checkpoint.read(["s"]).arrays["s"].tolist() == [text]


def test_a_program_that_speaks_of_state_files_is_none(tmp_path: Path) -> None:
    """Nobody who names train.py means the checkpoint that happens to lie beside it."""
    write_bundle(tmp_path / "m", ONE)
    path = tmp_path / "train.py"
    path.write_text("saver.restore(session, state.model_checkpoint_path)\n")
    with pytest.raises(NotACheckpointError, match="is no TensorFlow checkpoint but a text file"):
        locate(str(path))
