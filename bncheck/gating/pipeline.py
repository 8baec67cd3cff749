"""The pipeline of `bncheck gate`: targets, audits in parallel, the policy, the report."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from bncheck.gating.auditing import Request, audit, names_of
from bncheck.gating.baseline import read_baseline
from bncheck.gating.targets import Target, find_targets
from bncheck.parallel import in_processes, processors
from bncheck.report.gate_model import Audited, GateReport, Suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bncheck.config.policy import Exemption, Policy
    from bncheck.rules.rule import Finding

_FEWEST = 4  # checkpoints below which starting processes takes longer than reading
_AT_ONCE = 16  # checkpoints that one process takes at a time


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the user may ask of a gate; see the command line's help for each.

    `progress` is called with the number of checkpoints in all before the first is audited, and then
    with how many more are done. `today` is the day that exceptions expire by.
    """

    request: Request
    recursive: bool = False
    jobs: int | None = None
    baseline: str | None = None
    allow_empty: bool = False
    progress: Callable[[int], None] | None = None
    today: datetime.date | None = None


def gate(paths: Sequence[str], options: GateOptions) -> GateReport:
    """Audit every checkpoint that the paths mean: see `audit_targets`."""
    return audit_targets(find_targets(paths, recursive=options.recursive), options)


def audit_targets(targets: Sequence[Target], options: GateOptions) -> GateReport:
    """Audit checkpoints, each on its own, and judge them by the policy.

    What keeps one of them from being audited is in the report, beside the others' verdicts. Raises
    BncheckError where the baseline cannot be read.
    """
    known = None if options.baseline is None else read_baseline(options.baseline)
    audited = _audit_all(targets, options)
    claimed = set() if known is None else known.claim(audited)
    gone = [] if known is None else known.gone(audited)
    kept = [] if known is None else [each for each in known.left() if each not in gone]
    today = options.today or datetime.date.today()
    audited = [_without_known(each, number, claimed) for number, each in enumerate(audited)]
    audited, warnings = _except(audited, options.request.policy, today)
    return GateReport(
        checkpoints=tuple(audited),
        warnings=tuple(warnings),
        gone=tuple(each.text for each in gone),
        config=options.request.policy.source,
        kept=tuple(kept),
        baseline=options.baseline,
        empty_allowed=options.allow_empty,
    )


def _audit_all(targets: Sequence[Target], options: GateOptions) -> list[Audited]:
    progress = options.progress or (lambda _: None)
    progress(len(targets))
    jobs = options.jobs or processors()
    jobs = 1 if len(targets) < _FEWEST else jobs
    size = max(1, min(_AT_ONCE, -(-len(targets) // (jobs * 4))))
    tasks = [targets[at : at + size] for at in range(0, len(targets), size)]
    audited: list[Audited] = []
    about = os.path.dirname(targets[0].path) or "." if targets else ""
    for batch in in_processes(partial(_batch, request=options.request), tasks, jobs, about):
        audited += batch
        progress(len(batch))
    return audited


def _batch(targets: Sequence[Target], request: Request) -> list[Audited]:
    return [audit(target, request) for target in targets]


def _except(
    audited: list[Audited], policy: Policy, today: datetime.date
) -> tuple[list[Audited], list[str]]:
    """Take out what an exception excuses, and say which exceptions are of no use."""
    used: set[Exemption] = set()
    explained: set[Exemption] = set()
    left = []
    for each in audited:
        names = names_of(Target(each.path, prefix=each.prefix), policy)
        kept, suppressed = [], list(each.suppressed)
        for finding, fingerprint in each.by_fingerprint():
            code, layer = finding.rule.code, finding.layer
            fitting = [e for e in policy.exemptions if e.fits(code, layer, names)]
            used.update(fitting)
            for behind in finding.explains:
                explained.update(e for e in policy.exemptions if e.fits(behind, layer, names))
            valid = next((e for e in fitting if e.holds(today)), None)
            if valid is None:
                kept.append((finding, fingerprint))
            else:
                suppressed.append(
                    Suppressed(finding, fingerprint, "exception", valid.reason, valid.expires)
                )
        used.update(_of_known(each, policy, names))
        left.append(_with(each, kept, suppressed))
    warnings = []
    for exemption in policy.exemptions:
        where = f"{policy.source}:{exemption.line}"
        what = f"{where}: the exception for {exemption.rule} ({exemption.reason})"
        if not exemption.holds(today):
            warnings.append(f"{what} expired on {exemption.expires}, and no longer holds")
        elif exemption in explained - used:
            warnings.append(f"{what} is for what another finding explains: except that one")
        elif exemption not in used:
            warnings.append(f"{what} matches no finding")
    return left, warnings


def _of_known(each: Audited, policy: Policy, names: Sequence[str]) -> list[Exemption]:
    """Return the exceptions that fit what the baseline has taken already."""
    return [
        e
        for one in each.suppressed
        for e in policy.exemptions
        if e.fits(one.finding.rule.code, one.finding.layer, names)
    ]


def _without_known(each: Audited, number: int, claimed: set[tuple[int, int]]) -> Audited:
    kept, suppressed = [], list(each.suppressed)
    for at, (finding, fingerprint) in enumerate(each.by_fingerprint()):
        if (number, at) in claimed:
            suppressed.append(Suppressed(finding, fingerprint, "baseline", "known to the baseline"))
        else:
            kept.append((finding, fingerprint))
    return _with(each, kept, suppressed)


def _with(each: Audited, kept: list[tuple[Finding, str]], suppressed: list[Suppressed]) -> Audited:
    return replace(
        each,
        findings=tuple(finding for finding, _ in kept),
        fingerprints=tuple(fingerprint for _, fingerprint in kept),
        suppressed=tuple(suppressed),
    )
