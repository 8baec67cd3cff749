"""Names as data: what a terminal, a log or a parser would act upon is written out instead."""

from __future__ import annotations

import re
from typing import Final

_LONGEST: Final = 500  # characters of one name in the text report; the JSON report has it whole

# What GitHub Actions and Azure Pipelines take for a command, in whatever line of a log it stands:
# `::error::x` at its start (a line may be folded there), `##[error]x` and `##vso[...]` anywhere.
_COMMAND: Final = re.compile(
    r"(?i)(?P<first>[:#])(?:(?<=:):(?=(?:add-|debug|echo|endgroup|error|group|notice|remove-|save-"
    r"|set-|stop-|warning))|(?<=#)#(?=\[|vso\[))"
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def escape(text: str) -> str:
    r"""Return the text with what is not printable written as `\x1b`, `\u202e` and so on.

    That covers control characters, line breaks, invisible ones, and those that change the direction
    of writing. Of a command to a CI system the second sign is written so: `:\x3aerror::`.
    """
    if "::" in text or "##" in text:
        text = _COMMAND.sub(lambda match: f"{match['first']}\\x{ord(match['first']):02x}", text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _code(c) for c in text)


def escape_lines(text: str) -> str:
    """Escape a text of several lines: the line breaks are bncheck's own."""
    return "\n".join(escape(line) for line in text.split("\n"))


def escape_name(name: str) -> str:
    """Return a name for a person: escaped, and cut where it is longer than any real name."""
    if len(name) > _LONGEST:
        return f"{escape(name[:_LONGEST])}… ({len(name)} characters)"
    return escape(name)


def _code(character: str) -> str:
    number = ord(character)
    if (
        0xDC80 <= number <= 0xDCFF
    ):  # a byte that was no UTF-8: see bncheck.checkpoint.model.decode_name
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def encodable(text: str) -> str:
    r"""Return the text with bytes that were no UTF-8 as `\xff`, other surrogates as `\ud800`."""
    if text.isascii():
        return text
    return _SURROGATE.sub(lambda match: _code(match[0]), text)
