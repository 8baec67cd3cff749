"""A real checkpoint, cut off at every length and with every byte flipped: never a wrong value."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.varint import read_varint
from bncheck.errors import BncheckError
from tests.writers import varint

FLIPS = (0x01, 0x80, 0xFF)
BUNDLE = "tf1/names-no-scope/model.ckpt-60"
WITH_STRINGS = "tf1/dtypes/model.ckpt-60"
IN_SLICES = "tf1/partitioned/model.ckpt-60"
V1 = "tf1/state-file-v1-glob/model.ckpt-60-00000-of-00001"


def content(path: Path) -> tuple[dict[str, tuple[str, tuple[int, ...], Any]], dict[str, str]]:
    """Return what a checkpoint says, to the bit, and what of it is unread."""
    checkpoint = open_checkpoint(str(path))
    values = checkpoint.read(checkpoint.variables)
    assert set(values.arrays) | set(values.unread) == set(checkpoint.variables)
    return {
        name: (
            checkpoint.variables[name].dtype,
            array.shape,
            array.tolist() if array.dtype.kind == "O" else array.tobytes(),
        )
        for name, array in values.arrays.items()
    }, values.unread


def copy(source: Path, folder: Path) -> Path:
    """Copy a checkpoint's files, without state file and graph; return its path there."""
    for path in source.parent.glob(source.name + "*"):
        if not path.name.endswith(".meta"):
            shutil.copy(path, folder / path.name)
    return folder / source.name


def outcome(path: Path, truth: Any) -> str:
    """Read a damaged checkpoint: 'error', 'unread' or 'same'; anything else is a failure."""
    try:
        read, unread = content(path)
    except BncheckError:
        return "error"
    assert all(truth[name] == value for name, value in read.items())
    assert set(read) | set(unread) == set(truth)
    return "unread" if unread else "same"


def parts(table: bytes) -> tuple[range, range]:
    """Return where the metaindex block and the footer's unused bytes are: nobody checks those."""
    footer = len(table) - 48
    metaindex, position = read_varint(table, footer, len(table))
    _, after_metaindex = read_varint(table, position, len(table))
    index, position = read_varint(table, after_metaindex, len(table))
    _, end = read_varint(table, position, len(table))
    return range(metaindex, index), range(end, len(table) - 8)


def flip_everywhere(path: Path, file: Path, truth: Any) -> dict[str, set[int]]:
    """Flip every byte of a file in three ways; return the positions by outcome."""
    whole = file.read_bytes()
    found: dict[str, set[int]] = {"error": set(), "unread": set(), "same": set()}
    for position in range(len(whole)):
        for flip in FLIPS:
            damaged = bytearray(whole)
            damaged[position] ^= flip
            file.write_bytes(damaged)
            found[outcome(path, truth)].add(position)
    file.write_bytes(whole)
    assert outcome(path, truth) == "same"
    return found


@pytest.mark.parametrize("source", [BUNDLE, V1])
def test_cut_off_at_every_length(fixtures: Path, tmp_path: Path, source: str) -> None:
    path = copy(fixtures / source, tmp_path)
    truth, _ = content(path)
    file = path if source == V1 else Path(f"{path}.index")
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        assert outcome(path, truth) == "error", size
    file.write_bytes(whole)
    assert outcome(path, truth) == "same"


def test_data_file_cut_off_at_every_length(fixtures: Path, tmp_path: Path) -> None:
    path = copy(fixtures / BUNDLE, tmp_path)
    truth, _ = content(path)
    (file,) = tmp_path.glob("*.data-*")
    whole = file.read_bytes()
    readable = []
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        read, unread = content(path)
        assert unread
        assert all("ends at byte" in reason for reason in unread.values())
        assert all(truth[name] == value for name, value in read.items())
        readable.append(len(read))
        assert set(open_checkpoint(str(path)).damaged_files()) == {str(file)}
    assert readable == sorted(readable)
    assert readable[0] == 0
    assert readable[-1] == len(truth) - 1


def harmless(file: Path) -> set[int]:
    """Return the bytes whose flips may change nothing.

    Those that nobody checks, the metaindex's handle, and the index handle's last byte: with a
    continuation bit it goes on with a byte of padding, which is 0.
    """
    table = file.read_bytes()
    unchecked, padding = parts(table)
    footer = len(table) - 48
    handle = range(footer, footer + len(varint(unchecked.start)) + 1)
    return {*unchecked, *padding, *handle, padding.start - 1}


@pytest.mark.parametrize("source", [BUNDLE, IN_SLICES])
def test_index_with_every_byte_flipped(fixtures: Path, tmp_path: Path, source: str) -> None:
    path = copy(fixtures / source, tmp_path)
    truth, _ = content(path)
    file = Path(f"{path}.index")
    found = flip_everywhere(path, file, truth)
    assert found["unread"] == set()
    assert found["same"] <= harmless(file)
    assert found["error"] >= set(range(file.stat().st_size)) - harmless(file)
    unchecked, padding = parts(file.read_bytes())
    assert {*unchecked, *padding} <= found["same"]


@pytest.mark.parametrize("source", [BUNDLE, WITH_STRINGS, IN_SLICES])
def test_data_with_every_byte_flipped(fixtures: Path, tmp_path: Path, source: str) -> None:
    path = copy(fixtures / source, tmp_path)
    truth, _ = content(path)
    (file,) = tmp_path.glob("*.data-*")
    found = flip_everywhere(path, file, truth)
    assert found["unread"] == set(range(file.stat().st_size))
    assert found["same"] == found["error"] == set()


def test_v1_with_every_byte_flipped(fixtures: Path, tmp_path: Path) -> None:
    path = copy(fixtures / V1, tmp_path)
    truth, _ = content(path)
    found = flip_everywhere(path, path, truth)
    assert found["same"] <= harmless(path)
    assert found["error"] | found["unread"] >= set(range(path.stat().st_size)) - harmless(path)
