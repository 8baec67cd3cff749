"""The text report of `bncheck history`: the run, a row with sparklines for each layer, findings."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

from bncheck.batchnorm.names import STATISTICS
from bncheck.report.escape import escape, escape_name
from bncheck.report.paper import FORMATS, STYLES, Paper, count_levels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from bncheck.report.history_model import Gone, HistoryReport, LayerPoint, Point, Trend
    from bncheck.rules.rule import Level

_HEAD: Final = ("mean", "variance", "divergence", "initial left", "state", "layer")
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_BLOCKS: Final = ".:-=+*#@"
_WIDEST: Final = 24  # columns of a sparkline
_NARROWEST: Final = 6
_PASSING_SHOWN: Final = 3


def print_history(report: HistoryReport, console: Console, *, top: int, unicode: bool) -> None:
    """Print the report on a console: the `top` layers that changed most at the end, 0 for all.

    Without `unicode` the sparklines are ASCII.
    """
    printer = _Printer(report, console, top=top, unicode=unicode)
    printer.print_run()
    printer.print_layers()
    printer.print_findings()


class _Printer:
    def __init__(self, report: HistoryReport, console: Console, *, top: int, unicode: bool) -> None:
        self._report = report
        self._paper = Paper(console)
        self._top = top
        self._blocks = _BLOCKS if unicode else _PLAIN_BLOCKS
        self._cross, self._at_most = ("×", "≤ ") if unicode else ("x", "<= ")
        self._width = console.width
        self._worst: dict[str, Level] = {}
        for finding in report.findings:
            self._worst[finding.layer] = max(
                finding.level, self._worst.get(finding.layer, finding.level)
            )

    def print_run(self) -> None:
        report, points = self._report, self._report.points
        for number, path in enumerate(report.paths):
            self._paper.field("" if number else "run", escape(path))
        forms = dict.fromkeys(FORMATS.get(point.format, point.format) for point in points)
        count = f"{len(points)} checkpoint{'s' if len(points) != 1 else ''}"
        self._paper.field("", f"{count}, {_steps(points)}, {', '.join(forms)}")
        for remark in report.remarks:
            self._paper.field("", escape_name(remark))
        for reason, group in groupby(sorted(report.passing, key=self._reason), key=self._reason):
            paths = list(group)
            shown = ", ".join(map(escape_name, paths[:_PASSING_SHOWN]))
            more = f" and {len(paths) - _PASSING_SHOWN} more" if len(paths) > _PASSING_SHOWN else ""
            self._paper.field("", f"left out, since {reason}: {shown}{more}")
        self._paper.line()

    def _reason(self, path: str) -> str:
        return self._report.passing[path]

    def print_layers(self) -> None:
        layers = self._report.layers
        if not layers:
            self._paper.line("no batch normalization in the last checkpoint")
            self._paper.line()
            return
        names = list(layers)
        if self._top and len(names) > self._top:
            chosen = set(sorted(names, key=self._rank)[: self._top])
            names = [name for name in names if name in chosen]
        for name, line in zip(("", *names), self._table(names), strict=True):
            level = self._worst.get(name) if name else None
            style = "bold" if not name else "" if level is None else STYLES[level]
            self._paper.line(Text(line, style=style))
        if len(names) < len(layers):
            self._paper.line(f"  and {len(layers) - len(names)} more (--top 0 shows them all)")
        self._paper.line()

    def _table(self, names: Sequence[str]) -> list[str]:
        """Return the lines of the table, the sparklines as wide as there is room for them."""
        points = len(self._report.points)
        columns, least = min(_WIDEST, points), min(_NARROWEST, points)
        lines = self._lines(names, columns)
        over = max(map(cell_len, lines)) - self._width
        if over > 0 and columns > least:  # three sparklines give way
            lines = self._lines(names, max(columns - -(-over // 3), least))
        return lines

    def _lines(self, names: Sequence[str], columns: int) -> list[str]:
        rows = [_HEAD, *(self._cells(name, self._report.layers[name], columns) for name in names)]
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)][:-1]
        lines = []
        for row in rows:
            cells = [c + " " * (w - cell_len(c)) for c, w in zip(row[:-1], widths, strict=True)]
            lines.append(f"  {'  '.join(cells)}  {row[-1]}".rstrip())
        return lines

    def _rank(self, name: str) -> tuple[int, float]:
        """Sort what findings are about first, then what moved most in the end."""
        last = self._report.points[-1].layers[name].divergence
        level = self._worst.get(name)
        return -int(level or 0), -(last if last is not None else 0.0)

    def _cells(self, name: str, trend: Trend, columns: int) -> tuple[str, ...]:
        points = [point.layers.get(name) for point in self._report.points]
        mean, variance = (
            [_average(point, number) for point in points] for number in range(len(STATISTICS))
        )
        divergences = [None if point is None else point.divergence for point in points]
        cells = []
        for series in (mean, variance, divergences):
            last = next((value for value in reversed(series) if value is not None), None)
            broken = bool(series) and last is not None and math.isnan(last)
            told = "" if last is None else "NaN" if broken else f"{last:.2g}"
            cells.append(f"{self._sparkline(series, columns)} {told}".rstrip())
        left = trend.initial_left
        share = "" if left is None else f"{self._at_most if trend.is_bound else ''}{_share(left)}"
        return *cells, share, trend.state, escape_name(name)

    def _sparkline(self, series: Sequence[float | None], columns: int) -> str:
        """Return a row of blocks, each for a stretch of the run: its last value.

        A blank is a checkpoint without a value, a cross one with NaN.
        """
        count = len(series)
        ends = [(number + 1) * count // columns - 1 for number in range(columns)]
        shown = [series[end] for end in ends]
        finite = [value for value in shown if value is not None and math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
        return "".join(self._block(value, low, high) for value in shown)

    def _block(self, value: float | None, low: float, high: float) -> str:
        if value is None:
            return " "
        if not math.isfinite(value):
            return self._cross
        if high <= low:
            return self._blocks[0]
        share = (value - low) / (high - low)
        return self._blocks[min(int(share * len(self._blocks)), len(self._blocks) - 1)]

    def print_findings(self) -> None:
        report = self._report
        self._paper.findings(report.findings)
        self._print_gone(report.gone)
        self._paper.skipped(report.skipped)
        states: dict[str, int] = {}
        for trend in report.layers.values():
            if trend.state:
                states[trend.state] = states.get(trend.state, 0) + 1
        layers = f"{len(report.layers)} layer{'s' if len(report.layers) != 1 else ''}"
        if states:
            layers += f" ({', '.join(f'{count} {state}' for state, count in states.items())})"
        counts = count_levels(report.findings)
        counts += [f"{len(report.skipped)} not read"] if report.skipped else []
        points = f"{len(report.points)} checkpoint{'s' if len(report.points) != 1 else ''}"
        self._paper.verdict(report.verdict, f"{points}, {layers}; {', '.join(counts)}")

    def _print_gone(self, gone: Iterable[Gone]) -> None:
        by_place: dict[tuple[str, str, str], list[str]] = {}
        for each in gone:
            first, last = (self._report.points[n] for n in (each.span.first, each.span.last))
            where = first.called if first is last else f"{first.called} to {last.called}"
            by_place.setdefault((each.rule, each.name, where), []).append(escape_name(each.layer))
        if not by_place:
            return
        self._paper.line(Text("found earlier, and not since", style="bold"))
        for (rule, name, where), layers in by_place.items():
            about = ", ".join(filter(None, layers))
            told = f"{rule} {name} in {escape(where)}" + (f": {about}" if about else "")
            self._paper.prose("", "", told, 2)
        self._paper.line()


def _steps(points: Sequence[Point]) -> str:
    first, last = points[0].step, points[-1].step
    if first is None or last is None:
        return "steps unknown"
    told = "" if points[0].told_by == "counter" else " by their names"
    return f"step {first:,}{told}" if first == last else f"steps {first:,} to {last:,}{told}"


def _average(point: LayerPoint | None, number: int) -> float | None:
    """Return the average over channels of a statistic, NaN where any channel is not finite."""
    summary = None if point is None else point.summaries.get(STATISTICS[number])
    if summary is None or not summary.size:
        return None
    return math.nan if summary.nonfinite else summary.mean


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 else f"{100 * value:.1g} %" if value >= 1e-5 else "0%"
