"""The JSON report of `bncheck verify`, schema version 1: see `verify-schema-v1.json` beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bncheck.report.json_format import dump
from bncheck.report.verify_model import Weight
from bncheck.version import __version__

if TYPE_CHECKING:
    from bncheck.report.verify_model import Verification

SCHEMA_VERSION: Final = 1


def to_json(report: Verification) -> str:
    """Return the report as JSON text, with a line break at its end."""
    return dump(to_dict(report))


def to_dict(report: Verification) -> dict[str, Any]:
    """Return the report as plain dicts, lists, strings and numbers."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "bncheck", "version": __version__},
        "checkpoint": {
            "path": report.path,
            "format": report.format,
            "tensors": report.tensors,
            "remarks": list(report.remarks),
        },
        "files": [file._asdict() for file in report.files],
        "problems": [
            {**problem._asdict(), "weight": str(problem.weight)} for problem in report.problems
        ],
        "summary": {
            "bytes": report.size,
            "checked": report.checked,
            **{str(weight): report.count(weight) for weight in sorted(Weight, reverse=True)},
            "verdict": report.verdict.value,
        },
    }
