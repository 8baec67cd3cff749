"""Where a key stands in a TOML file: the parser does not tell, so its line is looked for."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each of these goes through a line once, whatever it is. Spaces around a name are left to _PART.
_HEADER = re.compile(r"\[\[?(.+?)\]\]?\s*(?:#.*)?$")
_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(?:\.|$)""")
_KEY = re.compile(r"""((?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_.\s-])+)=""")

_Path = tuple[str, ...]


class _Places(NamedTuple):
    """The lines, from 1, in which tables and keys of a path begin."""

    tables: dict[_Path, list[int]]
    keys: dict[_Path, int]


@lru_cache(maxsize=1)
def _places(text: str) -> _Places:
    places = _Places({}, {})
    table: _Path = ()
    for line, content in enumerate(map(str.strip, text.splitlines()), 1):
        header = _HEADER.match(content)
        if header:
            table = _parts(header[1])
            places.tables.setdefault(table, []).append(line)
            continue
        key = _KEY.match(content)
        if key:
            places.keys.setdefault(table + _parts(key[1]), line)
    return places


def line_of(text: str, path: Sequence[str], number: int = 0) -> int:
    """Return the line, from 1, in which a table or a key of that path begins; 0 if none does.

    Of an array of tables, `number` says which of them, from 0.
    """
    places, wanted = _places(text), tuple(path)
    tables = places.tables.get(wanted, [])
    if number:
        return tables[number] if number < len(tables) else 0
    return min([*tables[:1], *([places.keys[wanted]] if wanted in places.keys else [])], default=0)


def line_in(text: str, table_line: int, key: str) -> int:
    """Return the line of a key in the table that begins in a line; that line where it is not."""
    for line, content in enumerate(text.splitlines()[table_line:], table_line + 1):
        content = content.strip()
        if _HEADER.match(content):
            break
        found = _KEY.match(content)
        if found and _parts(found[1]) == (key,):
            return line
    return table_line


def _parts(dotted: str) -> _Path:
    parts, at = [], 0
    while at < len(dotted) and (match := _PART.match(dotted, at)):
        parts.append(next(group for group in match.groups() if group is not None))
        at = match.end()
    return tuple(parts)
