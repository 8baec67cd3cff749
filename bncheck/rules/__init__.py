"""The rules: small functions from evidence to findings, one file a family."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

# Importing a family registers its rules, in the order of their codes.
from bncheck.rules import (
    averages,  # noqa: F401
    changed,  # noqa: F401
    dataflow,  # noqa: F401
    layer_set,  # noqa: F401
    program,  # noqa: F401
    restored,  # noqa: F401
    saved,  # noqa: F401
    trained,  # noqa: F401
    values,  # noqa: F401
)
from bncheck.rules.rule import RULES, Evidence, Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Collection

    from bncheck.changes.model import Comparison
    from bncheck.snapshot import Snapshot


def all_rules() -> list[Rule]:
    """Return every rule in the order of the codes."""
    return [RULES[code] for code in sorted(RULES)]


def find_rule(name: str) -> Rule | None:
    """Return the rule of a code or a name, whatever its case; None where there is none."""
    wanted = name.strip().lower()
    return next((r for r in all_rules() if wanted in (r.code.lower(), r.name)), None)


def evidence_of(snapshot: Snapshot, comparison: Comparison | None = None) -> Evidence:
    """Return the evidence of one checkpoint without a graph, or of two that were compared."""
    structure = snapshot.checkpoint.structure
    return Evidence(
        variables=snapshot.checkpoint.variables,
        layers=snapshot.layers,
        unknown=snapshot.unknown,
        step=snapshot.step,
        slots=structure.slots,
        ambiguous=structure.ambiguous,
        keras=structure.tells_layers,
        comparison=comparison,
    )


def judge(evidence: Evidence, rules: Collection[Rule]) -> list[Finding]:
    """Return what the rules find, the worst first, each cause once.

    A finding that another one of the same layer explains is left out; the one that stays names it
    in `explains`.
    """
    found = [finding for rule in rules for finding in rule.check(evidence)]
    there = {(finding.layer, finding.rule.code) for finding in found}
    explained = {(finding.layer, code) for finding in found for code in finding.explains}
    kept = [
        replace(finding, explains=tuple(c for c in finding.explains if (finding.layer, c) in there))
        for finding in found
        if (finding.layer, finding.rule.code) not in explained
    ]
    kept = _without_echoes(kept)
    return sorted(kept, key=lambda finding: (-finding.level, finding.rule.code, finding.layer))


def _without_echoes(findings: list[Finding]) -> list[Finding]:
    """Leave out BN401 where BN101 and BN102 say already that the checkpoint lacks all of it."""
    missing = {"BN101": "moving_mean", "BN102": "moving_variance"}
    said = {(f.layer, missing[f.rule.code]) for f in findings if f.rule.code in missing}
    return [
        finding
        for finding in findings
        if finding.rule.code != "BN401"
        or any((finding.layer, role) not in said for role in finding.evidence["keeps_initializer"])
    ]
