"""The edits that would make one name of another: of a prefix, a scope, an ending, the last part."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from bncheck.assignment.edits import Edit, is_literal, option_of
from bncheck.batchnorm.names import read_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBER = re.compile(r"_\d+(?=/|$)")


class Kind(Enum):
    """Where an edit changes a name; of those that gain alike, the first is shown."""

    PREFIX = 1
    ENDING = 2
    LEAF = 3
    SCOPE = 4


class Proposal(NamedTuple):
    """What an edit replaces, and by what, as parts of names."""

    kind: Kind
    source: str
    target: str

    @property
    def description(self) -> str:
        """The edit for a person."""
        if self.kind in (Kind.PREFIX, Kind.SCOPE):
            return f"{self.source or 'no prefix'} -> {self.target or 'no prefix'}"
        if not self.target:
            return f"{self.source} dropped"
        if not self.source:
            return f"{self.target} added"
        return f"{self.source} -> {self.target}"

    @property
    def keeps_role(self) -> bool:
        """Whether both names of the last part tell one role: running_mean, moving_mean."""
        if self.kind is not Kind.LEAF:
            return False
        one, other = read_name(self.source), read_name(self.target)
        return one is not None and other is not None and one.role is other.role

    @property
    def edit(self) -> Edit:
        """The edit as re.sub and `--rename` take it."""
        source = re.escape(self.source)
        if self.kind is Kind.PREFIX:
            pattern = f"^{source}"
        elif self.kind is Kind.SCOPE:
            pattern = f"(?<![^/]){source}"
        elif self.kind is Kind.ENDING:
            pattern = f"{source}(?=/|$)"
        else:
            bound = "(?<![^/])" if self.source and not self.source.startswith("/") else ""
            pattern = f"{bound}{source}$"
        replacement = self.target.replace("\\", r"\\")
        return Edit(re.compile(pattern), replacement, option_of(pattern, replacement))


def propose(source: str, target: str) -> Iterator[Proposal]:
    """Yield the edits that turn `source` into `target`, none where that is no plain text."""
    if not is_literal(target) or _roles_differ(source, target):
        return
    if _NUMBER.sub("", source) == _NUMBER.sub("", target):
        return  # another number is another layer's, unless all are shifted: see numbering.py
    left, right = source.split("/"), target.split("/")
    tail = _common(left[::-1], right[::-1])
    if tail:
        yield Proposal(Kind.PREFIX, _scope(left[:-tail]), _scope(right[:-tail]))
    head = _common(left[: len(left) - tail], right[: len(right) - tail])
    middle = left[head : len(left) - tail]
    instead = right[head : len(right) - tail]
    if tail and head and middle:
        yield Proposal(Kind.SCOPE, _scope(middle), _scope(instead))
    elif tail and head:
        # Nothing is replaced: what is added goes behind the scope before it, or before the next.
        yield Proposal(Kind.SCOPE, _scope(left[head - 1 : head]), _scope(right[head - 1 : -tail]))
        if tail > 1:
            after = _scope(left[head : head + 1])
            yield Proposal(Kind.SCOPE, after, _scope(instead) + after)
    elif head and middle and instead:
        yield Proposal(Kind.LEAF, "/".join(middle), "/".join(instead))
    elif head:
        yield Proposal(Kind.LEAF, _below(middle), _below(instead))
    ending = _dropped_ending(left, right)
    if ending:
        yield Proposal(Kind.ENDING, ending, "")


def _roles_differ(source: str, target: str) -> bool:
    """Whether both names tell their roles, and not the same one: no mean becomes a gamma."""
    one, other = read_name(source), read_name(target)
    return one is not None and other is not None and one.role is not other.role


def _common(left: list[str], right: list[str]) -> int:
    """Return how many items two lists begin with alike."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def _scope(parts: list[str]) -> str:
    return "".join(f"{part}/" for part in parts)


def _below(parts: list[str]) -> str:
    return "".join(f"/{part}" for part in parts)


def _dropped_ending(left: list[str], right: list[str]) -> str:
    """Return what the components that differ end in on the left side alone, all of them alike."""
    if len(left) != len(right):
        return ""
    endings = {
        one[len(other) :] if one.startswith(other) else ""
        for one, other in zip(left, right, strict=True)
        if one != other
    }
    return endings.pop() if len(endings) == 1 else ""
