"""Streams for libraries that want one: read-only, seekable, and of a known size."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING

from bncheck.errors import DamagedError

if TYPE_CHECKING:
    from typing import Any

    from bncheck.checkpoint.files import RegularFile


class ReadOnlyStream(io.RawIOBase):
    """A stream that knows its size and its position; how it is read is a subclass' own."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return True, as io.RawIOBase asks for."""
        return True

    def seekable(self) -> bool:
        """Return True, as io.RawIOBase asks for."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, which may be past the end, and return it.

        Raises OSError before the start, as a file does: zipfile looks there for what may be absent.
        """
        position = offset + (0, self._position, self._size)[whence]
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position


class Window(ReadOnlyStream):
    """The `size` bytes of a file from `start` on.

    Raises DamagedError where more than `longest` bytes are asked for at once.
    """

    def __init__(
        self, file: RegularFile, start: int, size: int, longest: int | None = None
    ) -> None:
        super().__init__(size)
        self._file = file
        self.start = start
        self._longest = longest

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; by way of `readinto`, they would be copied once more."""
        left = max(0, self._size - self._position)
        count = left if size < 0 else min(size, left)
        if self._longest is not None and count > self._longest:
            raise DamagedError(
                self._file.path,
                f"has a directory of {count} bytes",
                offset=self.start + self._position,
            )
        data = self._file.read(self.start + self._position, count, "a part of it")
        self._position += count
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and return how many bytes there were for it."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
