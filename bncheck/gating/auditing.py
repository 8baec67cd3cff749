"""Auditing one checkpoint of many: as `bncheck inspect` does, but by a policy, and kept small."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from bncheck.audit import Options, inspect
from bncheck.config.policy import Policy, Section, fits_path
from bncheck.errors import BncheckError
from bncheck.report.gate_model import Audited, LayerLine
from bncheck.report.model import FailOn, Skipped, fingerprints
from bncheck.rules import all_rules
from bncheck.rules.rule import Level, Thresholds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bncheck.gating.targets import Target
    from bncheck.report.model import Report
    from bncheck.rules.rule import Finding, Rule


_T = TypeVar("_T")


class Request(NamedTuple):
    """What is the same for all checkpoints of a gate.

    `given` is what the command line and the environment say, which wins over the policy;
    `with_content` asks for each checkpoint's own JSON report.
    """

    policy: Policy
    given: Section = Section()
    graph: str | None = None
    use_graph: bool = True
    collection: str = "global"
    step: int | None = None
    with_content: bool = False


class Ruling(NamedTuple):
    """What the policy comes to for one checkpoint."""

    rules: tuple[Rule, ...] | None
    levels: dict[str, Level]
    fail_on: FailOn
    momentum: float | None
    momenta: tuple[tuple[str, float], ...]
    thresholds: Thresholds
    require_batch_norm: bool


def ruling_for(names: Sequence[str], request: Request) -> Ruling:
    """Lay the sections that hold for a checkpoint over each other: a later one wins.

    `names` are the paths that it goes by. What a later section selects, an earlier one cannot
    ignore; patterns of momenta add up.
    """
    sections = [
        section
        for section in request.policy.sections
        if section.path == "*" or any(fits_path(name, section.path) for name in names)
    ]
    sections.append(request.given)
    wanted = {rule.code for rule in all_rules()}
    levels: dict[str, Level] = {}
    thresholds: dict[str, float] = {}
    for section in sections:
        if section.select:
            wanted = set(section.select)
        wanted -= set(section.ignore)
        levels |= section.levels
        thresholds |= section.thresholds
    fail_on = _last([s.fail_on for s in sections]) or "error"
    rules = tuple(rule for rule in all_rules() if rule.code in wanted)
    return Ruling(
        rules=rules if len(rules) < len(all_rules()) else None,
        levels=levels,
        fail_on=FailOn[fail_on.upper()],
        momentum=_last([s.momentum for s in sections]),
        momenta=tuple(each for section in reversed(sections) for each in section.momenta),
        thresholds=Thresholds()._replace(**thresholds),
        require_batch_norm=bool(_last([s.require_batch_norm for s in sections])),
    )


def names_of(target: Target, policy: Policy) -> list[str]:
    """Return the paths that patterns may mean: as given, and as seen from the policy's file.

    Each as it is, and as the prefix that it leads to; spelled without detours.
    """
    names = []
    for path in filter(None, (target.path, target.prefix)):
        names.append(os.path.normpath(path))
        if policy.source is not None:
            here = os.path.dirname(os.path.realpath(policy.source))
            names.append(os.path.relpath(os.path.realpath(os.path.dirname(path) or "."), here))
            names[-1] = os.path.normpath(os.path.join(names[-1], os.path.basename(path)))
    return list(dict.fromkeys(names))


def _last(values: list[_T | None]) -> _T | None:
    return next((value for value in reversed(values) if value is not None), None)


def audit(target: Target, request: Request) -> Audited:
    """Audit one checkpoint; whatever keeps it from being audited is in the result."""
    if target.problem:
        return Audited(target.path, skipped=(Skipped(target.path, target.problem),))
    ruling = ruling_for(names_of(target, request.policy), request)
    if ruling.rules is not None and not ruling.rules:
        # An empty variable in a script must not turn the gate into an open door.
        skipped = (Skipped(target.path, "the policy leaves no rule to judge by"),)
        return Audited(target.path, skipped=skipped, prefix=target.prefix)
    options = Options(
        graph=request.graph,
        use_graph=request.use_graph,
        collection=request.collection,
        rules=ruling.rules,
        fail_on=ruling.fail_on,
        momentum=ruling.momentum,
        step=request.step,
        momenta=ruling.momenta,
        thresholds=ruling.thresholds,
        require_batch_norm=ruling.require_batch_norm,
    )
    try:
        report = inspect(target.path, options)
    except BncheckError as error:
        skipped = (Skipped(error.path, error.reason),)
        return Audited(target.path, skipped=skipped, fail_on=ruling.fail_on, prefix=target.prefix)
    except MemoryError:
        skipped = (Skipped(target.path, "there is not enough memory to read this"),)
        return Audited(target.path, skipped=skipped, fail_on=ruling.fail_on, prefix=target.prefix)
    findings = [*report.findings, *_uncovered(target.path, report, options, ruling.levels)]
    report = replace(report, findings=tuple(_levelled(findings, ruling.levels)))
    return _small(report, target, ruling, request)


def _uncovered(
    path: str, report: Report, options: Options, levels: Mapping[str, Level]
) -> list[Finding]:
    """Return what findings explain that the policy takes lighter than their rules do.

    A cause that is let pass must not cover an error of its own right: as where it is ignored, what
    it explains comes back, if it is worse than the cause now is.
    """
    lighter = [
        f for f in report.findings if f.explains and levels.get(f.rule.code, f.level) < f.level
    ]
    if not lighter:
        return []
    behind = {
        (finding.layer, code): levels[finding.rule.code]
        for finding in lighter
        for code in finding.explains
    }
    causes = {finding.rule.code for finding in lighter}
    rules = options.rules or tuple(all_rules())
    again = inspect(path, replace(options, rules=tuple(r for r in rules if r.code not in causes)))
    return [
        each
        for each in again.findings
        if each.level > behind.get((each.layer, each.rule.code), each.level)
    ]


def _levelled(findings: Sequence[Finding], levels: Mapping[str, Level]) -> list[Finding]:
    """Return the findings at the levels that the policy gives their rules, the worst first."""
    changed = [replace(f, level=levels.get(f.rule.code, f.level)) for f in findings]
    return sorted(changed, key=lambda f: (-f.level, f.rule.code, f.layer))


def _small(report: Report, target: Target, ruling: Ruling, request: Request) -> Audited:
    """Keep of a report what a gate shows, and no values: there may be thousands of them."""
    content = None
    if request.with_content:
        from bncheck.report.json_format import to_dict

        content = to_dict(report)
    return Audited(
        path=target.path,
        format=report.format,
        step=report.step,
        variables=len(report.variables),
        graph=None if report.graph is None else report.graph.source,
        layers=tuple(LayerLine(e.name, e.channels, e.status.value) for e in report.layers),
        findings=report.findings,
        fingerprints=tuple(fingerprints(report.layers, report.findings)),
        skipped=report.skipped,
        remarks=report.remarks,
        fail_on=ruling.fail_on,
        content=content,
        prefix=target.prefix,
    )
