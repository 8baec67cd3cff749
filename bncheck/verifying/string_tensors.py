"""String tensors of a V2 checkpoint, checked as they stream by: see checkpoint/strings.py."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import google_crc32c

from bncheck.checkpoint.checksums import mask
from bncheck.checkpoint.varint import read_varint
from bncheck.errors import COPY_AGAIN, DamagedError

if TYPE_CHECKING:
    from bncheck.checkpoint.files import RegularFile
    from bncheck.verifying.spans import Span

_CHUNK: Final = 1 << 20  # bytes
_LONGEST_VARINT: Final = 10


def check_strings(file: RegularFile, span: Span, count: int, crc: int, *, big_endian: bool) -> None:
    """Check the lengths, their checksum, and the checksum of a tensor of `count` strings.

    Raises DamagedError, at the tensor's place, where any of them is wrong.
    """
    if not span.size:
        return  # old writers stored nothing at all for an empty tensor
    try:
        _check(_Stream(file, span), count, crc, ">" if big_endian else "<")
    except ValueError as error:
        raise DamagedError(file.path, str(error), offset=span.start, remedy=COPY_AGAIN) from None


def _check(stream: _Stream, count: int, crc: int, order: str) -> None:
    if count > stream.left:
        raise ValueError(f"{stream.left} bytes cannot hold {count} strings")
    total = running = 0
    for _ in range(count):
        length = stream.varint()
        total += length
        packed = struct.pack(order + ("I" if length < 1 << 32 else "Q"), length)
        running = google_crc32c.extend(running, packed)
    stored = stream.take(4)
    if len(stored) < 4 or struct.unpack(order + "I", stored)[0] != mask(running):
        raise ValueError("the lengths of its strings fail their checksum")
    if stream.left != total:
        raise ValueError("its strings are longer or shorter than their lengths say")
    running = google_crc32c.extend(running, stored)
    while chunk := stream.take(_CHUNK):
        running = google_crc32c.extend(running, chunk)
    if running != crc:
        raise ValueError("it fails its checksum")


class _Stream:
    """The bytes of a span, one after the other."""

    def __init__(self, file: RegularFile, span: Span) -> None:
        self._file = file
        self._next = span.start
        self._end = span.end
        self._data = b""
        self._at = 0

    @property
    def left(self) -> int:
        """The number of bytes that were not taken yet."""
        return self._end - self._next + len(self._data) - self._at

    def varint(self) -> int:
        """Take a varint; ValueError where there is none."""
        self._fill(_LONGEST_VARINT)
        value, self._at = read_varint(self._data, self._at, len(self._data))
        return value

    def take(self, size: int) -> bytes:
        """Take up to that many bytes."""
        self._fill(size)
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def _fill(self, size: int) -> None:
        if len(self._data) - self._at >= size or self._next == self._end:
            return
        more = min(max(size, _CHUNK), self._end - self._next)
        self._data = self._data[self._at :] + self._file.read(self._next, more, "a tensor")
        self._next += more
        self._at = 0
