"""Bounded reads of regular files: no read goes past the end, no read waits on a device."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from bncheck.checkpoint.unchanged import see
from bncheck.errors import ChangedError, DamagedError, NotACheckpointError, NotFoundError

if TYPE_CHECKING:
    from types import TracebackType

# Several threads may read one file where no read moves its position.
READS_IN_PARALLEL: Final = hasattr(os, "pread")
LET_READ: Final = "Let the user who runs bncheck read it."
_GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class RegularFile:
    """One open file of known size, read at offsets.

    Raises NotFoundError where it is absent or may not be opened, NotACheckpointError where it is a
    directory, a FIFO or a device: opening those can block or never end. Within `unchanged`,
    ChangedError where it is another one than before.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            # Opening can already do something: it wakes who waits to write to a FIFO, and rewinds
            # a tape.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise NotACheckpointError(path, "is not a regular file")
            self._descriptor = os.open(path, flags)
        except FileNotFoundError:
            raise NotFoundError(path, "no such file") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise NotFoundError(
                path,
                f"cannot be opened: {reason}",
                remedy=LET_READ if isinstance(error, PermissionError) else None,
            ) from None
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):  # it was replaced meanwhile
            os.close(self._descriptor)
            raise NotACheckpointError(path, "is not a regular file")
        self.size = status.st_size
        try:
            see(path, status)
        except ChangedError:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> RegularFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, offset: int, size: int, what: str) -> bytes:
        """Return exactly `size` bytes from byte `offset`; `what` names them in the error.

        Raises DamagedError where the file holds fewer, before anything is allocated.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            raise DamagedError(
                self.path,
                f"ends at byte {self.size}, but {what} should be at {offset} to {offset + size}",
                offset=self.size,
                remedy=self.lfs_remedy() or "The copy is incomplete: copy the file again.",
            )
        if self._descriptor < 0:
            raise ValueError(f"{self.path} is closed")
        chunks: list[bytes] = []
        missing = size
        while missing:
            try:
                chunk = self._read_some(offset + size - missing, missing)
            except OSError as error:
                raise DamagedError(
                    self.path,
                    f"{what} cannot be read: {error.strerror}",
                    offset=offset + size - missing,
                ) from None
            if not chunk:
                raise DamagedError(
                    self.path,
                    f"{what}: the file became shorter while it was read",
                    offset=offset + size - missing,
                    remedy="Is something still writing it? Run again when it is finished.",
                )
            chunks.append(chunk)
            missing -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _read_some(self, offset: int, size: int) -> bytes:
        # One call returns at most about 2 GiB on Linux, whatever was asked for.
        size = min(size, 1 << 30)
        if READS_IN_PARALLEL:
            return os.pread(self._descriptor, size, offset)
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        return os.read(self._descriptor, size)

    def stored_from(self, offset: int) -> tuple[int, int]:
        """Return where the next bytes start and end that are no hole of a sparse file.

        Both are the file's size where there are none. A file system that knows no holes has none.
        """
        if offset >= self.size:
            return self.size, self.size
        if not hasattr(os, "SEEK_DATA"):
            return offset, self.size
        try:
            start = os.lseek(self._descriptor, offset, os.SEEK_DATA)
            return start, os.lseek(self._descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            # ENXIO: there is no data behind the offset.
            return (self.size, self.size) if error.errno == errno.ENXIO else (offset, self.size)

    def lfs_remedy(self) -> str:
        """Return what to do if the file is a Git LFS pointer; empty if it is none."""
        if self.size < 1024 and self.head(len(_GIT_LFS_POINTER)) == _GIT_LFS_POINTER:
            return "It is a Git LFS pointer, not the data: run 'git lfs pull'."
        return ""

    def head(self, size: int) -> bytes:
        """Return the first `size` bytes, or the whole file where it is shorter."""
        return self.read(0, min(size, self.size), "the start of the file")
