"""The JSON report of `bncheck diff`, schema version 1: see `diff-schema-v1.json` beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bncheck.batchnorm.names import STATISTICS, Kind, Role
from bncheck.report.json_format import dump, findings_to_dicts, skipped_to_dicts
from bncheck.rules.rule import Level
from bncheck.version import __version__

if TYPE_CHECKING:
    from bncheck.changes.model import LayerChange, Others, Pairs, RoleChange
    from bncheck.report.diff_model import DiffReport
    from bncheck.snapshot import Snapshot

SCHEMA_VERSION: Final = 1
KINDS: Final = {
    Kind.WEIGHT: "weights",
    Kind.SHADOW: "moving_averages",
    Kind.SLOT: "slots",
    Kind.COUNTER: "counters",
}


def to_json(report: DiffReport) -> str:
    """Return the report as JSON text, with a line break at its end."""
    return dump(to_dict(report))


def to_dict(report: DiffReport) -> dict[str, Any]:
    """Return the report as plain dicts, lists, strings and numbers."""
    comparison = report.comparison
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "bncheck", "version": __version__},
        "a": side_to_dict(comparison.before),
        "b": side_to_dict(comparison.after),
        "tolerance": report.tolerance,
        "layer_glob": report.glob,
        "remarks": list(report.remarks),
        "layers": [_layer(each) for each in comparison.layers],
        "only_in_a": [each.name for each in comparison.pairs.only_before],
        "only_in_b": [each.name for each in comparison.pairs.only_after],
        "renames": [
            {"rename": each.edit.option, "description": each.description, "matches": each.gains}
            for each in comparison.pairs.renames
        ],
        "shifts": _shifts(comparison.pairs),
        "others": _others(comparison.others),
        "findings": findings_to_dicts(comparison.after.layers, report.findings),
        "skipped": skipped_to_dicts(report.skipped),
        "summary": {
            "layers": len(comparison.layers),
            "identical": sum(
                all(role.change.is_none for role in each.roles.values())
                for each in comparison.layers
            ),
            **{str(level): report.count(level) for level in sorted(Level, reverse=True)},
            "suppressed": report.suppressed,
            "verdict": report.verdict.value,
        },
    }


def side_to_dict(snapshot: Snapshot) -> dict[str, Any]:
    """Return what a checkpoint is, as all reports of several have it."""
    checkpoint = snapshot.checkpoint
    return {
        "path": checkpoint.path,
        "format": checkpoint.format,
        "step": snapshot.step,
        "step_source": snapshot.step_source,
        "variables": len(checkpoint.variables),
        "layers": len(snapshot.layers),
    }


def _layer(change: LayerChange) -> dict[str, Any]:
    pair = change.pair
    return {
        "name": pair.after.name,
        "name_in_a": pair.before.name,
        "paired_by": pair.by.value,
        "channels": pair.after.channels,
        "status_in_a": pair.before.status.value,
        "status": pair.after.status.value,
        "divergence": change.divergence,
        "undefined_channels": change.undefined,
        "roles": {role.value: _role(role, each) for role, each in change.roles.items()},
    }


def _role(role: Role, change: RoleChange) -> dict[str, Any]:
    members = {"a": change.before, "b": change.after}
    measure = change.measure
    content: dict[str, Any] = {"change": change.change.value}
    for side, member in members.items():
        variable = None if member is None else member.variable
        content[side] = variable and {
            "name": variable.name,
            "shape": list(variable.shape),
            "dtype": variable.dtype,
            "initial": member and member.initial,
        }
    if role is STATISTICS[0]:
        content |= {"shift": measure.shift, "largest_shift": measure.most}
    elif role is STATISTICS[1]:
        content |= {
            "ratio": measure.shift,
            "smallest_ratio": measure.least,
            "largest_ratio": measure.most,
        }
    else:
        content["relative_change"] = 0.0 if change.change.is_none else measure.shift
    content["factor"] = change.factor
    content["source"] = change.source and change.source.value
    return content


def _shifts(pairs: Pairs) -> list[dict[str, Any]]:
    return [
        {
            "offset": shift.offset,
            "proof": shift.proof,
            "layers": [{"a": old, "b": new} for old, new in shift.layers],
        }
        for shift in pairs.shifts
    ]


def _others(others: Others) -> dict[str, Any]:
    return {
        **{
            name: {"identical": others.identical.get(kind, 0), "differ": others.differ.get(kind, 0)}
            for kind, name in KINDS.items()
        },
        "precision_copies": others.copies,
        "only_in_a": list(others.only_before),
        "only_in_b": list(others.only_after),
    }
