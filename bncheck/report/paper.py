"""What all text reports have in common: lines, fields, paragraphs, findings, the verdict."""

from __future__ import annotations

import textwrap
from collections import Counter
from itertools import groupby, islice
from typing import TYPE_CHECKING, Final

from rich.segment import Segment, Segments
from rich.text import Text

from bncheck.report.escape import escape, escape_lines, escape_name
from bncheck.report.model import Verdict
from bncheck.rules.rule import Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.style import Style

    from bncheck.report.model import Skipped
    from bncheck.rules.rule import Finding

STYLES: Final = {Level.ERROR: "bold red", Level.WARNING: "yellow", Level.NOTE: "cyan"}
FORMATS: Final = {
    "tensor-bundle": "V2 checkpoint (tensor bundle)",
    "tensor-slices-v1": "V1 checkpoint (tensor slices)",
    "object-based": "object-based checkpoint",
    "saved-model": "SavedModel",
    "keras-h5": "Keras HDF5 file",
    "keras-weights-h5": "Keras weights (.weights.h5)",
    "keras-archive": "Keras archive (.keras)",
}
LABEL: Final = 12  # columns in front of what the head of a report says
VERDICTS: Final = {
    Verdict.PASS: ("PASS", "bold green"),
    Verdict.FAIL: ("FAIL", "bold red"),
    Verdict.NOT_AUDITED: ("NOT AUDITED", "bold red"),
}
_PROSE_WIDTH: Final = 100  # columns; longer lines are hard to read
_NAMES_SHOWN: Final = 5
_LINES_AT_ONCE: Final = 10_000
_NEW_LINE: Final = Segment.line()

Line = str | tuple[tuple[str, str], ...]
"""A plain line, or the pieces of one, each a text and its style."""


class Paper:
    """A console that reports are written on."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: Text | str = "") -> None:
        """Print one line, which is never wrapped: what is piped must stay in its line."""
        self._console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)

    def lines(self, lines: Iterable[Line]) -> None:
        """Print many lines of styled pieces, each of which is escaped already.

        Ten times as fast as one by one: a line of its own makes rich look for wraps, links and
        overflow, which no row of a table has.
        """
        console = self._console
        styles: dict[str, Style] = {}
        pending = iter(lines)
        while batch := list(islice(pending, _LINES_AT_ONCE)):
            if console.color_system is None:
                plain = [x if isinstance(x, str) else "".join([t for t, _ in x]) for x in batch]
                console.file.write("\n".join([*plain, ""]))
                continue
            segments: list[Segment] = []
            for line in batch:
                for text, style in ((line, ""),) if isinstance(line, str) else line:
                    if style and style not in styles:
                        styles[style] = console.get_style(style)
                    segments.append(Segment(text, styles[style] if style else None))
                segments.append(_NEW_LINE)
            console.print(Segments(segments), soft_wrap=True, end="")

    def field(self, label: str, value: str) -> None:
        """Print a line of the head: what it is about, and what is to be said."""
        self.line(Text.assemble((f"{label:<{LABEL - 1}} ", "bold"), value))

    def prose(self, head: str, style: str, body: str, indent: int) -> None:
        """Print a paragraph behind a styled head.

        Lines that start with a blank are code and stay as they are.

        A word that is longer than the line is not broken: it is a name that somebody will search
        for.
        """
        width = min(self._console.width, _PROSE_WIDTH)
        margin = " " * indent
        lines: list[str] = []
        for paragraph in f"{head}{body}".split("\n"):
            lines += (
                [margin + paragraph]
                if paragraph.startswith(" ")
                else textwrap.wrap(
                    paragraph,
                    width,
                    initial_indent=margin,
                    subsequent_indent=margin,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
        for number, line in enumerate(lines):
            text = Text(line)
            if number == 0:
                text.stylize(style, indent, indent + len(head))
            self.line(text)

    def findings(self, findings: Sequence[Finding]) -> None:
        """Print each rule once, with every layer it is about, and each way of mending it once."""
        for (level, code, _), group in groupby(
            findings, key=lambda f: (f.level, f.rule.code, f.help)
        ):
            alike = list(group)
            first = alike[0]
            heading = Text.assemble(
                (f"{level} {code}", STYLES[level]), (f" {first.rule.name}", "bold")
            )
            self.line(heading)
            for message, layers in _by_message(alike).items():
                self._print_message(message, layers)
            self.prose("help: ", "bold green", escape_lines(first.help), 2)
            self.line()

    def _print_message(self, message: str, layers: list[str]) -> None:
        if len(layers) > 1:
            self.prose("", "", f"{message}, in {len(layers)} layers:", 2)
            self.prose("", "", ", ".join(layers), 4)
        elif layers[0]:
            self.prose(layers[0], "bold", f": {message}", 2)
        else:
            self.prose("", "", message, 2)

    def skipped(self, skipped: Iterable[Skipped]) -> None:
        """Print what could not be audited, each reason once."""
        by_reason: dict[str, list[str]] = {}
        for each in skipped:
            by_reason.setdefault(each.reason, []).append(escape_name(each.what))
        if not by_reason:
            return
        self.line(Text("could not be audited", style="bold red"))
        for reason, names in by_reason.items():
            shown = ", ".join(names[:_NAMES_SHOWN])
            more = len(names) - _NAMES_SHOWN
            shown += f" and {more} more" if more > 0 else ""
            self.prose("", "", f"{shown}: {escape(reason)}", 2)
        self.line()

    def verdict(self, verdict: Verdict, counts: str) -> None:
        """Print the last line."""
        self.line(Text.assemble(VERDICTS[verdict], f": {counts}"))


def count_levels(findings: Iterable[Finding]) -> list[str]:
    """Say how many findings there are of each level, the worst first."""
    counts = Counter(finding.level for finding in findings)
    return [
        f"{counts[level]} {level}{'s' if counts[level] != 1 else ''}"
        for level in sorted(Level, reverse=True)
    ]


def _by_message(findings: list[Finding]) -> dict[str, list[str]]:
    """Return the layers' names by what is said of them."""
    layers: dict[str, list[str]] = {}
    for finding in findings:
        message = escape(finding.message)
        if finding.explains:
            message += f" (this also explains {', '.join(finding.explains)})"
        layers.setdefault(message, []).append(escape_name(finding.layer))
    return layers
