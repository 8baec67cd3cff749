"""The picture of `bncheck history`: who drifts, what was found and since when, as PNG or SVG.

From the top: the findings, each where it began; how far each layer's mean and variance were from
their last values; how far each layer went between every two checkpoints.
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bncheck.report.escape import escape
from bncheck.report.history_drift import distances, divergences, layer_names, positions
from bncheck.report.paper import VERDICTS
from bncheck.rules.rule import Level

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from bncheck.report.history_model import HistoryReport, Span
    from bncheck.rules.rule import Finding

_DPI: Final = 100
_WIDTH, _HEIGHT, _TALLEST = 1200, 900, 20_000  # px; many layers make it higher
_LEFT, _RIGHT, _BOTTOM = 84, 285, 74  # px beside and below the panels; the names are on the right
_TITLE, _EVENT, _GAP, _PANEL = 66, 16, 30, 205  # px from above
_ROW: Final = 3  # px that a layer of the heat map has at least, so that none gets lost
_LINE: Final = 13  # px from one name to the next
_LETTER: Final = 7.5  # px that a bold letter is wide, rather more than on average
_LONGEST: Final = 35  # letters of a name with its codes
_SETTLED: Final = 0.1  # as for a Trend: nearer than that to its last value in the last third
_FARTHEST: Final = 1e4  # where an axis ends at the latest; a line may leave it
_DIVERGENCES: Final = (1e-5, 10.0)  # nats; always the same, so that pictures can be compared
_NAMED: Final = 3  # layers that have a colour and a name, even if all is well
_EVENTS: Final = 5  # rows of findings above the panels
_MANY: Final = 40  # checkpoints that are still marks on a line, layers with a line between them
_TICKS: Final = 12

# Okabe and Ito's colours, which nearly everybody can tell apart, but for yellow, which is brown
# here, and vermilion and black, which are for findings. The marks differ, too.
_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C510A")
_MARKS: Final = "os^DvP"
_WRONG, _WELL, _NOTED, _BOX = "#C8321E", "#00795A", "#666666", "#E4EAF1"
_REST, _FOUND = "#CFCFCF", "#858585"  # layers without a colour: without and with findings
_INKS: Final = {Level.ERROR: _WRONG, Level.WARNING: "black", Level.NOTE: _NOTED}
_SHIFTS: Final = {each: f"{each:g}" for each in (0, 0.1, 1, 10, 100, 1000, 10_000)}
_RATIOS: Final = {float(np.log(each)): f"×{each:,}" for each in (1, 1.1, 2, 10, 1000, 1_000_000)}
_UNCHANGED: Final = "#DADADA"
_UNDEFINED: Final[dict[str, Any]] = {"fc": "white", "hatch": "////", "ec": "#BBBBBB", "lw": 0}
_PAPER: Final = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}

_SETTINGS: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8,
    "text.parse_math": False,  # a $ in a name is a $
    "svg.fonttype": "none",  # text stays text, so that names can be searched for
    "svg.hashsalt": "bncheck",
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(report: HistoryReport, path: str) -> None:
    """Draw the history of a run to a PNG or an SVG file, as the path ends.

    Raises ValueError for any other ending, and ImportError where matplotlib is not installed.
    """
    ending = os.path.splitext(path)[1].lower()
    if ending not in (".png", ".svg"):
        raise ValueError(f"a plot is a .png or an .svg file, and {path!r} ends in neither")
    from matplotlib.font_manager import findfont, get_font  # 300 ms, and an extra
    from matplotlib.style import context

    # The user's own settings could ask for LaTeX, which must not see any name.
    with context(["default", _SETTINGS]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        is_svg = ending == ".svg"
        letters = None if is_svg else get_font(findfont(_SETTINGS["font.family"])).get_charmap()
        picture = _Picture(report, letters)
        picture.draw()
        undated = {"Date": None} if is_svg else {"Software": None}
        picture.figure.savefig(path, format=ending[1:], dpi=_DPI, metadata=undated)


class _Picture:
    """One report on its way to a figure, laid out in pixels.

    `letters` are those that the font has; None if whoever shows the picture has fonts of their own.
    """

    def __init__(self, report: HistoryReport, letters: Container[int] | None) -> None:
        from matplotlib.figure import Figure

        self._report, self._points, self._letters = report, report.points, letters
        self._names = layer_names(report.points)
        self._at, self._is_to_scale = positions(report.points)
        self._distances = distances(report.points, self._names)
        self._third = max(min(len(self._at) - len(self._at) // 3 - 1, len(self._at) - 3), 0)
        self._levels: dict[str, Level] = {}
        self._codes: dict[str, list[str]] = defaultdict(list)
        for each in report.findings:  # the worst come first
            self._levels.setdefault(each.layer, each.level)
            self._codes[each.layer].append(each.rule.code)
        self._colours = dict(zip(self._chosen(), _COLOURS, strict=False))
        self._events = self._gathered()
        self._top = _TITLE + min(len(self._events), _EVENTS) * _EVENT + _GAP
        above = self._top + 2 * (_PANEL + _GAP)
        height = max(_HEIGHT, above + _ROW * len(self._names) + _BOTTOM)
        self._height = min(height, _TALLEST)
        self._heat = self._height - above - _BOTTOM
        self.figure = Figure((_WIDTH / _DPI, self._height / _DPI), dpi=_DPI)

    def _chosen(self) -> list[str]:
        """Return the layers that have a colour and a name.

        Those with the worst findings come first, but they leave room for the two that drift most.
        """
        shifts = np.nan_to_num(self._distances[:, self._third]).max(axis=0)
        drift = dict(zip(self._names, shifts.tolist(), strict=True))
        ranked = sorted(self._names, key=lambda n: (-self._levels.get(n, 0), -drift[n]))
        moving = [name for name in sorted(drift, key=lambda n: -drift[n]) if drift[name] > _SETTLED]
        wanted = [name for name in ranked if name in self._levels]
        wanted = [*wanted[: len(_COLOURS) - 2], *moving[:2], *wanted, *moving, *ranked[:_NAMED]]
        return list(dict.fromkeys(wanted))[: len(_COLOURS)]

    def _gathered(self) -> list[tuple[Finding, Span, str]]:
        """Return the findings of a rule that began together as one: the worst, then the earliest.

        With each comes what to say of them.
        """
        groups = defaultdict(list)
        for finding, span in zip(self._report.findings, self._report.spans, strict=True):
            groups[-finding.level, span.first, finding.rule.code].append((finding, span))
        events = []
        for _, group in sorted(groups.items()):
            finding, span = group[0]
            rule, who = finding.rule, self._called(finding.layer)
            if len(group) > 1:
                who = f"{'all ' if len(group) == len(self._names) else ''}{len(group)} layers"
            since = f"from {self._point(span.first)}"
            if span.last_good is not None:
                since = f"{self._point(span.last_good)} to {self._point(span.first)}"
            text = f"{finding.level} {rule.code} {rule.name}, {since}"
            events.append((finding, span, f"{text}: {who}" if who else text))
        return events

    def _point(self, number: int) -> str:
        step = self._points[number].step
        return f"checkpoint {number + 1}" if step is None else f"step {step:,}"

    def _called(self, name: str, longest: int = _LONGEST) -> str:
        """Return a name in one line of letters that can be shown, its middle cut if too long."""
        text = escape(name if len(name) <= 2 * longest else name[:longest] + name[-longest:])
        letters = self._letters
        if letters is not None:  # any other would be an empty box
            text = "".join(c if ord(c) in letters else ascii(c)[1:-1] for c in text)
        head = longest // 3
        return text if len(text) <= longest else f"{text[:head]}…{text[1 + head - longest :]}"

    def draw(self) -> None:
        """Draw everything."""
        means, variances, heat = panels = [
            self._axes(self._top + number * (_PANEL + _GAP), height)
            for number, height in enumerate((_PANEL, _PANEL, self._heat))
        ]
        self._draw_title()
        self._draw_lines(means, self._distances[0], "moving_mean, in standard deviations", _SHIFTS)
        self._draw_lines(variances, self._distances[1], "moving_variance, as a factor", _RATIOS)
        self._draw_heat(heat)
        self._draw_rows(heat)
        self._draw_steps(heat)
        self._draw_events(panels)
        self._draw_legend()

    def _axes(self, top: float, height: float) -> Axes:
        """Return a panel; all of them have the checkpoints at the same places."""
        left, bottom = _LEFT / _WIDTH, 1 - (top + height) / self._height
        width = 1 - (_LEFT + _RIGHT) / _WIDTH
        axes = self.figure.add_axes((left, bottom, width, height / self._height))
        first, last = float(self._at[0]), float(self._at[-1])
        margin = (last - first) / 80 or 1
        axes.set_xlim(first - margin, last + margin)
        axes.tick_params(bottom=False, labelbottom=False)
        return axes

    def _draw_title(self) -> None:
        report = self._report
        counts = [(report.count(level), str(level)) for level in reversed(Level)]
        counts += [(len(self._points), "checkpoint"), (len(self._names), "layer")]
        told = ", ".join(f"{n:,} {what}{'' if n == 1 else 's'}" for n, what in counts)
        told += f"; {len(report.skipped):,} not read" if report.skipped else ""
        ink = _WRONG if report.exit_code else "black" if report.count(Level.WARNING) else _WELL
        head = f"batch normalization in {self._called(', '.join(report.paths), 80)}"
        verdict = f"{VERDICTS[report.verdict][0]}: {told}"
        for y, text, color in ((22, head, "black"), (46, verdict, ink)):
            style: dict[str, Any] = {"color": color, "size": 11, "weight": "bold", "va": "center"}
            self.figure.text(_LEFT / _WIDTH, 1 - y / self._height, text, **style)

    def _draw_events(self, panels: Sequence[Axes]) -> None:
        """Write what was found above the panels, and mark in all of them where it began."""
        strip = self._axes(_TITLE, max(self._top - _GAP - _TITLE, 1))
        strip.set_ylim(min(len(self._events), _EVENTS) or 1, 0)
        strip.set_axis_off()
        for row, (finding, span, text) in enumerate(self._events[:_EVENTS]):
            at, ink = float(self._at[span.first]), _INKS[finding.level]
            if row == _EVENTS - 1 and len(self._events) > _EVENTS:
                text += f" (and {len(self._events) - _EVENTS} more)"
            strip.plot([at, at], [row + 0.1, _EVENTS], color=ink, lw=1)
            is_left = strip.transData.transform((at, 0))[0] + len(text) * _LETTER < _WIDTH
            style: dict[str, Any] = {"color": ink, "weight": "bold", "va": "center"}
            style |= {"ha": "left" if is_left else "right", "bbox": _PAPER}
            x = at + np.diff(strip.get_xlim()).item() / (160 if is_left else -160)
            strip.text(x, row + 0.5, text, **style)
            before = self._at[span.first if span.last_good is None else span.last_good]
            for axes in panels if finding.level >= Level.WARNING else ():
                line = "-" if finding.level is Level.ERROR else "--"
                axes.axvline(at, color=ink, lw=1, ls=line, zorder=1.5)
                axes.axvspan(before, at, color=ink, alpha=0.1, lw=0, zorder=0.5)

    def _draw_lines(
        self, axes: Axes, values: NDArray[Any], title: str, ticks: dict[float, str]
    ) -> None:
        """Draw how far all layers were from their last values."""
        top = max(1.0, 1.5 * float(np.nan_to_num(values).max(initial=0)))
        axes.set_yscale("symlog", linthresh=_SETTLED)
        axes.set_yticks(list(ticks), list(ticks.values()))
        axes.set_ylim(-0.01, min(top, _FARTHEST))  # after the ticks, which widen it
        axes.minorticks_off()
        axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
        told = f"how far from its last value was its {title}"
        if len(self._at) > _NAMED:  # fewer tell nothing
            axes.fill_between(self._at[[self._third, -1]], -0.01, _SETTLED, color=_BOX, lw=0)
            told += "; a line above the box is of a layer that still drifts"
        axes.set_title(told)
        for number, name in enumerate(self._names):
            if name not in self._colours:
                ink, order = (_FOUND, 2.1) if name in self._levels else (_REST, 2.0)
                self._draw_line(axes, values[:, number], color=ink, lw=0.8, zorder=order)
        ends = []
        for mark, (name, ink) in zip(_MARKS, self._colours.items(), strict=False):
            style = {"marker": mark if len(self._points) <= _MANY else None, "markersize": 4}
            number = self._names.index(name)
            end = self._draw_line(axes, values[:, number], color=ink, lw=1.8, zorder=3, **style)
            if end is None:  # never a finite value
                first = next(n for n, point in enumerate(self._points) if name in point.layers)
                end = float(self._at[first]), 0.0
                axes.plot(*end, "x", color=ink)
            ends.append((*end, name))
        self._name_ends(axes, ends)

    def _draw_line(
        self, axes: Axes, values: NDArray[Any], **style: Any
    ) -> tuple[float, float] | None:
        """Draw a line with its gaps, and return where it ends, None if there is none."""
        known = np.isfinite(values)
        if not known.any():
            return None
        axes.plot(self._at, values, **style)
        last = int(np.flatnonzero(known)[-1])
        end = float(self._at[last]), float(values[last])
        for number in np.flatnonzero(known[:-1] & ~known[1:]).tolist():
            at, y = float(self._at[number + 1]), float(values[number])
            cross = {"marker": "x", "markevery": [1], "markersize": 7, "markeredgewidth": 1.8}
            axes.plot([self._at[number], at], [y, y], ":", **(style | {"lw": 1} | cross))
            end = (at, y) if number == last else end
        return end

    def _name_ends(self, axes: Axes, ends: Sequence[tuple[float, float, str]]) -> list[float]:
        """Name the ends of lines, the names apart from each other; return their pixels."""
        low, high = sorted(axes.get_ylim())
        inside = [(x, min(max(y, low), high)) for x, y, _ in ends]
        pixels = [float(axes.transData.transform(each)[1]) for each in inside]
        apart = _apart(pixels, float(axes.bbox.y0), float(axes.bbox.y1))
        for place, y, goal, (_, _, name) in zip(inside, pixels, apart, ends, strict=True):
            codes = "".join(f" {code}" for code in list(dict.fromkeys(self._codes[name]))[:2])
            text = self._called(name, _LONGEST - len(codes)) + codes
            self._name(axes, text, place, goal - y, self._colours[name])
        return apart

    def _name(self, axes: Axes, text: str, at: tuple[float, float], up: float, ink: str) -> None:
        """Write a name beside a place, and a line to it; `up` is in pixels."""
        arrow = {"arrowstyle": "-", "color": ink, "linewidth": 0.7, "relpos": (0, 0.5)}
        style: dict[str, Any] = {"va": "center", "color": ink, "bbox": _PAPER, "arrowprops": arrow}
        style |= {"weight": "normal" if ink == _NOTED else "bold", "annotation_clip": False}
        axes.annotate(text, at, (12, up * 72 / _DPI), textcoords="offset points", **style)

    def _draw_heat(self, axes: Axes) -> None:
        """Draw how far each layer went between every two checkpoints."""
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LogNorm, to_rgba

        axes.set_title("how far each layer went from checkpoint to checkpoint: divergence, in nats")
        axes.set_ylim(max(len(self._names), 1), 0)
        axes.set_yticks([])
        colours = ScalarMappable(LogNorm(*_DIVERGENCES), colormaps["YlGnBu"])
        values, damaged = divergences(self._points, self._names)
        if values.size:
            axes.axvspan(self._at[0], self._at[-1], **_UNDEFINED, zorder=0.6)
            cells = colours.to_rgba(np.ma.masked_invalid(values))
            cells[np.isnan(values)] = 0  # transparent
            cells[values == 0] = to_rgba(_UNCHANGED)
            cells[damaged] = to_rgba(_WRONG)
            axes.pcolormesh(self._at, np.arange(len(values) + 1), cells, rasterized=True)
        else:
            axes.text(0.5, 0.5, "nothing to compare", transform=axes.transAxes, ha="center")
        if len(self._names) <= _MANY:
            axes.hlines(range(len(self._names)), *self._at[[0, -1]], color="white", linewidth=1)
        height = min(self._heat, _PANEL) / self._height
        place = (0.75 * _LEFT / _WIDTH, axes.get_position().y1 - height, 10 / _WIDTH, height)
        bar = self.figure.add_axes(place)
        self.figure.colorbar(colours, cax=bar, ticklocation="left", format="{x:.5g}")
        bar.minorticks_off()

    def _draw_rows(self, axes: Axes) -> None:
        """Name the rows of the heat map, or those that there is room for."""
        x, rows = axes.get_xlim()[1], {name: n + 0.5 for n, name in enumerate(self._names)}
        taken = self._name_ends(axes, [(x, rows[name], name) for name in self._colours])
        for name, y in rows.items():
            pixel = float(axes.transData.transform((x, y))[1])
            if name not in self._colours and all(abs(pixel - each) >= _LINE for each in taken):
                taken.append(pixel)
                self._name(axes, self._called(name), (x, y), 0, _NOTED)

    def _draw_steps(self, axes: Axes) -> None:
        """Label the checkpoints, or round steps where there are too many of them."""
        from matplotlib.ticker import MaxNLocator

        shown = [0]
        for number, at in enumerate(self._at):
            if at - self._at[shown[-1]] >= (self._at[-1] - self._at[0]) / _TICKS:
                shown.append(number)
        axes.tick_params(bottom=True, labelbottom=True)
        axes.set_xticks(self._at[shown], [self._point(each).split()[1] for each in shown])
        if self._is_to_scale and len(self._at) > _TICKS:
            axes.xaxis.set_major_locator(MaxNLocator(_TICKS, integer=True))
            axes.xaxis.set_major_formatter("{x:,.0f}")
        is_known = all(point.step is not None for point in self._points)
        scale = "" if self._is_to_scale else " (not to scale)"
        axes.set_xlabel(f"step{scale}" if is_known else "number of the checkpoint")

    def _draw_legend(self) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        others = [name for name in self._names if name not in self._colours]
        found = sum(name in self._levels for name in others)
        handles: list[Patch | Line2D] = [
            Patch(facecolor=_UNCHANGED, label="unchanged"),
            Patch(facecolor=_WRONG, label="NaN or Inf"),
            Patch(**_UNDEFINED, label="not defined"),
            Line2D([], [], color="black", ls=":", marker="x", label="no finite value from here"),
        ]
        for ink, count in ((_FOUND, found), (_REST, len(others) - found)):
            told = f"{count:,} other layer{'' if count == 1 else 's'}"
            told += " with findings" if ink == _FOUND else ""
            handles += [Line2D([], [], color=ink, label=told)] if count else []
        place = (_LEFT / _WIDTH, 16 / self._height)
        style: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": place, "frameon": False}
        self.figure.legend(handles=handles, ncols=len(handles), **style)


def _apart(pixels: Sequence[float], low: float, high: float) -> list[float]:
    """Return places nearby that are a line apart and inside; of equals, the first is on top."""
    order = sorted(range(len(pixels)), key=lambda number: (pixels[number], -number))
    apart = list(pixels)
    for number in order:
        apart[number] = low = max(apart[number], low)
        low += _LINE
    for number in reversed(order):
        apart[number] = high = min(apart[number], high)
        high -= _LINE
    return apart
