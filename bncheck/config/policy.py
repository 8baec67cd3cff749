"""What a policy says, after it was read and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Mapping

    from bncheck.rules.rule import Level


class Exemption(NamedTuple):
    """One finding that is known and right: a rule's code, and patterns of layers and checkpoints.

    `expires` is the last day on which it holds, `line` where the file has it.
    """

    rule: str
    layer: str
    checkpoint: str
    reason: str
    expires: datetime.date | None
    line: int

    def fits(self, rule: str, layer: str, names: Iterable[str]) -> bool:
        """Whether a finding is the one that is meant, of a checkpoint that goes by these names."""
        return (
            rule == self.rule
            and fnmatchcase(layer, self.layer)
            and any(fits_path(name, self.checkpoint) for name in names)
        )

    def holds(self, today: datetime.date) -> bool:
        """Whether it has not expired."""
        return self.expires is None or today <= self.expires


class Section(NamedTuple):
    """What holds for the checkpoints of a pattern, or for all of them.

    Each is None, or empty, where the section does not say. `levels` are by rules' codes.
    """

    path: str = "*"
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: str | None = None
    levels: Mapping[str, Level] = {}
    momentum: float | None = None
    momenta: tuple[tuple[str, float], ...] = ()
    thresholds: Mapping[str, float] = {}
    require_batch_norm: bool | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy: `options` are those of the command line by their names in the file.

    `sections` begin with the file's top, those of paths follow in the file's order; what comes
    later wins. `source` is the file, None where there is none.
    """

    source: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    sections: tuple[Section, ...] = (Section(),)
    exemptions: tuple[Exemption, ...] = ()


def fits_path(path: str, pattern: str) -> bool:
    """Whether a path is one that a pattern means.

    `*` is anything, slashes included. A pattern without a slash in front also fits what lies below
    any directory: `generator/*` fits `models/generator/model.ckpt-60`.
    """
    plain, pattern = path.replace("\\", "/"), pattern.removeprefix("./")
    return fnmatchcase(plain, pattern) or fnmatchcase(plain, f"*/{pattern}")
