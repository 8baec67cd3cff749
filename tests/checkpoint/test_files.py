"""Bounded reads, and how little is read: a few values cost a few bytes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bncheck.checkpoint import files, open_checkpoint
from bncheck.checkpoint.files import RegularFile
from bncheck.errors import BncheckError, DamagedError, NotACheckpointError, NotFoundError
from tests.conftest import ROOT
from tests.writers import write_bundle, write_v1

LITTLE = 100_000
BIG = bytes(64 << 20)  # as a string, which both writers write at once


@pytest.mark.parametrize("at_once", [True, False], ids=["pread", "lseek and read"])
def test_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, at_once: bool) -> None:
    monkeypatch.setattr(files, "READS_IN_PARALLEL", at_once)
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with RegularFile(str(path)) as file:
        assert file.size == 10
        assert file.read(2, 3, "it") == b"234"
        assert file.read(10, 0, "it") == b""
        assert file.read(0, 10, "it") == b"0123456789"
        assert file.head(4) == b"0123"
        assert file.head(99) == b"0123456789"
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(0, 1, "it")


@pytest.mark.parametrize(
    "offset, size", [(0, 11), (10, 1), (-1, 2), (3, -1), (2**64, 1), (0, 2**64)]
)
def test_no_read_goes_past_the_end(tmp_path: Path, offset: int, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with RegularFile(str(path)) as file, pytest.raises(DamagedError) as caught:
        file.read(offset, size, "the treasure")
    assert str(caught.value) == (
        f"{path}: ends at byte 10, but the treasure should be at {offset} to {offset + size}. "
        "The copy is incomplete: copy the file again."
    )


def test_a_pointer_of_git_lfs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with RegularFile(str(path)) as file, pytest.raises(DamagedError, match="run 'git lfs pull'"):
        file.read(0, 99, "it")


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    with RegularFile(str(path)) as file:
        os.truncate(path, 30)
        with pytest.raises(DamagedError) as caught:
            file.read(20, 50, "the treasure")
    assert caught.value.offset == 30
    assert "the treasure: the file became shorter while it was read" in str(caught.value)
    assert "Is something still writing it?" in str(caught.value)


def test_reads_that_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read call returns at most about 2 GiB, and less wherever it likes to."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, at: read(file, min(size, 7), at))
    with RegularFile(str(path)) as file:
        assert file.read(3, 50, "it") == bytes(range(3, 53))


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network drives do this: the file opens, and reading it is an error of the system's."""
    write_bundle(tmp_path / "b", {"a": np.ones(2)})

    def fail(*_: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(BncheckError, match="Input/output error"):
        open_checkpoint(str(tmp_path / "b"))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        RegularFile(str(tmp_path / "nothing"))
    (tmp_path / "link").symlink_to("nothing")
    with pytest.raises(NotFoundError, match="no such file"):
        RegularFile(str(tmp_path / "link"))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(NotFoundError, match="cannot be opened: Too many levels of symbolic links"):
        RegularFile(str(tmp_path / "loop"))
    with pytest.raises(NotFoundError, match=r"cannot be opened: .*embedded null"):
        RegularFile(str(tmp_path / "a\0b"))
    with pytest.raises(NotFoundError, match="cannot be opened: File name too long"):
        RegularFile(str(tmp_path / ("x" * 300)))


def test_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = tmp_path / "file"
    path.write_bytes(b"x")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NotFoundError, match="cannot be opened: Permission denied"):
        RegularFile(str(path))


@pytest.mark.parametrize("kind", ["directory", "fifo", "device"])
@pytest.mark.parametrize("late", [False, True])
def test_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, late: bool) -> None:
    """It is not opened, unless it comes into a file's place between the look and the opening."""
    path = {"directory": tmp_path, "fifo": tmp_path / "fifo", "device": Path("/dev/zero")}[kind]
    if kind == "fifo":
        os.mkfifo(path)
    opened = []
    open_file = os.open
    monkeypatch.setattr(os, "open", lambda *given: opened.append(given) or open_file(*given))
    if late:
        seen = os.stat(__file__)
        monkeypatch.setattr(os, "stat", lambda _: seen)
    with pytest.raises(NotACheckpointError, match="is not a regular file"):
        RegularFile(str(path))
    assert bool(opened) == late


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", {f"t{i}": np.ones(2) for i in range(9)}, shards=9)
    write_v1(tmp_path / "v1", {f"t{i}": np.ones(2) for i in range(9)}, shards=3)
    before = len(os.listdir("/proc/self/fd"))
    for name in ("b", "v1"):
        checkpoint = open_checkpoint(str(tmp_path / name))
        assert len(checkpoint.read(checkpoint.variables).arrays) == 9
        checkpoint.damaged_files()
        with pytest.raises(NotACheckpointError):
            RegularFile(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all reads that follow."""
    sizes: list[int] = []
    read = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        data = read(descriptor, size, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    return sizes


@pytest.mark.parametrize("write", [write_bundle, write_v1])
def test_two_small_variables_beside_a_big_one(
    tmp_path: Path, bytes_read: list[int], write: object
) -> None:
    tensors = {
        "a": np.ones(8, np.float32),
        "big": np.array([BIG], object),
        "z": np.full(8, 2, np.float32),
    }
    assert callable(write)
    written = write(tmp_path / "m", tensors)
    assert sum(file.stat().st_size for file in written) > len(BIG)
    checkpoint = open_checkpoint(str(tmp_path / "m"))
    values = checkpoint.read(["a", "z"])
    assert values.arrays["a"].tolist() == [1] * 8
    assert values.arrays["z"].tolist() == [2] * 8
    assert 0 < sum(bytes_read) < LITTLE
    checkpoint.damaged_files()
    assert sum(bytes_read) < LITTLE


def test_a_v1_file_of_8_mb_is_not_read_to_see_whether_it_is_a_state_file(
    tmp_path: Path, bytes_read: list[int]
) -> None:
    """Below the largest size of a state file, too, its last bytes tell that it is a table."""
    write_v1(
        tmp_path / "m", {"a": np.ones(8, np.float32), "big": np.array([BIG[: 8 << 20]], object)}
    )
    open_checkpoint(str(tmp_path / "m"))
    assert 0 < sum(bytes_read) < LITTLE


def test_reading_needs_no_tensorflow() -> None:
    code = "import bncheck.checkpoint, bncheck.checkpoint.bundle, bncheck.checkpoint.tensor_slices,"
    code += "bncheck.graph, sys; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
