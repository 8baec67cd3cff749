"""The lengths that an attribute's strings claim, read from headers that h5py wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bncheck.checkpoint.hdf5 import Hdf5File
from bncheck.checkpoint.hdf5_errors import Hdf5Errors
from bncheck.checkpoint.hdf5_strings import Headers
from bncheck.errors import DamagedError, UnsupportedError

NAMES = ["", "a", "conv/kernel:0", "ü" * 300]
ERRORS = Hdf5Errors("f.h5", "")
STRINGS = h5py.string_dtype()


def write(path: Path, before: int = 0, **options: Any) -> bytes:
    """Write a group with so many attributes before the one that counts; return the file."""
    with h5py.File(path, "w", **options) as file:
        group = file.create_group("g")
        for number in range(before):
            group.attrs[f"other{number}"] = "x" * 40
        group.attrs.create("names", NAMES, dtype=STRINGS)
        group.attrs["after"] = "y"
        file["v"] = np.zeros(3, np.float32)
    return path.read_bytes()


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("track_order", [False, True])
def test_lengths_are_those_that_were_written(
    tmp_path: Path, libver: str, before: int, userblock: int, track_order: bool
) -> None:
    path = tmp_path / "f.h5"
    options = {"libver": libver, "userblock_size": userblock, "track_order": track_order}
    content = write(path, before, **options)
    with h5py.File(path) as file:
        address = h5py.h5o.get_info(file["g"].id).addr
    headers = Headers(ERRORS, lambda at, size: content[at : at + size], userblock, len(content))
    assert headers.lengths(address, b"names", 4) == [len(each.encode()) for each in NAMES]
    assert headers.lengths(address, b"after", 1) == [1]
    assert headers.lengths(address, b"after", 2) is None
    assert headers.lengths(address, b"name", 1) is None
    with Hdf5File(str(path)) as file:
        assert file.strings("g", "names") == NAMES


def claim(content: bytes, length: int) -> bytes:
    """Let the third string claim another length, behind that of the second in its heap."""
    at = content.index(len(NAMES[2]).to_bytes(4, "little"), content.index(b"names\0"))
    return content[:at] + length.to_bytes(4, "little") + content[at + 4 :]


@pytest.mark.parametrize("length", [0xFFFFFFFF, 1 << 30, 1 << 20])
def test_a_string_longer_than_the_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "f.h5"
    path.write_bytes(claim(write(path), length))
    with Hdf5File(str(path)) as file, pytest.raises(DamagedError) as caught:
        file.strings("g", "names")
    assert caught.value.what == f"the attribute 'names' of 'g' declares a string of {length} bytes"


def test_a_wrong_length_within_the_file_is_the_librarys_to_refuse(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    path.write_bytes(claim(write(path), 100))
    with Hdf5File(str(path)) as file, pytest.raises(DamagedError, match="cannot be read"):
        file.strings("g", "names")


def test_attributes_in_a_heap_of_their_own_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write(path, before=20, libver="latest")
    with Hdf5File(str(path)) as file, pytest.raises(UnsupportedError, match="not stored beside it"):
        file.strings("g", "names")


def test_a_header_that_leads_in_a_circle_ends() -> None:
    # Version 1 with one message: its continuation is itself.
    message = (16).to_bytes(2, "little") + (16).to_bytes(2, "little") + bytes(4)
    message += (16).to_bytes(8, "little") + (24).to_bytes(8, "little")
    content = b"\1\0\1\0" + (1).to_bytes(4, "little") + (24).to_bytes(8, "little") + message
    reads: list[int] = []

    def read(at: int, size: int) -> bytes:
        reads.append(at)
        return content[at : at + size]

    assert Headers(ERRORS, read, 0, len(content)).lengths(0, b"names", 1) is None
    assert len(reads) < 10
