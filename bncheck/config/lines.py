"""Where a key stands in a TOML file: the parser does not tell, so its line is looked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(#.*)?$")
_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(?:\.|$)""")
_KEY = re.compile(r"""^\s*((?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_.\s-])+?)\s*=""")


def line_of(text: str, path: Sequence[str], number: int = 0) -> int:
    """Return the line, from 1, in which a table or a key of that path begins; 0 if none does.

    Of an array of tables, `number` says which of them, from 0.
    """
    wanted = list(path)
    table: list[str] = []
    for line, content in enumerate(text.splitlines(), 1):
        header = _HEADER.match(content)
        if header:
            table = _parts(header[2])
            if table == wanted:
                if not number:
                    return line
                number -= 1
            continue
        key = _KEY.match(content)
        if key and [*table, *_parts(key[1])] == wanted and not number:
            return line
    return 0


def line_in(text: str, table_line: int, key: str) -> int:
    """Return the line of a key in the table that begins in a line; that line where it is not."""
    for line, content in enumerate(text.splitlines()[table_line:], table_line + 1):
        if _HEADER.match(content):
            break
        found = _KEY.match(content)
        if found and _parts(found[1]) == [key]:
            return line
    return table_line


def _parts(dotted: str) -> list[str]:
    parts, at = [], 0
    while at < len(dotted) and (match := _PART.match(dotted, at)):
        parts.append(next(group for group in match.groups() if group is not None))
        at = match.end()
    return parts
