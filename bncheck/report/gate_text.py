"""The text report of `bncheck gate`: a table of checkpoints, the findings of each, all counts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

from bncheck.report.escape import escape, escape_name
from bncheck.report.model import FailOn, Verdict
from bncheck.report.paper import VERDICTS, Paper, count_levels
from bncheck.rules.rule import Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from bncheck.report.gate_model import Audited, GateReport

_MOST: Final = 200  # rows of checkpoints that pass; those that do not are all listed
_HEAD: Final = ("verdict", "layers", "errors", "warnings", "notes", "checkpoint")


def print_gate(report: GateReport, console: Console, *, show_suppressed: bool, quiet: bool) -> None:
    """Print the report on a console.

    `quiet` leaves out the checkpoints that pass; `show_suppressed` lists what does not count, with
    the reasons.
    """
    printer = _Printer(report, console)
    printer.print_source()
    printer.print_table(quiet=quiet)
    printer.print_checkpoints()
    if show_suppressed:
        printer.print_suppressed()
    printer.print_policy()
    printer.print_verdict()


class _Printer:
    def __init__(self, report: GateReport, console: Console) -> None:
        self._report = report
        self._paper = Paper(console)

    def print_source(self) -> None:
        """Say which policy judged: one that was found above may surprise."""
        report = self._report
        if report.config is None:
            return
        lenient = sum(each.fail_on is not FailOn.ERROR for each in report.checkpoints)
        limits = dict.fromkeys(each.fail_on.name.lower() for each in report.checkpoints)
        told = f" (fails on {', '.join(limits)})" if lenient else ""
        self._paper.field("policy", f"{escape(report.config)}{told}")
        self._paper.line()

    def print_table(self, *, quiet: bool) -> None:
        checkpoints = self._report.checkpoints
        if not checkpoints:
            self._paper.line("no checkpoint was found")
            self._paper.line()
            return
        failing = [each for each in checkpoints if each.verdict is not Verdict.PASS]
        passing = [each for each in checkpoints if each.verdict is Verdict.PASS]
        listed = [] if quiet else passing[:_MOST]
        shown = {id(each) for each in (*failing, *listed)}
        rows = [each for each in checkpoints if id(each) in shown]
        if rows:
            self._print_rows(rows)
        left = len(passing) - len(listed)
        if left:
            self._paper.line(f"  and {left} {'more ' if listed else ''}that pass")
        self._paper.line()

    def _print_rows(self, rows: Sequence[Audited]) -> None:
        cells = [_HEAD, *(_row(each) for each in rows)]
        widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)][:-1]
        for number, row in enumerate(cells):
            padded = [c + " " * (w - cell_len(c)) for c, w in zip(row[:-1], widths, strict=True)]
            style = "bold" if not number else VERDICTS[rows[number - 1].verdict][1]
            line = Text("  ").append(padded[0], style=style)
            self._paper.line(line.append(f"  {'  '.join(padded[1:])}  {row[-1]}".rstrip()))

    def print_checkpoints(self) -> None:
        """Print the findings of each checkpoint that has any, those that fail first."""
        ordered = sorted(self._report.checkpoints, key=lambda e: e.verdict is Verdict.PASS)
        for each in ordered:
            if not each.findings and not each.skipped:
                continue
            word, style = VERDICTS[each.verdict]
            self._paper.line(Text.assemble((word, style), " ", (escape(each.path), "bold")))
            self._paper.line()
            for remark in each.remarks:
                self._paper.line(f"  {escape_name(remark)}")
            self._paper.findings(each.findings)
            self._paper.skipped(each.skipped)

    def print_suppressed(self) -> None:
        lines = []
        for each in self._report.checkpoints:
            for one in each.suppressed:
                where = f" in {escape_name(one.finding.layer)}" if one.finding.layer else ""
                until = f", until {one.expires}" if one.expires else ""
                what = f"{one.finding.rule.code} {one.finding.rule.name}{where}"
                lines.append(f"{escape(each.path)}: {what}: {escape(one.reason)} ({one.by}{until})")
        if lines:
            self._paper.line(Text("does not count", style="bold"))
            for line in lines:
                self._paper.prose("", "", line, 2)
            self._paper.line()

    def print_policy(self) -> None:
        """Say what is wrong with the policy, and what of the baseline is no more."""
        for warning in self._report.warnings:
            self._paper.prose("policy: ", "yellow", escape(warning), 0)
        for gone in self._report.gone:
            self._paper.prose("gone: ", "green", f"{escape(gone)} is no longer found", 0)
        if self._report.warnings or self._report.gone:
            self._paper.line()

    def print_verdict(self) -> None:
        report = self._report
        verdicts = Counter(each.verdict for each in report.checkpoints)
        words = {Verdict.PASS: "pass", Verdict.FAIL: "fail", Verdict.NOT_AUDITED: "not audited"}
        told = ", ".join(f"{verdicts[v]} {word}" for v, word in words.items() if verdicts[v])
        counts = f"{told} of {len(report.checkpoints)}" if told else "no checkpoint"
        found = [finding for each in report.checkpoints for finding in each.findings]
        levels = count_levels(found)
        levels += [f"{report.suppressed} suppressed"] if report.suppressed else []
        levels += [f"{len(report.gone)} gone"] if report.gone else []
        self._paper.verdict(report.verdict, f"{counts}; {', '.join(levels)}")


def _row(each: Audited) -> tuple[str, ...]:
    counts = tuple(str(each.count(level)) for level in sorted(Level, reverse=True))
    return VERDICTS[each.verdict][0], str(len(each.layers)), *counts, escape(each.path)
