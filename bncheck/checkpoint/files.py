"""Bounded reads of regular files: no read goes past the end, no read waits on a device."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from bncheck.errors import DamagedError, NotACheckpointError, NotFoundError

if TYPE_CHECKING:
    from types import TracebackType

_GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class RegularFile:
    """One open file of known size, read at offsets.

    Raises NotFoundError where it is absent or may not be opened, NotACheckpointError where it is a
    directory, a FIFO or a device: opening those can block or never end.
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
            raise NotFoundError(path, f"cannot be opened: {reason}") from None
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):  # it was replaced meanwhile
            os.close(self._descriptor)
            raise NotACheckpointError(path, "is not a regular file")
        self.size = status.st_size

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
                remedy=self.lfs_remedy() or "The copy is incomplete: copy the file again.",
            )
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        chunks: list[bytes] = []
        missing = size
        while missing:
            # One read call returns at most about 2 GiB on Linux, whatever was asked for.
            try:
                chunk = os.read(self._descriptor, min(missing, 1 << 30))
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

    def lfs_remedy(self) -> str:
        """Return what to do if the file is a Git LFS pointer; empty if it is none."""
        if self.size < 1024 and self.head(len(_GIT_LFS_POINTER)) == _GIT_LFS_POINTER:
            return "It is a Git LFS pointer, not the data: run 'git lfs pull'."
        return ""

    def head(self, size: int) -> bytes:
        """Return the first `size` bytes, or the whole file where it is shorter."""
        return self.read(0, min(size, self.size), "the start of the file")
