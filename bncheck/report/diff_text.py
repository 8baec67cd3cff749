"""The text report of `bncheck diff`: both sides, a row for each layer, findings, the verdict."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

from bncheck.batchnorm.names import ANY_AFFINE, STATISTICS, Kind, Role
from bncheck.changes.model import Change, PairedBy
from bncheck.report.escape import escape, escape_name
from bncheck.report.paper import FORMATS, STYLES, Paper, count_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from bncheck.batchnorm.layers import Layer
    from bncheck.changes.model import LayerChange, RoleChange
    from bncheck.report.diff_model import DiffReport
    from bncheck.rules.rule import Level
    from bncheck.snapshot import Snapshot

_WORDS: Final = {
    Change.IDENTICAL: "same",
    Change.WITHIN_TOLERANCE: "same",
    Change.PRECISION_COPY: "copy",
    Change.HALF_COPY: "half copy",
    Change.RESET: "reset",
    Change.PERMUTED: "permuted",
    Change.RESHAPED: "reshaped",
    Change.ADDED: "added",
    Change.REMOVED: "removed",
    Change.UNREAD: "not read",
}
_KINDS: Final = {
    Kind.WEIGHT: "weight",
    Kind.SHADOW: "moving average",
    Kind.SLOT: "optimizer slot",
}
_NAMES_SHOWN: Final = 5


def print_diff(report: DiffReport, console: Console, *, top: int, unicode: bool) -> None:
    """Print the report on a console: the `top` layers that moved most, 0 for all of them.

    Without `unicode` all signs are ASCII.
    """
    printer = _Printer(report, console, top=top, unicode=unicode)
    printer.print_sides()
    printer.print_layers()
    printer.print_forms()
    printer.print_unpaired()
    printer.print_others()
    printer.print_findings()


class _Printer:
    def __init__(self, report: DiffReport, console: Console, *, top: int, unicode: bool) -> None:
        self._report = report
        self._paper = Paper(console)
        self._width = console.width
        self._top = top
        self._sigma, self._times = ("σ", "×") if unicode else ("sd", "x")
        self._from, self._to = ("←", "→") if unicode else ("<-", "->")
        self._worst: dict[str, Level] = {}
        for finding in report.findings:
            self._worst[finding.layer] = max(
                finding.level, self._worst.get(finding.layer, finding.level)
            )

    def print_sides(self) -> None:
        comparison = self._report.comparison
        first, second = comparison.before, comparison.after
        self._print_side("A", first, "")
        way = ""
        if first.step is not None and second.step not in (None, first.step):
            way = f" ({second.step - first.step:+d})"
        self._print_side("B", second, way)
        for remark in self._report.remarks:
            self._paper.field("", escape_name(remark))
        self._paper.line()

    def _print_side(self, label: str, snapshot: Snapshot, way: str) -> None:
        checkpoint = snapshot.checkpoint
        self._paper.field(label, escape(checkpoint.path))
        step = "step unknown" if snapshot.step is None else f"step {snapshot.step}{way}"
        form = FORMATS.get(checkpoint.format, checkpoint.format)
        layers = f"{len(snapshot.layers)} layer{'s' if len(snapshot.layers) != 1 else ''}"
        self._paper.field("", f"{form}, {layers}, {step}")

    def print_layers(self) -> None:
        layers = self._report.comparison.layers
        if not layers:
            self._paper.line("no layer of batch normalization is in both")
            self._paper.line()
            return
        moved = sorted((each for each in layers if not _is_same(each)), key=self._rank)
        same = len(layers) - len(moved)
        if not moved:
            many = f"all {len(layers)} layers are" if len(layers) > 1 else "the only layer is"
            self._paper.line(Text(f"{many} the same in both", style="green"))
            self._paper.line()
            return
        shown = moved[: self._top] if self._top else moved
        self._print_table(shown)
        if len(shown) < len(moved):
            hidden = len(moved) - len(shown)
            self._paper.line(f"  and {hidden} more that moved less (--top 0 shows them all)")
        if same:
            self._paper.line(f"  and {same} layer{'s' if same > 1 else ''} that did not change")
        self._paper.line()

    def _rank(self, change: LayerChange) -> tuple[int, float, str]:
        """Sort what findings are about first, then by how far a layer moved."""
        level = self._worst.get(change.pair.after.name, 0)
        divergence = change.divergence
        if divergence is None:
            divergence = math.inf
        return -int(level), -divergence, change.pair.after.name

    def _print_table(self, changes: Sequence[LayerChange]) -> None:
        affine = [r for r in ANY_AFFINE if any(r in each.roles for each in changes)]
        roles = [*STATISTICS, *affine]
        head = ("divergence", *(_heading(role) for role in roles), "layer")
        rows = [head, *(self._cells(each, roles) for each in changes)]
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)][:-1]
        for number, row in enumerate(rows):
            cells = [" " * (w - cell_len(c)) + c for c, w in zip(row[:-1], widths, strict=True)]
            line = f"  {'  '.join(cells)}  {row[-1]}".rstrip()
            if not number:
                self._paper.line(Text(line, style="bold"))
                continue
            style, origin = self._style(changes[number - 1]), self._origin(changes[number - 1])
            if cell_len(line) + cell_len(origin) < self._width or not origin:
                self._paper.line(Text(f"{line} {origin}".rstrip(), style=style))
            else:
                self._paper.line(Text(line, style=style))
                self._paper.line(Text(f"    {origin}", style=style))

    def _style(self, change: LayerChange) -> str:
        level = self._worst.get(change.pair.after.name)
        return "" if level is None else STYLES[level]

    def _origin(self, change: LayerChange) -> str:
        """Say what a layer was called in A, where that is not its name in B."""
        pair = change.pair
        if pair.by is PairedBy.NAME or pair.before.name == pair.after.name:
            return ""
        return f"{self._from} {escape_name(pair.before.name)} (by {pair.by.value})"

    def _cells(self, change: LayerChange, roles: Sequence[Role]) -> tuple[str, ...]:
        name = escape_name(change.pair.after.name)
        divergence = "-" if change.divergence is None else f"{change.divergence:.3g}"
        return divergence, *(self._cell(role, change.roles.get(role)) for role in roles), name

    def _cell(self, role: Role, change: RoleChange | None) -> str:
        if change is None:
            return "-"
        if change.change in _WORDS:
            return _WORDS[change.change]
        if change.change is Change.SWAPPED and change.source is not None:
            return f"{self._from} {change.source.value}"
        if change.change is Change.SCALED:
            return f"all {self._times}{change.factor:.4g}"
        after = None if change.after is None else change.after.summary
        if after is not None and after.nonfinite:
            return "NaN or Inf"
        shift = change.measure.shift
        if shift is None:
            return "moved"
        if role is STATISTICS[0]:
            return f"{shift:.2g} {self._sigma}"
        return f"{self._times}{shift:.3g}" if role is STATISTICS[1] else f"{100 * shift:.3g} %"

    def print_forms(self) -> None:
        """Say which variables of batch norm have another shape or type now."""
        shapes, types = [], Counter[str]()
        for layer in self._report.comparison.layers:
            for role, each in layer.roles.items():
                old, new = (m.variable if m else None for m in (each.before, each.after))
                if old is None or new is None:
                    continue
                if each.change is Change.RESHAPED:
                    name = f"{escape_name(layer.pair.after.name)} {role.value}"
                    shapes.append(f"{name}: {list(old.shape)} {self._to} {list(new.shape)}")
                if old.dtype != new.dtype:
                    types[f"{old.dtype} {self._to} {new.dtype}"] += 1
        for number, line in enumerate(shapes[:_NAMES_SHOWN]):
            self._paper.field("" if number else "shapes", line)
        if len(shapes) > _NAMES_SHOWN:
            self._paper.field("", f"and {len(shapes) - _NAMES_SHOWN} more")
        for number, (way, count) in enumerate(types.items()):
            plural = "s" if count != 1 else ""
            told = f"{way} in {count} variable{plural} of batch norm"
            self._paper.field("" if number else "types", told)
        if shapes or types:
            self._paper.line()

    def print_unpaired(self) -> None:
        pairs = self._report.comparison.pairs
        self._print_names("only in A", pairs.only_before)
        self._print_names("only in B", pairs.only_after)
        renamed = any(pair.by is PairedBy.RENAME for pair in pairs.layers)
        for each in pairs.renames if renamed else ():
            self._paper.field("renamed", escape_name(each.description))
        if pairs.only_before or pairs.only_after or renamed:
            self._paper.line()

    def _print_names(self, label: str, layers: Sequence[Layer]) -> None:
        for number, layer in enumerate(layers[:_NAMES_SHOWN]):
            channels = f"{layer.channels} channels" if layer.channels is not None else ""
            self._paper.field("" if number else label, f"{escape_name(layer.name)}  {channels}")
        if len(layers) > _NAMES_SHOWN:
            self._paper.field("", f"and {len(layers) - _NAMES_SHOWN} more")

    def print_others(self) -> None:
        """Say in one line whether the rest moved, which frozen statistics are judged by."""
        others = self._report.comparison.others
        parts = []
        for kind, called in _KINDS.items():
            total = others.identical.get(kind, 0) + others.differ.get(kind, 0)
            if total:
                differ = others.differ.get(kind, 0)
                plural = "s" if total != 1 else ""
                told = (
                    f"{differ} of {total} {called}{plural} differ"
                    if differ
                    else (f"{total} {called}{plural} the same")
                )
                parts.append(told)
        parts += [f"{others.copies} in another precision"] if others.copies else []
        alone = {"A": others.only_before, "B": others.only_after}
        parts += [f"{len(names)} only in {side}" for side, names in alone.items() if names]
        if parts:
            self._paper.prose("outside of batch norm: ", "", ", ".join(parts), 0)
            self._paper.line()

    def print_findings(self) -> None:
        report = self._report
        self._paper.findings(report.findings)
        self._paper.skipped(report.skipped)
        layers = report.comparison.layers
        same = sum(map(_is_same, layers))
        counts = [f"{len(layers)} layer{'s' if len(layers) != 1 else ''} compared, {same} the same"]
        levels = count_levels(report.findings)
        levels += [f"{len(report.skipped)} not read"] if report.skipped else []
        levels += [f"{report.suppressed} suppressed"] if report.suppressed else []
        self._paper.verdict(report.verdict, "; ".join([*counts, ", ".join(levels)]))


def _heading(role: Role) -> str:
    return {STATISTICS[0]: "mean", STATISTICS[1]: "variance"}.get(role, role.value)


def _is_same(change: LayerChange) -> bool:
    return all(
        each.change in (Change.IDENTICAL, Change.WITHIN_TOLERANCE) for each in change.roles.values()
    )
