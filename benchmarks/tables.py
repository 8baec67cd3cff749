"""The tables: of medians and ratios, and of goals; on a screen, and in Markdown files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.results import BATCH_NORM, Goal, Measured, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.table import Table as RichTable

    from benchmarks.cases import Case

_MARKED = "<!-- {0} -->\n(.*?)<!-- /{0} -->\n"
_UNKNOWN = "not measured"


@dataclass(frozen=True)
class Table:
    """Rows of cells, the header first among them; all but `texts` columns are figures."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int

    def markdown(self) -> str:
        """Return the table as Markdown, with a newline at its end."""
        dashes = ["---" if i < self.texts else "---:" for i in range(len(self.header))]
        rows = [self.header, dashes, *self.rows]
        return "".join("".join(f"| {x} " if x else "| " for x in row) + "|\n" for row in rows)

    def rich(self) -> RichTable:
        """Return the table for a terminal."""
        from rich import box
        from rich.table import Table as RichTable

        table = RichTable(box=box.SIMPLE)
        for i, title in enumerate(self.header):
            table.add_column(title, justify="left" if i < self.texts else "right", no_wrap=i == 0)
        for row in self.rows:
            table.add_row(*(cell.replace("`", "") for cell in row))
        return table


def amount(value: float, metric: Metric) -> str:
    """Return a measured value with its unit; a megabyte is 10**6 bytes."""
    if metric in (Metric.WALL, Metric.CPU):
        return f"{value:.3f} s" if value < 1 else f"{value:.3g} s"
    if value < 1e6:
        return f"{value / 1e3:.3g} kB"
    return f"{value / 1e6:.3g} MB" if value < 1e9 else f"{value / 1e9:.3g} GB"


def ratio(value: float) -> str:
    """Return a ratio as `1/15` where it is small, else as a number."""
    if 0 < value <= 1 / 3:
        return f"1/{1 / value:.3g}"
    return f"{value:.3g}"


def medians(results: Iterable[tuple[Case, Measured]], *, brief: bool = False) -> Table:
    """Return a row for each command, and one for each ratio; `brief` has names for titles."""
    rows = []
    for case, measured in results:
        title = case.name if brief else case.title
        for command in case.commands:
            cells = [_cell(measured.median(command.name, metric), metric) for metric in Metric]
            rows.append([title, command.name, *cells])
            title = ""
        for of, to in case.ratios:
            ratios = [_ratio_cell(measured.ratio(of, to, metric)) for metric in Metric]
            rows.append(["", f"{of} / {to}", *ratios])
    return Table(["", "", *(metric.value for metric in Metric)], rows, texts=2)


def _cell(value: float | None, metric: Metric) -> str:
    return "" if value is None else amount(value, metric)


def _ratio_cell(value: float | None) -> str:
    return "" if value is None else ratio(value)


def goals(results: Iterable[tuple[Case, Measured]], *, brief: bool = False) -> Table:
    """Return a row for each goal: what was wanted, what was measured, and whether it is met."""
    rows = []
    for case, measured in results:
        title = case.name if brief else case.title
        for goal in case.goals:
            value, met = measured.against(goal), measured.meets(goal)
            verdict = {True: "met", False: "missed", None: _UNKNOWN}[met]
            shown = _UNKNOWN if value is None else _against(goal, value)
            rows.append([title, _wanted(goal), shown, verdict])
            title = ""
    return Table(["", "goal", "measured", ""], rows, texts=2)


def _against(goal: Goal, value: float) -> str:
    return amount(value, goal.metric) if goal.to is None else ratio(value)


def _wanted(goal: Goal) -> str:
    limit = _against(goal, goal.at_most)
    if goal.to is None:
        return f"{goal.of}, {goal.metric.value}: at most {limit}"
    to = goal.to if goal.to != BATCH_NORM else "batch norm's own"
    return f"{goal.of} / {to}, {goal.metric.value}: at most {limit}"


def between_markers(text: str, marker: str, block: str) -> str:
    """Return a text with what is between `<!-- marker -->` and `<!-- /marker -->` replaced."""
    pattern = re.compile(_MARKED.format(re.escape(marker)), re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"there is not one <!-- {marker} --> with its end")
    return pattern.sub(lambda _: f"<!-- {marker} -->\n\n{block}\n<!-- /{marker} -->\n", text)


def write(path: Path, marker: str, block: str) -> None:
    """Put a block between the markers of a file."""
    path.write_text(between_markers(path.read_text("utf-8"), marker, block), "utf-8")
