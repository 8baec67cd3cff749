"""The keys of a policy: which there are, and what each of them takes."""

from __future__ import annotations

import datetime
import math
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from bncheck.config.lines import line_in, line_of
from bncheck.errors import BncheckError
from bncheck.rules import all_rules, find_rule
from bncheck.rules.rule import Level, Thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence

_KINDS: Final = {
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "a table",
}
# The options of the command line that a policy may set at its top, and what they take.
OPTIONS: Final[dict[str, tuple[type, ...]]] = {
    "paths": (list,),
    "recursive": (bool,),
    "graph": (str,),
    "no-graph": (bool,),
    "collection": (str,),
    "step": (int,),
    "jobs": (int,),
    "allow-empty": (bool,),
    "baseline": (str,),
    "write-baseline": (str,),
    "output": (str,),
    "report": (list,),
    "format": (str,),
    "show-suppressed": (bool,),
    "color": (str,),
    "quiet": (bool,),
}
SECTION_KEYS: Final = (
    *("select", "ignore", "fail-on", "levels", "momentum", "thresholds", "require-batch-norm"),
)
_TABLES: Final = ("path", "exceptions")
_CHOICES: Final = {
    "collection": ("global", "trainable", "model"),
    "color": ("auto", "always", "never"),
}


class ConfigError(BncheckError):
    """A policy that cannot be used: the user's mistake, in that line of the file (0: the whole)."""

    def __init__(self, path: str, line: int, what: str) -> None:
        super().__init__(f"{path}:{line}" if line else path, what)


def names(_section: object) -> tuple[str, ...]:
    """Return the keys that a section of a path may have."""
    return SECTION_KEYS


class Table:
    """One table of the file, from which keys are taken until none is left.

    `line` is where it begins, for tables of an array; all others are found by their path.
    """

    def __init__(
        self, path: str, text: str, prefix: Sequence[str], content: Any, line: int | None = None
    ) -> None:
        self.path = path
        self.text = text
        self.prefix = tuple(prefix)
        self._line = line
        if not isinstance(content, dict):
            raise ConfigError(path, line or line_of(text, prefix), f"{prefix[-1]} must be a table")
        self._left = dict(content)

    def below(self, key: str, content: Any) -> Table:
        """Return the table of a key, or one with another table's content."""
        return Table(self.path, self.text, (*self.prefix, key), content)

    def error(self, key: str, what: str) -> ConfigError:
        """Return an error on a key."""
        if self._line is not None:
            return ConfigError(self.path, line_in(self.text, self._line, key), f"{key}: {what}")
        line = line_of(self.text, (*self.prefix, key)) or line_of(self.text, self.prefix)
        return ConfigError(self.path, line, f"{key}: {what}")

    def take(self, key: str, kinds: tuple[type, ...]) -> Any:
        """Return a key's value and take it out; None where it is not there."""
        if key not in self._left:
            return None
        value = self._left.pop(key)
        is_number_for_bool = isinstance(value, bool) and bool not in kinds
        if not isinstance(value, kinds) or is_number_for_bool:
            expected = " or ".join(dict.fromkeys(_KINDS[kind] for kind in kinds))
            raise self.error(key, f"must be {expected}")
        return value

    def put_back(self, key: str, value: Any) -> None:
        """Undo a take."""
        self._left[key] = value

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        """Take one of several words."""
        value = self.take(key, (str,))
        if value is not None and value not in choices:
            near = get_close_matches(value, choices, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self.error(key, f"must be one of {', '.join(choices)}{hint}")
        return None if value is None else str(value)

    def fraction(self, key: str) -> float:
        """Take a number from 0 to below 1."""
        value = self.take(key, (int, float))
        if value is None or not 0 <= value < 1:
            raise self.error(key, "must be a number from 0 to below 1")
        return float(value)

    def pattern(self, key: str) -> str:
        """Take a pattern; without one everything is meant, and an empty one is a mistake."""
        value = self.take(key, (str,))
        if value == "":
            raise self.error(key, "is empty: leave it out to mean everything")
        return "*" if value is None else str(value)

    def date(self, key: str) -> datetime.date | None:
        """Take a day: TOML's own, or a string of the form 2026-12-31."""
        value = self._left.pop(key, None)
        if isinstance(value, datetime.datetime):
            return value.date()
        if isinstance(value, str):
            try:
                return datetime.date.fromisoformat(value)
            except ValueError:
                raise self.error(key, "must be a date, like 2026-12-31") from None
        if value is not None and not isinstance(value, datetime.date):
            raise self.error(key, "must be a date, like 2026-12-31")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """Take an array of strings, or one string."""
        value = self.take(key, (list, str))
        if value is None:
            return ()
        values = [value] if isinstance(value, str) else value
        if not all(isinstance(each, str) for each in values):
            raise self.error(key, "must be an array of strings")
        return tuple(values)

    def rules(self, key: str) -> tuple[str, ...]:
        """Take an array of rules' codes or names, and return the codes."""
        codes = []
        for name in self.strings(key):
            found = find_rule(name)
            if found is None:
                raise self.error(key, self.unknown_rule(name))
            codes.append(found.code)
        return tuple(codes)

    def levels(self) -> dict[str, Level]:
        """Take the table of levels by rules."""
        content = self.take("levels", (dict,)) or {}
        inner = self.below("levels", content)
        levels = {}
        for name in content:
            found = find_rule(name)
            if found is None:
                raise inner.error(name, self.unknown_rule(name))
            level = inner.choice(name, [str(each) for each in Level])
            levels[found.code] = Level[str(level).upper()]
        return levels

    def thresholds(self) -> dict[str, float]:
        """Take the table of thresholds, by the fields that they set."""
        content = self.take("thresholds", (dict,)) or {}
        inner = self.below("thresholds", content)
        known = {field.replace("_", "-"): field for field in Thresholds._fields}
        found = {}
        for key in list(content):
            if key in known:
                value = inner.take(key, (int, float))
                if not math.isfinite(value) or value <= 0:
                    raise inner.error(key, "must be a number above 0")
                found[known[key]] = float(value)
        inner.refuse_the_rest(tuple(known))
        return found

    def unknown_rule(self, name: str) -> str:
        """Say that no rule is called so, and which are nearly."""
        known = [form for rule in all_rules() for form in (rule.code, rule.name)]
        near = get_close_matches(name, known, n=1)
        return f"there is no rule {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")

    def refuse_the_rest(self, known: Sequence[str]) -> None:
        """Raise the error that keys are which should not be."""
        for key in self._left:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise self.error(key, f"there is no such key; {hint}")


def check_options(top: Table) -> dict[str, Any]:
    """Take the options of the command line; whatever is left then is a mistake."""
    options: dict[str, Any] = {}
    for key, kinds in OPTIONS.items():
        if key in _CHOICES:
            value: Any = top.choice(key, _CHOICES[key])
        elif kinds == (list,):
            value = list(top.strings(key)) or None
        else:
            value = top.take(key, kinds)
        if key in ("step", "jobs") and value is not None and value < (key == "jobs"):
            raise top.error(
                key, "must be a number above 0" if key == "jobs" else "must not be negative"
            )
        if value is not None:
            options[key] = value
    top.refuse_the_rest((*OPTIONS, *SECTION_KEYS, *_TABLES))
    return options
