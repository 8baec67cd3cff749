"""Paths that lead to no checkpoint, to more than one, or to something else."""

from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path
from typing import Any

from bncheck import limits
from tests.checkpoint.test_locate_errors import ERRORS, NOTHING, files
from tests.errors.case import Case, inspecting
from tests.writers import write_bundle


def _state(text: bytes, *checkpoints: str) -> Any:
    def write(folder: Path) -> None:
        (folder / "checkpoint").write_bytes(text)
        for name in checkpoints:
            write_bundle(folder / name, {"v": [1.0]})

    return write


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _large_state(folder: Path) -> None:
    with (folder / "checkpoint").open("wb") as file:
        file.truncate(limits.LARGEST_STATE_FILE + 1)


_NUMBERS = count()


def _refuse(*_: object) -> Any:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _fail(*_: object) -> Any:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


CASES = {
    **{
        f"place: {name}": Case(write, "", inspecting(path or "."))
        for name, (write, path, *_) in ERRORS.items()
    },
    "place: an empty path": Case(NOTHING, "", inspecting("")),
    "place: a link to itself": Case(_loop),
    "place: a file of another user": Case(files({"m": b"x"}), "", patches={"os.open": _refuse}),
    "place: a directory of another user": Case(
        files({"m/x": b"x"}), "", patches={"os.listdir": _refuse}
    ),
    "place: a working directory that is gone": Case(
        NOTHING, "", patches={"os.path.isdir": lambda _: False}
    ),
    "place: a disk that fails": Case(
        files({"m": b"x" * 99}),
        "",
        patches={"bncheck.checkpoint.files.RegularFile._read_some": _fail},
    ),
    "place: a file that is cut off meanwhile": Case(
        files({"m": b"x" * 99}),
        "",
        patches={"bncheck.checkpoint.files.RegularFile._read_some": lambda *_: b""},
    ),
    "place: a file that is written meanwhile": Case(
        lambda path: write_bundle(path, {"bn/moving_mean": [1.0]}),
        patches={"bncheck.checkpoint.unchanged._identity": lambda _: next(_NUMBERS)},
    ),
    "place: a FIFO": Case(os.mkfifo),
    "place: a SavedModel without variables": Case(
        files({"m/saved_model.pb": b"\x08\x01\x12\x00"}), "", inspecting("m")
    ),
    "state file: a line that is none": Case(
        _state(b'model_checkpoint_path: "m"\nnonsense'), "", inspecting(".")
    ),
    "state file: no UTF-8": Case(_state(b'model_checkpoint_path: "\xff"'), "", inspecting(".")),
    "state file: too long": Case(_large_state, "", inspecting(".")),
    "state file: stale, with two to choose from": Case(
        _state(b'model_checkpoint_path: "m"', "m-1", "m-2"), "", inspecting(".")
    ),
}
for _name, _data in {
    "an empty file": b"",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "compressed": b"\x1f\x8b\x08\x00",
    "a web page": b"<!DOCTYPE html><p>404</p>",
    "a text": b"hello\n",
}.items():
    CASES[f"other file: {_name}"] = Case(lambda path, data=_data: path.write_bytes(data))
