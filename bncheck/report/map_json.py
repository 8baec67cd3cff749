"""The JSON report of `bncheck map`, schema version 1: see `map-schema-v1.json` beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bncheck.assignment.loaders import CALLS
from bncheck.report.json_format import dump
from bncheck.report.map_model import Fate, Match
from bncheck.version import __version__

if TYPE_CHECKING:
    from bncheck.report.map_model import MapReport, Row

SCHEMA_VERSION: Final = 1


def to_json(report: MapReport) -> str:
    """Return the report as JSON text, with a line break at its end."""
    return dump(to_dict(report))


def to_dict(report: MapReport) -> dict[str, Any]:
    """Return the report as plain dicts, lists, strings and numbers."""
    checkpoint, graph, outcome = report.checkpoint, report.graph, report.outcome
    asked, restored = report.statistics
    rehearsal = report.rehearsal
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "bncheck", "version": __version__},
        "checkpoint": {
            "path": checkpoint.path,
            "format": checkpoint.format,
            "variables": len(checkpoint.variables),
        },
        "graph": {"source": graph.source, "kind": graph.kind, "variables": len(graph.variables)},
        "loader": {
            "name": outcome.loader.value,
            "call": CALLS[outcome.loader],
            "given": outcome.source,
            "raises": outcome.raises,
        },
        "headline": report.headline,
        "statistics": {"asked": asked, "restored": restored},
        "assignment_map": dict(report.assignment_map),
        "variables": [_row(row, report) for row in report.rows],
        "renames": {
            "applied": [
                {"rename": each.edit.option, "renamed": each.renamed, "gained": each.gained}
                for each in report.applied
            ],
            "suggested": [
                {
                    "description": each.description,
                    "rename": each.edit.option,
                    "gains": each.gains,
                    "alternatives": [
                        {"description": description, "rename": edit.option}
                        for description, edit in each.alternatives
                    ],
                }
                for each in report.suggestions
            ],
        },
        "rehearsal": rehearsal
        and {
            "tensorflow": rehearsal.tensorflow or None,
            "agrees": rehearsal.agrees,
            "failed": rehearsal.failed or None,
            "raised": rehearsal.raised or None,
            "seen": {name: seen.value for name, seen in rehearsal.seen.items()},
            "disagreements": dict(rehearsal.disagreements),
        },
        "summary": {
            **{kind.value: report.count(kind) for kind in (*Match, *Fate)},
            "verdict": report.verdict.value,
        },
    }


def _row(row: Row, report: MapReport) -> dict[str, Any]:
    saved = report.checkpoint.variables[row.key] if row.key is not None else None
    wanted = report.graph.variables[row.name] if row.name is not None else None
    return {
        "key": row.key,
        "name": row.name,
        "layer": row.place and row.place.layer,
        "role": row.place and row.place.role.value,
        "match": row.match.value,
        "loader": row.fate and row.fate.value,
        "reason": row.reason or None,
        "checkpoint_shape": saved and list(saved.shape),
        "checkpoint_dtype": saved and saved.dtype,
        "graph_shape": None if wanted is None or wanted.shape is None else list(wanted.shape),
        "graph_dtype": (wanted and wanted.dtype) or None,
    }
