"""The JSON report, schema version 1: `schema-v1.json` beside this file describes it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from bncheck.batchnorm.names import AFFINE, RENORM, STATISTICS, Role
from bncheck.report.escape import encodable
from bncheck.report.model import fingerprints
from bncheck.rules.rule import Level
from bncheck.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bncheck.batchnorm.layers import Layer, Member
    from bncheck.report.model import Report, Skipped
    from bncheck.rules.rule import Finding

SCHEMA_VERSION: Final = 1


def to_json(report: Report, *, everything: bool = False) -> str:
    """Return the report as JSON text, with a line break at its end.

    Numbers that are not finite are null. `everything` adds the list of all variables.
    """
    content = to_dict(report)
    if everything:
        content["variables"] = [
            {
                "name": each.name,
                "shape": list(each.shape),
                "dtype": each.dtype,
                "full_name": report.structure.full_names.get(each.name) or None,
            }
            for each in report.variables.values()
        ]
    return dump(content)


def to_dict(report: Report) -> dict[str, Any]:
    """Return the report as plain dicts, lists, strings and numbers."""
    graph, assignment = report.graph, report.assignment
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "bncheck", "version": __version__},
        "checkpoint": {
            "path": report.path,
            "format": report.format,
            "step": report.step,
            "step_source": report.step_source,
            "variables": len(report.variables),
            "remarks": list(report.remarks),
        },
        "graph": graph
        and {
            "source": graph.source,
            "kind": graph.kind,
            "variables": len(graph.variables),
            "role": graph.role,
            "collection": report.collection,
            "remarks": list(report.graph_remarks),
        },
        "layers": [_layer(layer, report) for layer in report.layers],
        "assignment": assignment
        and {
            "matched": len(assignment.matched),
            "graph_only": list(assignment.graph_only),
            "checkpoint_only": list(assignment.checkpoint_only),
            "renames": [
                {"from": each.from_prefix, "to": each.to_prefix, "matches": each.matches}
                for each in assignment.renames
            ],
        },
        "findings": findings_to_dicts(report.layers, report.findings),
        "skipped": skipped_to_dicts(report.skipped),
        "summary": {
            "layers": len(report.layers),
            **{str(level): report.count(level) for level in sorted(Level, reverse=True)},
            "suppressed": report.suppressed,
            "verdict": report.verdict.value,
        },
    }


def _layer(layer: Layer, report: Report) -> dict[str, Any]:
    either = layer.saved(Role.GAMMA_OR_BETA)
    renorm = {
        role.value: _member(layer.saved(role), report) for role in RENORM if layer.saved(role)
    }
    return {
        "name": layer.name,
        "channels": layer.channels,
        "momentum": layer.momentum,
        "epsilon": layer.epsilon,
        "trainable": layer.config and layer.config.trainable,
        "status": layer.status.value,
        **{role.value: _member(layer.saved(role), report) for role in (*AFFINE, *STATISTICS)},
        **({Role.GAMMA_OR_BETA.value: _member(either, report)} if either else {}),
        "renorm": renorm,
    }


def _member(member: Member | None, report: Report) -> dict[str, Any] | None:
    if member is None or member.variable is None:
        return None
    summary = member.summary
    return {
        "name": member.name,
        "shape": list(member.variable.shape),
        "dtype": member.variable.dtype,
        "min": summary and summary.minimum,
        "max": summary and summary.maximum,
        "mean": summary and summary.mean,
        "std": summary and summary.std,
        "nonfinite": summary and summary.nonfinite,
        "initial": member.initial,
        "graph": report.graph_used.get(member.name),
    }


def findings_to_dicts(layers: Iterable[Layer], findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the findings as a report in JSON has them."""
    identities = fingerprints(layers, findings)
    return [
        finding_to_dict(each, identity) for each, identity in zip(findings, identities, strict=True)
    ]


def skipped_to_dicts(skipped: Iterable[Skipped]) -> list[dict[str, str]]:
    """Return what could not be audited as a report in JSON has it."""
    return [{"what": each.what, "reason": each.reason} for each in skipped]


def dump(content: dict[str, Any]) -> str:
    """Return a report as JSON text, with a line break at its end; what is not finite is null."""
    return json.dumps(_clean(content), indent=1, allow_nan=False) + "\n"


def finding_to_dict(finding: Finding, identity: str) -> dict[str, Any]:
    """Return one finding as a report in JSON has it."""
    return {
        "rule": finding.rule.code,
        "name": finding.rule.name,
        "level": str(finding.level),
        "layer": finding.layer,
        "variables": list(finding.variables),
        "message": finding.message,
        "evidence": dict(finding.evidence),
        "explains": list(finding.explains),
        "help": finding.help,
        "fingerprint": identity,
    }


def _clean(value: Any) -> Any:
    """Return the value with non-finite numbers as null and every string encodable."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {encodable(key): _clean(each) for key, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, (list, tuple)) else value
