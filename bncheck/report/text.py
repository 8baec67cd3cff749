"""The text report: what was read, every layer's numbers, the findings, the verdict."""

from __future__ import annotations

import textwrap
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from bncheck.checkpoint.object_graph import object_path
from bncheck.report.escape import escape, escape_name
from bncheck.report.model import Verdict
from bncheck.rules.rule import Level

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from rich.console import Console

    from bncheck.batchnorm.layers import Layer, Member
    from bncheck.batchnorm.statistics import Summary
    from bncheck.report.model import Report
    from bncheck.rules.rule import Finding

_STYLES: Final = {Level.ERROR: "bold red", Level.WARNING: "yellow", Level.NOTE: "cyan"}
_MARKS: Final = {Level.ERROR: "✗", Level.WARNING: "!", Level.NOTE: "·"}
_PLAIN_MARKS: Final = {Level.ERROR: "x", Level.WARNING: "!", Level.NOTE: "-"}
_GRAPH_WORDS: Final = {
    "from-checkpoint": "from checkpoint",
    "keeps-initializer": "keeps its initializer",
    "not-in-graph": "not in the graph",
}
_FORMATS: Final = {
    "tensor-bundle": "V2 checkpoint (tensor bundle)",
    "tensor-slices-v1": "V1 checkpoint (tensor slices)",
    "object-based": "object-based checkpoint",
    "saved-model": "SavedModel",
    "keras-h5": "Keras HDF5 file",
    "keras-weights-h5": "Keras weights (.weights.h5)",
    "keras-archive": "Keras archive (.keras)",
}
_LABEL: Final = 12  # columns in front of what the head of the report says
_PROSE_WIDTH: Final = 100  # columns; longer lines are hard to read
_FULL_WIDTH: Final = 96  # columns of a row with everything in it, of a usual name
_NAMES_SHOWN: Final = 5


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
    printer.print_skipped()
    printer.print_verdict()


class _Printer:
    def __init__(self, report: Report, console: Console, layout: Layout) -> None:
        self._report = report
        self._console = console
        self._layout = layout
        self._marks = _MARKS if layout.unicode else _PLAIN_MARKS
        self._ellipsis, self._plus_minus = ("…", "±") if layout.unicode else ("...", "+-")
        used = set(report.graph_used.values())
        self._show_graph = bool(used - {"from-checkpoint"})
        # With that column, 80 columns hold the range of the values, and not their mean.
        self._brief = self._show_graph and console.width < _FULL_WIDTH
        self._worst: dict[str, Level] = {}
        for finding in report.findings:
            for name in finding.variables:
                self._worst[name] = max(finding.level, self._worst.get(name, finding.level))

    def _line(self, text: Text | str = "") -> None:
        """Print one line, which is never wrapped: what is piped must stay in its line."""
        self._console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)

    def _prose(self, head: str, style: str, body: str, indent: int) -> None:
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
            self._line(text)

    def print_checkpoint(self) -> None:
        report = self._report
        self._field("checkpoint", escape(report.path))
        files = f"{report.shards} file{'s' if report.shards != 1 else ''}"
        step = "step unknown" if report.step is None else f"step {report.step}"
        if report.saves is not None:
            step = f"step unknown, save {report.saves}"
        form = _FORMATS.get(report.format, report.format)
        self._field("", f"{form}, {files}, {len(report.variables)} variables, {step}")
        for remark in report.remarks:
            self._field("", escape_name(remark))
        if self._layout.quiet:
            self._line()

    def print_graph(self) -> None:
        graph = self._report.graph
        if graph is None:
            self._field("graph", f"none: {self._without_graph()}")
        else:
            self._field("graph", escape(graph.source))
            role = "" if graph.role == "unknown" else f"{graph.role} graph, "
            updates = f", {graph.update_ops} update ops in UPDATE_OPS"
            if not graph.update_ops and graph.kind != "meta-graph":
                updates = ""  # only a training graph of TensorFlow 1 should have some
            self._field("", f"{role}{len(graph.variables)} variables{updates}")
            self._field("", self._matching())
            for remark in self._report.graph_remarks:
                self._prose("", "", remark, _LABEL)
        self._line()

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

    def _field(self, label: str, value: str) -> None:
        self._line(Text.assemble((f"{label:<{_LABEL - 1}} ", "bold"), value))

    def print_layers(self) -> None:
        if not self._report.layers:
            self._line("no batch normalization found")
            self._line()
            return
        rows = {layer.name: list(self._rows(layer)) for layer in self._report.layers}
        widths = [max(map(cell_len, column)) for column in zip(*_cells(rows.values()), strict=True)]
        for layer in self._report.layers:
            self._line(self._layer_title(layer))
            for name, cells in rows[layer.name]:
                self._line(self._row(name, cells, widths))
            self._line()

    def _layer_title(self, layer: Layer) -> Text:
        facts = [f"{layer.channels} channel{'s' if layer.channels != 1 else ''}"]
        facts += [] if layer.momentum is None else [f"momentum {layer.momentum:g}"]
        facts += [] if layer.epsilon is None else [f"epsilon {layer.epsilon:g}"]
        facts += ["frozen"] if layer.config is not None and layer.config.trainable is False else []
        level = max((self._worst.get(m.name, 0) for m in layer.members.values()), default=0)
        style = _STYLES[Level(level)] if level else "green"
        return Text.assemble(
            (escape_name(layer.name), "bold"),
            "  ",
            (layer.status.value, style),
            f"  {', '.join(facts)}",
        )

    def _rows(self, layer: Layer) -> Iterator[tuple[str, tuple[str, ...]]]:
        prefix = f"{layer.name}/"
        for member in layer.members.values():
            called = member.label if self._report.structure.tells_layers else member.name
            name = called.removeprefix(prefix)
            variable = member.variable
            cells = [escape_name(name), str(list(variable.shape)) if variable else ""]
            cells += [variable.dtype if variable else "", self._values(member)]
            if self._show_graph:
                cells.append(_GRAPH_WORDS.get(self._report.graph_used.get(member.name, ""), ""))
            yield member.name, tuple(cells)

    def _values(self, member: Member) -> str:
        if member.variable is None:
            return "not in the checkpoint"
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
        span = f"{summary.minimum:.3g} {self._ellipsis} {summary.maximum:.3g}"
        if self._brief:
            return span
        return f"{span}, mean {summary.mean:.3g} {self._plus_minus} {summary.std:.2g}"

    def _row(self, name: str, cells: tuple[str, ...], widths: list[int]) -> Text:
        level = self._worst.get(name)
        mark, style = (" ", "") if level is None else (self._marks[level], _STYLES[level])
        padded = (cell + " " * (w - cell_len(cell)) for cell, w in zip(cells, widths, strict=True))
        return Text(f"{mark} {'  '.join(padded)}".rstrip(), style=style)

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
            self._line(f"{total} other variable{'s' if total != 1 else ''}: {kinds}")
            self._line()
            return
        self._line(Text(f"{total} other variables: {kinds}", style="bold"))
        self._print_other_rows()
        self._line()

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
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            self._line(self._row("", row, widths))

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
        """Print each rule once, with every layer it is about, and each way of mending it once."""
        for (level, code, _), group in groupby(
            self._report.findings, key=lambda f: (f.level, f.rule.code, f.help)
        ):
            findings = list(group)
            first = findings[0]
            heading = Text.assemble(
                (f"{level} {code}", _STYLES[level]), (f" {first.rule.name}", "bold")
            )
            self._line(heading)
            for message, layers in _by_message(findings).items():
                self._print_message(message, layers)
            self._prose("help: ", "bold green", _escape_lines(first.help), 2)
            self._line()

    def _print_message(self, message: str, layers: list[str]) -> None:
        if len(layers) > 1:
            self._prose("", "", f"{message}, in {len(layers)} layers:", 2)
            self._prose("", "", ", ".join(layers), 4)
        elif layers[0]:
            self._prose(layers[0], "bold", f": {message}", 2)
        else:
            self._prose("", "", message, 2)

    def print_skipped(self) -> None:
        by_reason: dict[str, list[str]] = {}
        for each in self._report.skipped:
            by_reason.setdefault(each.reason, []).append(escape_name(each.what))
        if not by_reason:
            return
        self._line(Text("could not be audited", style="bold red"))
        for reason, names in by_reason.items():
            shown = ", ".join(names[:_NAMES_SHOWN])
            more = len(names) - _NAMES_SHOWN
            shown += f" and {more} more" if more > 0 else ""
            self._prose("", "", f"{shown}: {escape(reason)}", 2)
        self._line()

    def print_verdict(self) -> None:
        report = self._report
        word, style = {
            Verdict.PASS: ("PASS", "bold green"),
            Verdict.FAIL: ("FAIL", "bold red"),
            Verdict.NOT_AUDITED: ("NOT AUDITED", "bold red"),
        }[report.verdict]
        states = Counter(layer.status.value for layer in report.layers)
        layers = f"{len(report.layers)} layer{'s' if len(report.layers) != 1 else ''}"
        if states:
            layers += f" ({', '.join(f'{count} {state}' for state, count in states.items())})"
        counts = [
            f"{report.count(level)} {level}{'s' if report.count(level) != 1 else ''}"
            for level in sorted(Level, reverse=True)
        ]
        counts += [f"{len(report.skipped)} not read"] if report.skipped else []
        counts += [f"{report.suppressed} suppressed"] if report.suppressed else []
        self._line(Text.assemble((word, style), f": {layers}; {', '.join(counts)}"))


def _cells(rows: Iterable[list[tuple[str, tuple[str, ...]]]]) -> list[tuple[str, ...]]:
    return [cells for layer in rows for _, cells in layer]


def _by_message(findings: list[Finding]) -> dict[str, list[str]]:
    """Return the layers' names by what is said of them."""
    layers: dict[str, list[str]] = {}
    for finding in findings:
        message = escape(finding.message)
        if finding.explains:
            message += f" (this also explains {', '.join(finding.explains)})"
        layers.setdefault(message, []).append(escape_name(finding.layer))
    return layers


def _escape_lines(text: str) -> str:
    """Escape a text of several lines: the line breaks are bncheck's own."""
    return "\n".join(escape(line) for line in text.split("\n"))
