"""What can go wrong with an HDF5 file, in sentences that name it and the part of it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bncheck.errors import DamagedError, NotACheckpointError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_COPY_AGAIN: Final = "Copy the file again, or save the model once more."
# HDF5's own sentence stands in the parentheses: "Unable to synchronously open file (truncated ...)"
_REASON: Final = re.compile(r"(?s).*?\((.*)\)")


class Hdf5Errors:
    """The errors of one file; `member` is the part of it that they speak of, if any.

    Their offsets count from the start of the HDF5 data, which is byte `start` of the file; it is
    None where the data are packed, so that no byte of the file can be named.
    """

    def __init__(self, path: str, member: str, start: int | None = 0) -> None:
        self.path = path
        self._member = member
        self._start = start

    @contextmanager
    def _errors(self, what: str, offset: int | None = None) -> Iterator[None]:
        """Tell what h5py raises as DamagedError; no line of bncheck's own belongs inside."""
        try:
            yield
        # h5py turns the library's errors into all of these, and a UnicodeError is a ValueError.
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError) as error:
            text = str(error.args[0]) if error.args else type(error).__name__
            match = _REASON.match(text)
            raise self.damaged(f"{what}: {match[1] if match else text}", offset) from None

    def damaged(self, what: str, offset: int | None = None) -> DamagedError:
        """Return the error that something in this file breaks the rules."""
        return DamagedError(
            self.path, self._told(what), offset=self._byte(offset), remedy=_COPY_AGAIN
        )

    def unsupported(self, what: str, offset: int | None = None) -> UnsupportedError:
        """Return the error that something in this file is of a kind that Keras does not write."""
        return UnsupportedError(
            self.path,
            self._told(what),
            offset=self._byte(offset),
            remedy="Keras writes no such files: where is it from?",
        )

    def not_keras(self) -> NotACheckpointError:
        """Return the error that this file is another program's."""
        return NotACheckpointError(
            self.path,
            self._told("is an HDF5 file, and none of Keras' weights"),
            remedy="Its groups are those of another program.",
        )

    def _byte(self, offset: int | None) -> int | None:
        return None if offset is None or self._start is None else self._start + offset

    def _told(self, what: str) -> str:
        return f"{self._member}: {what}" if self._member else what
