"""The text report: what was read, every layer's numbers, the findings, the verdict."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from bncheck.checkpoint.object_graph import object_path
from bncheck.report.escape import escape, escape_name
from bncheck.report.paper import FORMATS, LABEL, STYLES, Line, Paper, count_levels
from bncheck.rules.rule import Level

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from rich.console import Console

    from bncheck.batchnorm.layers import Layer, Member
    from bncheck.batchnorm.statistics import Summary
    from bncheck.checkpoint.model import Variable
    from bncheck.report.model import Report

_MARKS: Final = {Level.ERROR: "✗", Level.WARNING: "!", Level.NOTE: "·"}
_PLAIN_MARKS: Final = {Level.ERROR: "x", Level.WARNING: "!", Level.NOTE: "-"}
_GRAPH_WORDS: Final = {
    "from-checkpoint": "from checkpoint",
    "keeps-initializer": "keeps its initializer",
    "not-in-graph": "not in the graph",
}
_FULL_WIDTH: Final = 96  # columns of a row with everything in it, of a usual name


class Layout(NamedTuple):
    """What of a report is shown, and how.

    `everything` adds every other variable, `quiet` leaves only what was read, the findings and the
    verdict; without `unicode` the marks are ASCII.
    """

    everything: bool = False
    quiet: bool = False
    unicode: bool = True


def print_report(report: Report, console: Console, layout: Layout) -> None:
    """Print the report on a console."""
    printer = _Printer(report, console, layout)
    printer.print_checkpoint()
    if not layout.quiet:
        printer.print_graph()
        printer.print_layers()
        printer.print_others()
    printer.print_findings()
    printer.print_verdict()


class _Printer:
    def __init__(self, report: Report, console: Console, layout: Layout) -> None:
        self._report = report
        self._paper = Paper(console)
        self._layout = layout
        self._marks = _MARKS if layout.unicode else _PLAIN_MARKS
        ellipsis, plus_minus = ("…", "±") if layout.unicode else ("...", "+-")
        self._span = f"%.3g {ellipsis} %.3g"
        self._range_pattern = f"{self._span}, mean %.3g {plus_minus} %.2g"
        used = set(report.graph_used.values())
        self._show_graph = bool(used - {"from-checkpoint"})
        # With that column, 80 columns hold the range of the values, and not their mean.
        self._brief = self._show_graph and console.width < _FULL_WIDTH
        self._by_label = report.structure.tells_layers
        self._shapes: dict[tuple[int, ...], str] = {}
        self._worst: dict[str, Level] = {}
        for finding in report.findings:
            for name in finding.variables:
                self._worst[name] = max(finding.level, self._worst.get(name, finding.level))

    def print_checkpoint(self) -> None:
        report = self._report
        self._paper.field("checkpoint", escape(report.path))
        files = f"{report.shards} file{'s' if report.shards != 1 else ''}"
        step = "step unknown" if report.step is None else f"step {report.step}"
        if report.saves is not None:
            step = f"step unknown, save {report.saves}"
        form = FORMATS.get(report.format, report.format)
        self._paper.field("", f"{form}, {files}, {len(report.variables)} variables, {step}")
        for remark in report.remarks:
            self._paper.field("", escape_name(remark))
        if self._layout.quiet:
            self._paper.line()

    def print_graph(self) -> None:
        graph = self._report.graph
        if graph is None:
            self._paper.field("graph", f"none: {self._without_graph()}")
        else:
            self._paper.field("graph", escape(graph.source))
            role = "" if graph.role == "unknown" else f"{graph.role} graph, "
            updates = f", {graph.update_ops} update ops in UPDATE_OPS"
            if not graph.update_ops and graph.kind != "meta-graph":
                updates = ""  # only a training graph of TensorFlow 1 should have some
            self._paper.field("", f"{role}{len(graph.variables)} variables{updates}")
            self._paper.field("", self._matching())
            for remark in self._report.graph_remarks:
                self._paper.prose("", "", remark, LABEL)
        self._paper.line()

    def _without_graph(self) -> str:
        """Say what tells the layers where there is no graph."""
        if not self._report.structure.tells_layers:
            return "variables are judged by their names and values alone"
        if any(layer.config is not None for layer in self._report.layers):
            return "the model's configuration in the file tells the layers"
        return "the checkpoint's own objects tell the layers"

    def _matching(self) -> str:
        assignment = self._report.assignment
        if assignment is None:
            return ""
        collection = self._report.collection
        source = "" if collection == "global" else f" of the {collection} variables"
        parts = [f"assignment map{source}: {len(assignment.matched)} matched"]
        if assignment.graph_only:
            parts.append(f"{len(assignment.graph_only)} only in the graph")
        if assignment.checkpoint_only:
            parts.append(f"{len(assignment.checkpoint_only)} only in the checkpoint")
        if self._report.layers and not self._show_graph:
            parts.append("batch norm comes from the checkpoint")
        return ", ".join(parts)

    def print_layers(self) -> None:
        if not self._report.layers:
            self._paper.line("no batch normalization found")
            self._paper.line()
            return
        rows = [self._rows(layer) for layer in self._report.layers]
        table = _Table(cells for layer in rows for _, cells in layer)
        self._paper.lines(
            line
            for layer, own in zip(self._report.layers, rows, strict=True)
            for line in (
                self._layer_title(layer),
                *[self._row(name, table.line(cells)) for name, cells in own],
                "",
            )
        )

    def _layer_title(self, layer: Layer) -> Line:
        channels = layer.channels
        facts = [f"{channels} channel{'s' if channels != 1 else ''}"]
        if layer.momentum is not None:
            facts.append(f"momentum {layer.momentum:g}")
        if layer.epsilon is not None:
            facts.append(f"epsilon {layer.epsilon:g}")
        if layer.config is not None and layer.config.trainable is False:
            facts.append("frozen")
        names = [m.name for m in layer.members.values()] if self._worst else []
        levels = [self._worst[name] for name in names if name in self._worst]
        style = STYLES[max(levels)] if levels else "green"
        return (
            (escape_name(layer.name), "bold"),
            ("  ", ""),
            (layer.status.value, style),
            (f"  {', '.join(facts)}", ""),
        )

    def _rows(self, layer: Layer) -> list[tuple[str, tuple[str, ...]]]:
        """Return a row for each variable of a layer: its name, and the cells behind the mark."""
        prefix = f"{layer.name}/"
        rows: list[tuple[str, tuple[str, ...]]] = []
        for member in layer.members.values():
            called = member.label if self._by_label else member.name
            name, variable = escape_name(called.removeprefix(prefix)), member.variable
            if variable is None:
                cells: tuple[str, ...] = (name, "", "", "not in the checkpoint")
            else:
                cells = (name, self._shape(variable), variable.dtype, self._values(member))
            if self._show_graph:
                used = self._report.graph_used.get(member.name, "")
                cells = (*cells, _GRAPH_WORDS.get(used, ""))
            rows.append((member.name, cells))
        return rows

    def _shape(self, variable: Variable) -> str:
        """Return a shape's text; most variables share theirs with many others."""
        if variable.shape not in self._shapes:
            self._shapes[variable.shape] = str(list(variable.shape))
        return self._shapes[variable.shape]

    def _values(self, member: Member) -> str:
        summary = member.summary
        if summary is None:
            return "not read"
        if not summary.size:
            return "empty"
        if summary.nonfinite:
            return f"{summary.nonfinite} of {summary.size} NaN or Inf"
        if summary.minimum == summary.maximum:
            value = f"all {summary.minimum:.4g}" if summary.size > 1 else f"{summary.minimum:.4g}"
            return f"{value} (initial)" if member.initial else value
        return self._range(summary)

    def _range(self, summary: Summary) -> str:
        # One operator for all four takes two thirds of the time of four fields in an f-string.
        if self._brief:
            return self._span % (summary.minimum, summary.maximum)
        return self._range_pattern % (summary.minimum, summary.maximum, summary.mean, summary.std)

    def _row(self, name: str, cells: str) -> Line:
        level = self._worst.get(name)
        if level is None:
            return f"  {cells}"
        return ((f"{self._marks[level]} {cells}", STYLES[level]),)

    def print_others(self) -> None:
        counts = self._report.others
        total = sum(counts.values())
        if not total:
            return
        kinds = ", ".join(
            f"{count} {kind.value}{'s' if count != 1 else ''}"
            for kind, count in sorted(counts.items(), key=lambda item: -item[1])
        )
        if not self._layout.everything:
            self._paper.line(f"{total} other variable{'s' if total != 1 else ''}: {kinds}")
            self._paper.line()
            return
        self._paper.line(Text(f"{total} other variables: {kinds}", style="bold"))
        self._print_other_rows()
        self._paper.line()

    def _print_other_rows(self) -> None:
        """Print a row for each variable outside of the layers, those of the graph alone last."""
        report = self._report
        roles = {m.name for layer in report.layers for m in layer.members.values()}
        mapped = report.graph.collection(report.collection) if report.graph else {}
        rows = [
            (
                self._called(name),
                f"{variable.dtype} {list(variable.shape)}",
                self._use(name, mapped),
            )
            for name, variable in report.variables.items()
            if name not in roles
        ]
        rows += [
            (escape_name(name), "not in the checkpoint", _GRAPH_WORDS["keeps-initializer"])
            for name in (report.assignment.graph_only if report.assignment else ())
            if name not in roles
        ]
        table = _Table(rows)
        self._paper.lines(self._row("", table.line(row)) for row in rows)

    def _called(self, name: str) -> str:
        """Return a variable's key for a person, and what the program calls it."""
        full_name, path = self._report.structure.full_names.get(name, ""), object_path(name)
        if full_name in ("", path):
            return escape_name(path)
        return f"{escape_name(full_name)} ({escape_name(path)})"

    def _use(self, name: str, mapped: Container[str]) -> str:
        """Say what the graph does with a variable of the checkpoint outside of the layers."""
        graph = self._report.graph
        if graph is None:
            return ""
        if name in mapped:
            return _GRAPH_WORDS["from-checkpoint"]
        return _GRAPH_WORDS["keeps-initializer" if name in graph.variables else "not-in-graph"]

    def print_findings(self) -> None:
        self._paper.findings(self._report.findings)
        self._paper.skipped(self._report.skipped)

    def print_verdict(self) -> None:
        report = self._report
        states = Counter(layer.status.value for layer in report.layers)
        layers = f"{len(report.layers)} layer{'s' if len(report.layers) != 1 else ''}"
        if states:
            layers += f" ({', '.join(f'{count} {state}' for state, count in states.items())})"
        counts = count_levels(report.findings)
        counts += [f"{len(report.skipped)} not read"] if report.skipped else []
        counts += [f"{report.suppressed} suppressed"] if report.suppressed else []
        self._paper.verdict(report.verdict, f"{layers}; {', '.join(counts)}")


class _Table:
    """Rows of cells below each other, each cell as wide as the widest of its column.

    Behind the name come words and numbers of bncheck's own, one column a character.
    """

    def __init__(self, rows: Iterable[tuple[str, ...]]) -> None:
        names, *facts = zip(*rows, strict=True)
        self._width = max(map(_width, names))
        widths = (max(map(len, column)) for column in facts)
        self._facts = "".join([f"  %-{width}s" for width in widths])
        self._row = f"%-{self._width}s{self._facts}"

    def line(self, cells: tuple[str, ...]) -> str:
        """Return a row's line, without blanks at its end."""
        name = cells[0]
        if name.isascii():
            return (self._row % cells).rstrip()
        padding = " " * (self._width - cell_len(name))
        return f"{name}{padding}{self._facts % cells[1:]}".rstrip()


def _width(name: str) -> int:
    return len(name) if name.isascii() else cell_len(name)
