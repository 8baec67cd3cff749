"""What can go wrong while reading: every error names the file, the place in it, and what to do."""

from __future__ import annotations

from typing import Final

COPY_AGAIN: Final = "Copy the file again, or go back to an earlier checkpoint."


class BncheckError(Exception):
    """Something that bncheck was given cannot be read; always the input's fault, never a bug.

    `path` is the file or directory, `offset` the byte in it where that is known, `remedy` what a
    person can do about it. `str(error)` holds all of them in one sentence each.
    """

    def __init__(
        self, path: str, what: str, *, offset: int | None = None, remedy: str = ""
    ) -> None:
        super().__init__(path, what, offset, remedy)
        self.path = path
        self.what = what
        self.offset = offset
        self.remedy = remedy

    def __str__(self) -> str:
        place = self.path if self.offset is None else f"{self.path} (byte {self.offset})"
        text = f"{place}: {self.what}"
        return f"{text}. {self.remedy}" if self.remedy else text

    @property
    def reason(self) -> str:
        """The sentence without the path, for a report that has named the file already."""
        place = "" if self.offset is None else f" (byte {self.offset})"
        return f"{self.what}{place}. {self.remedy}" if self.remedy else f"{self.what}{place}"


class NotFoundError(BncheckError):
    """There is nothing at the path, or a file that belongs to the checkpoint is gone."""


class NotACheckpointError(BncheckError):
    """The path holds something, but no checkpoint that bncheck reads."""


class AmbiguousError(BncheckError):
    """The path could mean several checkpoints; choosing one would be a guess."""


class DamagedError(BncheckError):
    """The file is of a known format and breaks that format's own rules."""


class ChangedError(BncheckError):
    """The file was replaced or written to while it was read: what was read belongs to no state."""


class UnsupportedError(BncheckError):
    """The file is whole, but of a form or version that this bncheck does not read."""


class ProgramError(BncheckError):
    """The program that was to build the graph did not: it raised, crashed, or took too long."""
