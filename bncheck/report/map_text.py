"""The text report of `bncheck map`: the headline, every batch-norm variable, what would mend it."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from shlex import quote
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

from bncheck.assignment.loaders import CALLS, Loader
from bncheck.checkpoint.object_graph import object_path
from bncheck.report.escape import escape, escape_name
from bncheck.report.map_model import Fate, Match
from bncheck.report.paper import VERDICTS, Paper

if TYPE_CHECKING:
    from rich.console import Console

    from bncheck.assignment.edits import Edit
    from bncheck.report.map_model import MapReport, Row

_STYLES: Final = {Fate.RESTORED: "", Fate.SKIPPED: "bold red", Fate.REFUSED: "bold red"}
_MOST_OTHERS: Final = 20  # rows outside of batch norm


def print_map(report: MapReport, console: Console, *, everything: bool, unicode: bool) -> None:
    """Print the report on a console.

    `everything` lists the variables outside of batch norm that are matched, too; without `unicode`
    the marks are ASCII.
    """
    printer = _Printer(report, console, unicode=unicode)
    printer.print_head()
    printer.print_layers()
    printer.print_others(everything=everything)
    printer.print_renames()
    printer.print_rehearsal()
    printer.print_verdict()


class _Printer:
    def __init__(self, report: MapReport, console: Console, *, unicode: bool) -> None:
        self._report = report
        self._paper = Paper(console)
        self._cross, self._from = ("✗", "←") if unicode else ("x", "<-")

    def print_head(self) -> None:
        report = self._report
        checkpoint, graph, outcome = report.checkpoint, report.graph, report.outcome
        self._paper.field("checkpoint", escape(checkpoint.path))
        self._paper.field("", f"{checkpoint.format}, {len(checkpoint.variables)} variables")
        self._paper.field("graph", escape(graph.source))
        self._paper.field("", f"{graph.kind}, {len(graph.variables)} variables")
        self._paper.field("loader", CALLS[outcome.loader])
        self._paper.field("", f"given {outcome.source}")
        for each in report.applied:
            option = escape_name(each.edit.option)
            counts = f"{each.renamed} names changed, {each.gained:+d} matches"
            self._paper.field("rename", f"{option}: {counts}")
        self._paper.line()
        style = VERDICTS[report.verdict][1]
        self._paper.line(Text(escape(report.headline), style=style))
        if outcome.loader is Loader.SAVER and report.count(Match.SHAPE_DIFFERS):
            self._paper.line("a resource variable silently takes the checkpoint's shape instead")
        self._paper.line()

    def print_layers(self) -> None:
        layers = groupby(
            (row for row in self._report.rows if row.place is not None),
            key=lambda row: row.place.layer if row.place is not None else "",
        )
        for layer, members in layers:
            rows = list(members)
            asked = [row for row in rows if row.name is not None]
            restored = sum(row.fate is Fate.RESTORED for row in asked)
            count = f"{restored} of {len(asked)} restored" if asked else "not in the graph"
            style = "green" if restored == len(asked) else "bold red"
            self._paper.line(Text.assemble((escape_name(layer), "bold"), "  ", (count, style)))
            self._print_rows(rows)
            self._paper.line()

    def print_others(self, *, everything: bool) -> None:
        others = [row for row in self._report.rows if row.place is None]
        if not others:
            return
        counts = [
            *(f"{sum(row.fate is fate for row in others)} {fate.value}" for fate in Fate),
            f"{sum(row.name is None for row in others)} only in the checkpoint",
        ]
        told = ", ".join(count for count in counts if not count.startswith("0 "))
        self._paper.line(f"{len(others)} other variable{'s' if len(others) != 1 else ''}: {told}")
        shown = others if everything else [row for row in others if _is_mismatch(row)]
        listed = shown if everything else shown[:_MOST_OTHERS]
        self._print_rows(listed)
        if len(shown) > len(listed):
            self._paper.line(f"  and {len(shown) - len(listed)} more that are not restored (--all)")
        self._paper.line()

    def _print_rows(self, rows: list[Row]) -> None:
        cells = [self._cells(row) for row in rows]
        widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
        for row, each in zip(rows, cells, strict=True):
            mark = self._cross if row.fate in (Fate.SKIPPED, Fate.REFUSED) else " "
            padded = (c + " " * (w - cell_len(c)) for c, w in zip(each, widths, strict=True))
            style = _STYLES[row.fate] if row.fate is not None else ""
            self._paper.line(Text(f"{mark} {'  '.join(padded)}".rstrip(), style=style))

    def _cells(self, row: Row) -> tuple[str, str, str]:
        name = row.name if row.name is not None else row.key or ""
        called = row.place.role.value if row.place is not None else escape_name(object_path(name))
        variables = self._report.checkpoint.variables
        saved = variables[row.key].shape if row.key is not None else None
        wanted = self._report.graph.variables[row.name].shape if row.name is not None else None
        shape = saved if saved is not None else wanted
        return called, str(list(shape)) if shape is not None else "", self._words(row)

    def _words(self, row: Row) -> str:
        """Say what becomes of a variable, and under which name it was found."""
        if row.name is None:
            return f"only in the checkpoint: {escape_name(object_path(row.key or ''))}"
        if row.fate is not Fate.RESTORED:
            return row.reason
        if row.key in (row.name, None):
            return "from checkpoint"
        return f"{self._from} {escape_name(object_path(row.key or ''))}"

    def print_renames(self) -> None:
        """Print what would match more, each with the option that does it."""
        suggestions = self._report.suggestions
        if not suggestions:
            return
        self._paper.line(Text("names that nearly agree", style="bold"))
        for each in suggestions:
            gains = f"{each.gains} more match"
            if each.alternatives:
                self._paper.line(f"  ambiguous, {gains} with any of these:")
                for description, edit in ((each.description, each.edit), *each.alternatives):
                    self._print_edit(description, edit, 4)
            else:
                self._print_edit(f"{each.description}: {gains}", each.edit, 2)
        self._paper.line()

    def _print_edit(self, text: str, edit: Edit, indent: int) -> None:
        self._paper.line(f"{' ' * indent}{escape_name(text)}")
        self._paper.line(f"{' ' * indent}    --rename {escape_name(quote(edit.option))}")

    def print_rehearsal(self) -> None:
        """Say what TensorFlow did; where it did something else, nothing else matters."""
        rehearsal = self._report.rehearsal
        if rehearsal is None:
            return
        head = f"rehearsal with TensorFlow {rehearsal.tensorflow}"
        if rehearsal.failed:
            self._paper.line(Text("rehearsal failed: nothing was compared", style="bold red"))
            self._paper.line(f"  {escape(rehearsal.failed)}")
        elif rehearsal.raised:
            self._paper.line(Text(f"{head}: it raised", style="bold"))
            self._paper.line(f"  {escape(rehearsal.raised)}")
        else:
            counts = Counter(rehearsal.seen.values())
            told = ", ".join(f"{count} {seen.value}" for seen, count in counts.items())
            self._paper.line(Text(f"{head}: {told}", style="bold"))
        if rehearsal.disagreements:
            told = "THE REHEARSAL DISAGREES with what is said above: please report it"
            self._paper.line(Text(told, style="bold red"))
            for name, text in rehearsal.disagreements.items():
                self._paper.line(f"  {escape_name(name) or 'the loader'}: {escape(text)}")
        elif rehearsal.agrees:
            self._paper.line("  it agrees with what is said above")
        self._paper.line()

    def print_verdict(self) -> None:
        report = self._report
        counts = [f"{report.count(fate)} {fate.value}" for fate in Fate]
        counts.append(f"{report.count(Match.CHECKPOINT_ONLY)} only in the checkpoint")
        differs = report.count(Match.SHAPE_DIFFERS)
        counts += [f"{differs} of another shape"] if differs else []
        word, style = VERDICTS[report.verdict]
        self._paper.line(Text.assemble((word, style), f": {', '.join(counts)}"))


def _is_mismatch(row: Row) -> bool:
    """Whether the graph has a variable that the checkpoint has not, or not so."""
    return row.name is not None and row.match is not Match.MATCHED
