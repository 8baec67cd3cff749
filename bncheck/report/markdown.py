"""Markdown for a job's summary or a comment on a pull request, as GitHub and GitLab render it."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from bncheck.report.escape import escape, escape_name
from bncheck.report.github import Alike, alike
from bncheck.report.model import Verdict
from bncheck.rules.rule import Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bncheck.report.gate_model import Audited, GateReport

_WORDS: Final = {Verdict.PASS: "PASS", Verdict.FAIL: "FAIL", Verdict.NOT_AUDITED: "NOT AUDITED"}
_WORST: Final = (Verdict.NOT_AUDITED, Verdict.FAIL, Verdict.PASS)
_MOST_NAMES: Final = 50  # layers listed of one group
_RESERVE: Final = 400  # bytes for the sentence that says what was left out

# How far each part may fill the page, so that none leaves the next without room.
_TABLE: Final = 0.5
_FINDINGS: Final = 0.85
_WARNINGS: Final = 0.93

_TABLE_HEAD: Final = (
    "| checkpoint | verdict | layers | errors | warnings | notes |\n"
    "| --- | --- | --- | ---: | ---: | ---: |\n"
)

# What would end a code span or, in a table, a cell; a backslash does not help in all of them.
_ENDS: Final = {"`": "\\x60", "|": "\\x7c"}
_PUNCTUATION: Final = re.compile(r"([\\`*_{}\[\]()<>#+!|~&$@:-])")


def to_markdown(report: GateReport, *, limit: int = 65_000) -> str:
    """Return the report as Markdown of at most `limit` bytes in UTF-8.

    What does not fit is left out in whole rows and blocks, from the least bad on, and the last
    sentence counts it. Everything that comes from a file stands in a code span, in which GitHub
    sees no markup, mention, reference or link; what would end the span is written out.
    """
    page = _Page(_headline(report), limit)
    page.add("\n", 1)
    _add_table(page, report)
    _add_findings(page, report)
    _add_list(page, "Policy", "policy warning", report.warnings, _WARNINGS)
    _add_list(page, "No more found, though in the baseline", "baseline entry", report.gone, 1)
    return page.text()


class _Page:
    """A text that never grows past its limit, and counts what it had no room for."""

    def __init__(self, headline: str, limit: int) -> None:
        # The headline has only ASCII, so that it can be cut anywhere.
        self._parts = [headline[: max(limit, 0)]]
        self._room = limit - len(headline)
        self._limit = limit
        self._left_out: Counter[str] = Counter()

    def add(self, text: str, share: float) -> bool:
        """Add a text if the page then is filled to no more than a share of its limit."""
        size = len(text.encode())
        kept_free = max(_RESERVE, int(self._limit * (1 - share)))
        if size > self._room - kept_free:
            return False
        self._parts.append(text)
        self._room -= size
        return True

    def leave_out(self, what: str, number: int = 1) -> None:
        """Count something that had no room."""
        self._left_out[what] += number

    def text(self) -> str:
        """Return the page, with a line break at its end."""
        if self._left_out:
            told = ", ".join(_counted(number, what) for what, number in self._left_out.items())
            sentence = f"\nLeft out, to stay within {self._limit} bytes: {told}.\n"
            if len(sentence) <= self._room:
                self._parts.append(sentence)
        return "".join(self._parts)


def _headline(report: GateReport) -> str:
    number = len(report.checkpoints)
    verdicts = [
        f"{report.count_verdict(verdict)} {_WORDS[verdict]}"
        for verdict in _WORST
        if report.count_verdict(verdict)
    ]
    levels = [_counted(report.count(level), str(level)) for level in sorted(Level, reverse=True)]
    told = (
        f"{_counted(number, 'checkpoint')} ({', '.join(verdicts)})" if number else "no checkpoint"
    )
    counts = [told, *levels]
    counts += [f"{report.suppressed} suppressed"] if report.suppressed else []
    return f"## bncheck: {_WORDS[report.verdict]}\n\n{', '.join(counts)}\n"


def _worst_first(checkpoints: Iterable[Audited]) -> list[Audited]:
    def badness(checkpoint: Audited) -> tuple[int, ...]:
        levels = (-checkpoint.count(level) for level in sorted(Level, reverse=True))
        return _WORST.index(checkpoint.verdict), *levels

    return sorted(checkpoints, key=badness)


def _add_table(page: _Page, report: GateReport) -> None:
    if not report.checkpoints:
        return
    full = not page.add(_TABLE_HEAD, _TABLE)
    for checkpoint in _worst_first(report.checkpoints):
        full = full or not page.add(_row(checkpoint), _TABLE)
        if full:
            page.leave_out("table row")


def _row(checkpoint: Audited) -> str:
    states = Counter(layer.status for layer in checkpoint.layers)
    layers = ", ".join(f"{number} {_code(state)}" for state, number in states.items()) or "none"
    levels = (str(checkpoint.count(level)) for level in sorted(Level, reverse=True))
    cells = [_code(checkpoint.path), _WORDS[checkpoint.verdict], layers, *levels]
    return f"| {' | '.join(cells)} |\n"


def _add_findings(page: _Page, report: GateReport) -> None:
    full = False
    for checkpoint in _worst_first(report.checkpoints):
        if checkpoint.verdict is Verdict.PASS:
            continue
        head = f"\n### {_code(checkpoint.path)}\n\n"
        for block, short, what, number in _blocks(checkpoint):
            full = full or not (
                page.add(f"{head}{block}", _FINDINGS) or page.add(f"{head}{short}", _FINDINGS)
            )
            if full:
                page.leave_out(what, number)
            head = ""  # once for each checkpoint


def _blocks(checkpoint: Audited) -> Iterator[tuple[str, str, str, int]]:
    """Yield each block, a short form of it, and what it tells of, with the number of them."""
    for each in checkpoint.skipped:
        line = f"- could not be audited: {_code(each.what)}"
        whole = f"{line}: {_code(each.reason, whole=True)}\n"
        yield whole, f"{line}\n", "skipped part", 1
    for group in alike(checkpoint.findings):
        yield _details(group, named=True), _details(group, named=False), "finding", group.number


def _details(group: Alike, *, named: bool) -> str:
    rule = group.rule
    where = f": {_counted(len(group.layers), 'layer')}" if group.layers else ""
    shown = group.layers[:_MOST_NAMES] if named else ()
    layers = [f"- {_code(layer)}" for layer in shown]
    if shown and len(group.layers) > len(shown):
        layers.append(f"- and {len(group.layers) - len(shown)} more")
    # The rule's own words are prose; a help of the finding itself can have names from the file.
    told = " ".join(group.help.split())  # a code span has one line
    advice = _prose(rule.fix) if group.help == rule.fix else _code(told, whole=named)
    paragraphs = [
        f"<details><summary><b>{rule.code} {rule.name}</b> ({group.level}){where}</summary>",
        _code(group.message, whole=named),
        "\n".join(layers),
        advice,
        "</details>",
    ]
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return f"\n{text}\n"


def _add_list(page: _Page, title: str, what: str, texts: Iterable[str], share: float) -> None:
    head, full = f"\n### {title}\n\n", False
    for text in texts:
        full = full or not page.add(f"{head}- {_code(text)}\n", share)
        if full:
            page.leave_out(what)
        head = ""


def _code(text: str, *, whole: bool = False) -> str:
    """Return a text as a code span; `whole` does not cut one that is longer than any name."""
    plain = escape(text) if whole else escape_name(text)
    for character, written in _ENDS.items():
        plain = plain.replace(character, written)
    # A span of nothing or of spaces alone would be none.
    return f"`{plain}`" if plain.strip() else "(empty)"


def _prose(text: str) -> str:
    """Return a rule's own words: what stands in backticks is code, the rest is no markup."""
    parts = escape(text).split("`")
    return "".join(
        f"`{part}`" if index % 2 else _PUNCTUATION.sub(r"\\\1", part)
        for index, part in enumerate(parts)
    )


def _counted(number: int, what: str) -> str:
    if number == 1:
        return f"1 {what}"
    return f"{number} {what[:-1]}ies" if what.endswith("y") else f"{number} {what}s"
