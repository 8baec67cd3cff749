"""What can go wrong while reading: every error names the file, the place in it, and what to do."""

from __future__ import annotations

import re
from typing import ClassVar, Final

COPY_AGAIN: Final = "Copy the file again, or go back to an earlier checkpoint."


class BncheckError(Exception):
    """Something that bncheck was given cannot be read; always the input's fault, never a bug.

    `path` is the file or directory, `offset` the byte in it where that is known, `remedy` what a
    person can do about it: where none is given, that of the class; it is empty where `what` ends
    with one. `str(error)` holds all of them in one sentence each.
    """

    usual_remedy: ClassVar[str] = ""

    def __init__(
        self, path: str, what: str, *, offset: int | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(path, what, offset, remedy)
        self.path = path
        self.what = what
        self.offset = offset
        self.remedy = self.usual_remedy if remedy is None else remedy

    def __str__(self) -> str:
        return self._with_remedy(self.problem)

    @property
    def problem(self) -> str:
        """What is wrong, without the remedy, for a sentence that goes on."""
        return f"{self.path}{self._place}: {self.what}"

    @property
    def reason(self) -> str:
        """The sentence without the path, for a report that has named the file already."""
        return self._with_remedy(f"{self.what}{self._place}")

    @property
    def _place(self) -> str:
        """The byte in parentheses, unless the sentence names it itself."""
        if self.offset is None or re.search(rf"\bbyte {self.offset}\b", self.what):
            return ""
        return f" (byte {self.offset})"

    def _with_remedy(self, sentence: str) -> str:
        return f"{sentence}. {self.remedy}" if self.remedy else sentence


class NotFoundError(BncheckError):
    """There is nothing at the path, or a file that belongs to the checkpoint is gone."""

    usual_remedy = "Check the path."


class NotACheckpointError(BncheckError):
    """The path holds something, but no checkpoint that bncheck reads."""

    usual_remedy = "Name a checkpoint's prefix, one of its files, or its directory."


class AmbiguousError(BncheckError):
    """The path could mean several checkpoints; choosing one would be a guess."""

    usual_remedy = "Name the one that you mean."


class DamagedError(BncheckError):
    """The file is of a known format and breaks that format's own rules."""

    usual_remedy = COPY_AGAIN


class ChangedError(BncheckError):
    """The file was replaced or written to while it was read: what was read belongs to no state."""

    usual_remedy = "Is something still writing it? Run again when it is finished."


class UnsupportedError(BncheckError):
    """The file is whole, but of a form or version that this bncheck does not read."""

    usual_remedy = "A newer bncheck may read it."


class ProgramError(BncheckError):
    """The program that was to build the graph did not: it raised, crashed, or took too long."""

    usual_remedy = "Mend the program, or use --no-graph to judge the checkpoint alone."
