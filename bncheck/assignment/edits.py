"""Changes of names: those that a person asks for, and those that would turn misses into matches."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bncheck import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# `\=` is an equals sign within REGEX or REPLACEMENT, the last other one splits them: a lookahead
# has one of its own, a name hardly ever.
_SPLIT = re.compile(r"(?s)(?P<pattern>.*[^\\])=(?P<replacement>.*)")
_NUMBER = re.compile(r"\{(\d+)([+-]\d+)\}")


class Edit(NamedTuple):
    """One change of names: `option` is how `--rename` takes it."""

    pattern: re.Pattern[str]
    replacement: str
    option: str

    def apply(self, name: str) -> str:
        """Return the name after the change.

        `{1+2}` in the replacement is group 1 with 2 added to the number that TensorFlow appended:
        nothing is 0, `_3` is 3. Where group 1 is no such number, the match stays as it is.
        """
        if not _NUMBER.search(self.replacement):
            return self.pattern.sub(self.replacement, name)
        return self.pattern.sub(self._expand, name)

    def _expand(self, match: re.Match[str]) -> str:
        pieces = _NUMBER.split(self.replacement)
        parts = []
        for text, group, offset in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=False):
            digits = (match[int(group)] or "").removeprefix("_") or "0"
            if not (digits.isascii() and digits.isdigit() and len(digits) <= limits.LONGEST_NUMBER):
                return match[0]
            number = int(digits) + int(offset)
            parts += [match.expand(text), f"_{number}" if number else ""]
        return "".join([*parts, match.expand(pieces[-1])])


class Applied(NamedTuple):
    """An edit that was asked for: how many names it changed, and how many matches it gained."""

    edit: Edit
    renamed: int
    gained: int


class Suggestion(NamedTuple):
    """An edit that would gain matches of equal shape; `alternatives` gain as many of the same."""

    description: str
    edit: Edit
    gains: int
    alternatives: tuple[tuple[str, Edit], ...] = ()


def parse_rename(option: str) -> Edit:
    r"""Return the edit that `REGEX=REPLACEMENT` stands for, as re.sub takes the two.

    The last `=` that is not written `\=` splits them. Raises ValueError, with what is wrong.
    """
    match = _SPLIT.fullmatch(option)
    if match is None:
        raise ValueError("it is not of the form REGEX=REPLACEMENT")
    replacement = match["replacement"].replace("\\=", "=")
    try:
        pattern = re.compile(match["pattern"])  # where `\=` is an equals sign already
        edit = Edit(pattern, replacement, option)
        _check_groups(edit)
    except (re.error, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no regular expression with its replacement: {error}") from None
    return edit


def _check_groups(edit: Edit) -> None:
    """Raise what re.sub would raise of the replacement, though no name may match the pattern."""
    edit.pattern.sub(_NUMBER.sub("", edit.replacement), "")
    for group, _ in _NUMBER.findall(edit.replacement):
        if int(group) > edit.pattern.groups:
            raise IndexError(f"there is no group {group}")


def apply_all(edits: Sequence[Edit], name: str) -> str:
    """Return the name after all edits, in their order."""
    for edit in edits:
        name = edit.apply(name)
    return name


def count_renamed(edits: Sequence[Edit], names: Iterable[str]) -> list[int]:
    """Return how many names each edit changes, after those before it."""
    counts = [0] * len(edits)
    for name in names:
        for number, edit in enumerate(edits):
            changed = edit.apply(name)
            counts[number] += changed != name
            name = changed
    return counts


def option_of(pattern: str, replacement: str) -> str:
    r"""Return what `--rename` takes for the two."""
    return f"{pattern}={replacement.replace('=', chr(92) + '=')}"


def is_literal(text: str) -> bool:
    """Whether a text stands for itself in a replacement: no `{1+2}` is in it."""
    return _NUMBER.search(text) is None
