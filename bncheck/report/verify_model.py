"""What `bncheck verify` finds: files, how much of each was checked, and what is wrong with them."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from bncheck.report.model import Verdict


class Weight(IntEnum):
    """How bad it is: a remark, something that should not be so, or bytes that are not as stored."""

    NOTE = 1
    SUSPECT = 2
    DAMAGED = 3

    def __str__(self) -> str:
        return self.name.lower()


class Problem(NamedTuple):
    """One thing about one file; `offset` and `size` are the bytes concerned, None where unknown."""

    weight: Weight
    path: str
    what: str
    offset: int | None = None
    size: int | None = None
    remedy: str = ""


class VerifiedFile(NamedTuple):
    """One file of a checkpoint, in bytes.

    `checked` are those whose checksum held, `unchecked` those that belong to something and have no
    checksum.
    """

    path: str
    size: int
    checked: int
    unchecked: int = 0


class Found(NamedTuple):
    """What was found in some of a checkpoint's files.

    `form` is the format where the files tell it, and not only their names.
    """

    problems: list[Problem]
    files: list[VerifiedFile]
    tensors: int = 0
    form: str = ""

    @property
    def is_damaged(self) -> bool:
        """Whether anything is damaged: what only should not be so keeps nothing from being read."""
        return any(problem.weight is Weight.DAMAGED for problem in self.problems)


class Verification(NamedTuple):
    """Everything about the bytes of one checkpoint; `tensors` is how many were verified."""

    path: str
    format: str
    tensors: int
    files: tuple[VerifiedFile, ...]
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...] = ()

    def count(self, weight: Weight) -> int:
        """Return the number of problems of a weight."""
        return sum(problem.weight is weight for problem in self.problems)

    @property
    def checked(self) -> int:
        """The bytes whose checksums held."""
        return sum(file.checked for file in self.files)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def verdict(self) -> Verdict:
        """Not audited where anything is damaged, failed where something should not be so."""
        worst = max((problem.weight for problem in self.problems), default=Weight.NOTE)
        return {
            Weight.NOTE: Verdict.PASS,
            Weight.SUSPECT: Verdict.FAIL,
            Weight.DAMAGED: Verdict.NOT_AUDITED,
        }[worst]

    @property
    def exit_code(self) -> int:
        """0 whole, 1 suspect, 3 damaged."""
        return self.verdict.exit_code
