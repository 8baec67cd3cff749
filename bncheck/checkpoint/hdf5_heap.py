"""What the HDF5 library reads, checked on its way: the heap that holds strings of any length.

The library walks through each collection of the global heap by the sizes in it, and a size of 0
keeps it there for ever (H5HGcache.c). Everything that it reads goes through this stream, so that a
collection is checked when it is asked for, and nothing is read that would not have been read
anyway. The format is in the HDF5 File Format Specification, III.E.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bncheck.checkpoint.window import ReadOnlyStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO

    from bncheck.errors import BncheckError

_SIGNATURE: Final = b"GCOL"
_VERSION: Final = 1
_HEADER: Final = 16  # bytes, of a collection and of an object in it
_SMALLEST: Final = 4096  # bytes of a collection
_CHUNK: Final = 1 << 17  # bytes, which stay in the processor's cache while they are searched


class HeapGuard(ReadOnlyStream):
    """A stream that refuses to hand out a heap collection through which nobody can walk.

    `damaged` makes the error that is raised then, of a byte. `longest` is the size of the longest
    object seen.
    """

    def __init__(self, stream: BinaryIO, damaged: Callable[[str, int], BncheckError]) -> None:
        super().__init__(stream.seek(0, os.SEEK_END))
        self._stream = stream
        self._damaged = damaged
        self._left = self._size  # collections share no byte, so that no file holds more than this
        self._checked: set[int] = set()
        self._most = self._size
        self.longest = 0

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and return how many bytes there were for it."""
        done = 0
        while done < len(buffer):
            # The library reads in pieces, and a signature may begin in the one before.
            before = min(len(_SIGNATURE) - 1, self._position)
            data = self.at(self._position - before, before + min(_CHUNK, len(buffer) - done))
            if len(data) <= before:
                break
            found = data.find(_SIGNATURE)
            while found >= 0:
                self._check(self._position - before + found)
                found = data.find(_SIGNATURE, found + 1)
            count = len(data) - before
            buffer[done : done + count] = data[before:] if before else data
            done += count
            self._position += count
        return done

    @contextmanager
    def at_most(self, size: int) -> Iterator[None]:
        """Refuse collections with an object of more bytes than that meanwhile."""
        self._most, before = size, self._most
        try:
            yield
        finally:
            self._most = before

    def at(self, offset: int, size: int) -> bytes:
        """Return the bytes at a place, fewer where the file ends."""
        self._stream.seek(offset)
        return self._stream.read(size)

    def _check(self, start: int) -> None:
        """Walk through a collection as the library does, by steps that lead on and stay inside."""
        header = self.at(start, _HEADER)
        size = int.from_bytes(header[8:], "little")
        if len(header) < _HEADER or header[4] != _VERSION:
            return  # which the library says itself
        if not _SMALLEST <= size <= self._size - start:
            return  # so, too; and values may look like a signature by chance
        if start in self._checked:
            return
        self._checked.add(start)
        self._left -= size
        if self._left < 0:
            raise self._damaged("the collections of its heap overlap", start)
        for place, length, step in self._objects(start + _HEADER, start + size):
            if not 0 < step <= start + size - place:
                raise self._damaged(
                    f"its heap holds an object of {length} bytes, which leads nowhere", place
                )
            if length > self._most:
                raise self._damaged(
                    f"declares strings of {length} bytes in a long list of them", place
                )
            self.longest = max(self.longest, length)

    def _objects(self, place: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield the place of each object, its length, and the bytes to the next one."""
        data, start = b"", place
        while end - place >= _HEADER:
            if place + _HEADER > start + len(data):
                data, start = self.at(place, min(_CHUNK, end - place)), place
            at = place - start
            index = int.from_bytes(data[at : at + 2], "little")
            length = int.from_bytes(data[at + 8 : at + 16], "little")
            # Object 0 is the free space, whose length includes its header.
            step = _HEADER + (length + 7) // 8 * 8 if index else length
            yield place, length if index else 0, step
            place += step
