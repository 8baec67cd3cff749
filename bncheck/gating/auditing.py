"""Auditing one checkpoint of many: as `bncheck inspect` does, but by a policy, and kept small."""

from __future__ import annotations

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


def ruling_for(path: str, request: Request) -> Ruling:
    """Lay the sections that hold for a path over each other: a later one wins where it speaks.

    Patterns of momenta and rules to ignore add up; the last section that selects does so alone.
    """
    sections = [s for s in request.policy.sections if s.path == "*" or fits_path(path, s.path)]
    sections.append(request.given)
    select = next((s.select for s in reversed(sections) if s.select), ())
    ignore = {code for section in sections for code in section.ignore}
    rules = None
    if select or ignore:
        rules = tuple(
            r for r in all_rules() if (not select or r.code in select) and r.code not in ignore
        )
    levels: dict[str, Level] = {}
    thresholds: dict[str, float] = {}
    for section in sections:
        levels |= section.levels
        thresholds |= section.thresholds
    fail_on = _last([s.fail_on for s in sections]) or "error"
    return Ruling(
        rules=rules,
        levels=levels,
        fail_on=FailOn[fail_on.upper()],
        momentum=_last([s.momentum for s in sections]),
        momenta=tuple(each for section in reversed(sections) for each in section.momenta),
        thresholds=Thresholds()._replace(**thresholds),
        require_batch_norm=bool(_last([s.require_batch_norm for s in sections])),
    )


def _last(values: list[_T | None]) -> _T | None:
    return next((value for value in reversed(values) if value is not None), None)


def audit(target: Target, request: Request) -> Audited:
    """Audit one checkpoint; whatever keeps it from being audited is in the result."""
    if target.problem:
        return Audited(target.path, skipped=(Skipped(target.path, target.problem),))
    ruling = ruling_for(target.path, request)
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
        return Audited(target.path, skipped=skipped, fail_on=ruling.fail_on)
    except MemoryError:
        skipped = (Skipped(target.path, "there is not enough memory to read this"),)
        return Audited(target.path, skipped=skipped, fail_on=ruling.fail_on)
    report = replace(report, findings=tuple(_levelled(report.findings, ruling.levels)))
    return _small(report, target, ruling, request)


def _levelled(findings: tuple[Finding, ...], levels: dict[str, Level]) -> list[Finding]:
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
    )
