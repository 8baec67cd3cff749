"""The JSON and CSV reports of `bncheck history`: see `history-schema-v1.json` beside this file."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any, Final

from bncheck.batchnorm.names import STATISTICS
from bncheck.report.escape import encodable
from bncheck.report.json_format import dump, findings_to_dicts, skipped_to_dicts
from bncheck.rules.rule import Level
from bncheck.version import __version__

if TYPE_CHECKING:
    from bncheck.batchnorm.statistics import Summary
    from bncheck.report.history_model import Gone, HistoryReport, LayerPoint, Point, Span

SCHEMA_VERSION: Final = 1
_NUMBERS: Final = ("average", "std", "min", "max")
CSV_COLUMNS: Final = (
    *("step", "path", "layer", "status", "channels"),
    *(f"{role.value}_{number}" for role in STATISTICS for number in _NUMBERS),
    *("nonfinite", "divergence", "weights_moved", "rules"),
)
"""The columns of the CSV report; `rules` are the codes that began to hold there, with blanks."""


def to_json(report: HistoryReport) -> str:
    """Return the report as JSON text, with a line break at its end."""
    return dump(to_dict(report))


def to_dict(report: HistoryReport) -> dict[str, Any]:
    """Return the report as plain dicts, lists, strings and numbers."""
    findings = findings_to_dicts((), report.findings)
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "bncheck", "version": __version__},
        "paths": list(report.paths),
        "remarks": list(report.remarks),
        "checkpoints": [
            {
                "path": point.path,
                "format": point.format,
                "step": point.step,
                "step_told_by": point.told_by or None,
                "weights_moved": point.weights_moved,
                "layers": len(point.layers),
            }
            for point in report.points
        ],
        "layers": [
            {
                "name": name,
                "state": trend.state or None,
                "initial_left": trend.initial_left,
                "initial_left_is_bound": trend.is_bound,
                "momentum": trend.momentum,
                "stopped_at": _called(report, trend.stopped_at),
                "points": [_layer_point(point.layers.get(name)) for point in report.points],
            }
            for name, trend in report.layers.items()
        ],
        "findings": [
            finding | {"span": _span(report, span)}
            for finding, span in zip(findings, report.spans, strict=True)
        ],
        "gone": [_gone(report, each) for each in report.gone],
        "left_out": [{"what": path, "reason": reason} for path, reason in report.passing.items()],
        "skipped": skipped_to_dicts(report.skipped),
        "summary": {
            "checkpoints": len(report.points),
            "layers": len(report.layers),
            **{str(level): report.count(level) for level in sorted(Level, reverse=True)},
            "verdict": report.verdict.value,
        },
    }


def _layer_point(point: LayerPoint | None) -> dict[str, Any] | None:
    if point is None:
        return None
    return {
        "status": point.status.value,
        "channels": point.channels,
        "divergence": point.divergence,
        **{
            role.value: _summary(point.summaries[role]) if role in point.summaries else None
            for role in STATISTICS
        },
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "average": summary.mean,
        "std": summary.std,
        "min": summary.minimum,
        "max": summary.maximum,
        "nonfinite": summary.nonfinite,
    }


def _called(report: HistoryReport, number: int | None) -> dict[str, Any] | None:
    if number is None:
        return None
    point = report.points[number]
    return {"path": point.path, "step": point.step}


def _span(report: HistoryReport, span: Span) -> dict[str, Any]:
    return {
        "first": _called(report, span.first),
        "last": _called(report, span.last),
        "last_good": _called(report, span.last_good),
    }


def _gone(report: HistoryReport, each: Gone) -> dict[str, Any]:
    span = _span(report, each.span)
    return {"rule": each.rule, "name": each.name, "layer": each.layer, "span": span}


def to_csv(report: HistoryReport) -> str:
    """Return a row for each layer of each checkpoint, below a header; NaN and Inf are empty."""
    begun: dict[tuple[int, str], list[str]] = {}
    for finding, span in zip(report.findings, report.spans, strict=True):
        begun.setdefault((span.first, finding.layer), []).append(finding.rule.code)
    for each in report.gone:
        begun.setdefault((each.span.first, each.layer), []).append(each.rule)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for number, point in enumerate(report.points):
        for name, layer in point.layers.items():
            codes = [*begun.get((number, name), []), *begun.get((number, ""), [])]
            writer.writerow(_row(point, name, layer, codes))
    return out.getvalue()


def _row(point: Point, name: str, layer: LayerPoint, codes: list[str]) -> list[object]:
    summaries = [layer.summaries.get(role) for role in STATISTICS]
    numbers = [
        value
        for summary in summaries
        for value in (
            (summary.mean, summary.std, summary.minimum, summary.maximum)
            if summary is not None
            else (None,) * len(_NUMBERS)
        )
    ]
    nonfinite = sum(summary.nonfinite for summary in summaries if summary is not None)
    told = (point.step, _cell(point.path), _cell(name), layer.status.value, layer.channels)
    return [
        *("" if value is None else value for value in told),
        *map(_number, numbers),
        nonfinite,
        _number(layer.divergence),
        "" if point.weights_moved is None else str(point.weights_moved).lower(),
        " ".join(codes),
    ]


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.9g}"


def _cell(text: str) -> str:
    """Return a name for a table: what a spreadsheet would take for a formula is led by a quote."""
    text = encodable(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
