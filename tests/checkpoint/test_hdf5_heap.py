"""The heap of strings: what would keep the HDF5 library for ever, and what only looks like it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bncheck import limits
from bncheck.checkpoint.hdf5 import Hdf5File
from bncheck.checkpoint.hdf5_heap import HeapGuard
from bncheck.errors import DamagedError, UnsupportedError

SIGNATURE = b"GCOL"
FIRST = 16  # the first object of a collection, behind its header
TEXT = "a string of variable length"


def with_text(**options: Any) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w", **options) as file:
        file.attrs["a"] = TEXT
    return stream.getvalue()


def changed(data: bytes, offset: int, value: bytes) -> bytes:
    """Change bytes of the collection, `offset` counted from its start."""
    assert data.count(SIGNATURE) == 1
    at = data.index(SIGNATURE) + offset
    return data[:at] + value + data[at + len(value) :]


def text(data: bytes) -> str | None:
    with Hdf5File("archive", io.BytesIO(data), "member.h5") as file:
        return file.text("", "a")


FREE_SPACE = FIRST + 16 + 32  # behind the header of the string, and its 27 bytes


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (FREE_SPACE + 8, bytes(8)),  # object 0, of no bytes: the library stays there
        (FREE_SPACE + 8, b"\xff" * 8),
        (FREE_SPACE + 8, (1 << 13).to_bytes(8, "little")),
        (FIRST + 8, (2**64 - 16).to_bytes(8, "little")),  # a step of 0 in 64 bits
        (FIRST + 8, (2**64 - 48).to_bytes(8, "little")),  # a step back
    ],
)
def test_a_collection_that_leads_nowhere_is_damaged(offset: int, value: bytes) -> None:
    data = with_text()
    with pytest.raises(DamagedError, match=r"member\.h5: its heap holds an object of") as caught:
        text(changed(data, offset, value))
    assert caught.value.offset == data.index(SIGNATURE) + offset - 8


@pytest.mark.parametrize("size", [0, 4088, 1 << 40, 2**64 - 1])
def test_a_collection_of_another_size_is_damaged(size: int) -> None:
    with pytest.raises(DamagedError, match="the attribute 'a' of '' cannot be read"):
        text(changed(with_text(), 8, size.to_bytes(8, "little")))


def test_an_honest_file_is_read(tmp_path: Path) -> None:
    assert text(with_text()) == TEXT
    assert text(with_text(libver="latest")) == TEXT
    assert text(with_text(userblock_size=512)) == TEXT
    path = tmp_path / "f.h5"
    path.write_bytes(with_text())
    with Hdf5File(str(path)) as file:
        assert file.text("", "a") == TEXT


def test_values_that_look_like_a_collection_are_values() -> None:
    stream = io.BytesIO()
    values = np.frombuffer(SIGNATURE + b"\1\0\0\0" + b"\xff" * 8, np.float32)
    with h5py.File(stream, "w") as file:
        file["x"] = values
    with Hdf5File("archive", stream, "member.h5") as file:
        assert file.read(file.variables["x"]).tobytes() == values.tobytes()


def guard(data: bytes) -> HeapGuard:
    return HeapGuard(
        io.BytesIO(data), lambda what, offset: DamagedError("file", what, offset=offset)
    )


def collection(size: int = 4096) -> bytes:
    free = bytes(8) + (size - 16).to_bytes(8, "little")
    return (SIGNATURE + b"\1\0\0\0" + size.to_bytes(8, "little") + free).ljust(size, b"\0")


@pytest.mark.parametrize("piece", [1, 2, 3, 4, 7, 5000])
def test_a_signature_may_be_read_in_pieces(piece: int) -> None:
    data = b"x" * 5 + collection()[:24] + bytes(4096)
    stream = guard(data)
    with pytest.raises(DamagedError, match=r"\(byte 21\): its heap holds an object of 0 bytes"):
        while stream.readinto(bytearray(piece)):
            pass


def test_what_is_read_is_what_is_there() -> None:
    data = np.random.default_rng(0).bytes(300_000)
    stream = guard(data)
    stream.seek(3)
    buffer = bytearray(290_000)
    assert stream.readinto(buffer) == len(buffer)
    assert bytes(buffer) == data[3:290_003]
    assert stream.tell() == 290_003
    assert stream.readinto(bytearray(20_000)) == 9_997


def test_collections_share_no_byte() -> None:
    """Each would be walked through: a file of such beginnings alone costs its size squared."""
    one = SIGNATURE + b"\1\0\0\0" + (4096).to_bytes(8, "little")
    one += b"\1" + bytes(7) + (4096 - 32).to_bytes(8, "little")
    data = one * 1000
    with pytest.raises(DamagedError, match="the collections of its heap overlap"):
        guard(data).readinto(bytearray(len(data)))


def test_lengths_in_other_numbers_are_refused() -> None:
    plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    plist.set_sizes(8, 4)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    opened = h5py.h5f.create(b"memory", fcpl=plist, fapl=access)
    h5py.h5g.create(opened, b"g")
    h5py.h5f.flush(opened)
    with pytest.raises(UnsupportedError, match="counts bytes in numbers of 4 bytes"):
        Hdf5File("archive", io.BytesIO(opened.get_file_image()), "member.h5")


def long_list(count: int, longest: int, name: str = "a") -> bytes:
    """Return a file with a list whose strings all are the first one, which is long."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        strings = ["A" * longest, *(f"{index:06d}" for index in range(count - 1))]
        file.attrs.create(name, np.array(strings, object), dtype=h5py.string_dtype())
        file.attrs["config"] = "B" * longest
    data = bytearray(stream.getvalue())
    length = longest.to_bytes(4, "little")
    at = data.find(length)
    while data[int.from_bytes(data[at + 4 : at + 12], "little") :][:4] != SIGNATURE:
        at = data.find(length, at + 1)
    for index in range(1, count):
        data[at + 16 * index : at + 16 * index + 16] = data[at : at + 16]
    return bytes(data)


def test_a_list_that_names_one_long_string_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = long_list(50, 100_000)
    with Hdf5File("archive", io.BytesIO(data), "member.h5") as file:
        assert len(file.strings("", "a") or ()) == 50
    monkeypatch.setattr(limits, "LONGEST_STRINGS", 1 << 20)
    with (
        Hdf5File("archive", io.BytesIO(data), "member.h5") as file,
        pytest.raises(DamagedError, match="strings of 100000 bytes in a long list"),
    ):
        file.strings("", "a")


def test_a_long_text_beside_a_list_is_not_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LONGEST_STRINGS", 1 << 20)
    stream = io.BytesIO()
    names = [f"layer_{index}" for index in range(50)]
    with h5py.File(stream, "w") as file:
        file.attrs["config"] = "B" * 100_000
        file.attrs.create("a", np.array(names, object), dtype=h5py.string_dtype())
    with Hdf5File("archive", stream, "member.h5") as file:
        assert len(file.text("", "config") or "") == 100_000
        assert file.strings("", "a") == names
