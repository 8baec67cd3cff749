"""Files that change while they are read: shrunk, emptied or replaced at any of the reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bncheck.audit import Options, inspect
from bncheck.errors import BncheckError
from bncheck.report.model import Report
from tests.commands import FIXTURES

SOURCES = {
    "V2": ("tf1/healthy", "model.ckpt-60.data-00000-of-00001"),
    "V2 index": ("tf1/healthy", "model.ckpt-60.index"),
    "graph": ("tf1/healthy", "model.ckpt-60.meta"),
    "state file": ("tf1/healthy", "checkpoint"),
    "V1": ("tf1/state-file-v1-glob", "model.ckpt-60-00000-of-00001"),
    "archive": ("keras3/trained/model.keras", "model.keras"),
    "older Keras": ("keras3/trained/model.h5", "model.h5"),
    "weights": ("keras3/trained/model.weights.h5", "model.weights.h5"),
}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def remove(path: Path) -> None:
    path.unlink()


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


Change = Callable[[Path], None]
CHANGES = (cut, empty, remove, become_a_pipe, become_a_directory, become_zeros)


def copied(source: str, name: str, folder: Path) -> tuple[Path, Path]:
    """Copy a checkpoint; return what is given, and the file that will change."""
    if (FIXTURES / source).is_dir():
        shutil.copytree(FIXTURES / source, folder / "m")
        return folder / "m", folder / "m" / name
    shutil.copy(FIXTURES / source, folder / name)
    return folder / name, folder / name


def outcome(path: Path) -> Report | BncheckError:
    try:
        return inspect(path, Options())
    except BncheckError as error:
        return error


def numbers(report: Report) -> list[object]:
    """Return every layer with the numbers that were judged."""
    return [
        (layer.name, layer.status, [(m.name, str(m.summary)) for m in layer.members.values()])
        for layer in report.layers
    ]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", SOURCES)
def test_a_file_that_changes_at_each_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: Change
) -> None:
    """Whatever was read before, the answer is an error of bncheck's, or the truth."""
    (tmp_path / "whole").mkdir()
    path, _ = copied(*SOURCES[name], tmp_path / "whole")
    read = os.pread
    reads: list[int] = []
    monkeypatch.setattr(os, "pread", lambda *given: reads.append(1) or read(*given))
    truth = outcome(path)
    assert isinstance(truth, Report)
    told = 0
    # Evenly spread, the first and the last among them: HDF5 files are read hundreds of times.
    steps = sorted({round(step * (len(reads) - 1) / 19) for step in range(20)})
    for number, step in enumerate(steps):
        (tmp_path / str(number)).mkdir()
        path, file = copied(*SOURCES[name], tmp_path / str(number))
        left = [step]

        def changing(*given: int, left: list[int] = left, file: Path = file) -> bytes:
            left[0] -= 1
            if left[0] == -1:
                change(file)
            return read(*given)

        monkeypatch.setattr(os, "pread", changing)
        found = outcome(path)
        monkeypatch.setattr(os, "pread", read)
        if isinstance(found, Report) and found.verdict == "pass":
            assert numbers(found) == numbers(truth)
        else:
            told += 1
    # Without its graph or its state file, a checkpoint is still the only one there.
    assert told or name in ("graph", "state file")


@pytest.mark.parametrize("name", ["V2", "V1", "weights"])
def test_a_file_that_becomes_shorter_names_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A file is opened at its full size, and at the first read of it nothing is left."""
    path, file = copied(*SOURCES[name], tmp_path)
    open_file = os.open

    def opening(given: str, *flags: int) -> int:
        descriptor = open_file(given, *flags)
        if os.path.basename(given) == file.name:
            os.truncate(file, 1)
        return descriptor

    fstat = os.fstat
    size = file.stat().st_size

    def status(descriptor: int) -> os.stat_result:
        found = fstat(descriptor)
        return os.stat_result((*found[:6], size, *found[7:])) if found.st_size == 1 else found

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "fstat", status)
    found = outcome(path)
    if isinstance(found, Report):
        assert found.verdict == "not-audited"
        said = " ".join(f"{each.what} {each.reason}" for each in found.skipped)
    else:
        said = str(found)
    assert file.name in said
    # The second is said while nobody knows yet whether it is a checkpoint.
    assert "changed while it was read" in said or "became shorter while it was read" in said
