"""The pipeline of `bncheck diff`: two paths, their layers side by side, what should not be so."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bncheck.changes.comparison import compare
from bncheck.checkpoint import open_location
from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.unchanged import unchanged
from bncheck.errors import DamagedError
from bncheck.report.diff_model import DiffReport
from bncheck.report.model import FailOn, Skipped
from bncheck.rules import all_rules, evidence_of, judge
from bncheck.rules.rule import Level
from bncheck.snapshot import take_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bncheck.changes.model import Comparison
    from bncheck.checkpoint.location import Location
    from bncheck.rules.rule import Finding, Rule
    from bncheck.snapshot import Snapshot

_CHANGED = "BN6"  # what the codes of the rules on changes start with
_NEVER_TRAINED = "BN204"  # says of the whole checkpoint what BN602 says of each layer
_UNTRAINED_LAYER = "BN203"  # what a layer that was just added always is


@dataclass(frozen=True, slots=True)
class DiffOptions:
    """What the user may ask of a comparison; see the command line's help for each."""

    rules: tuple[Rule, ...] | None = None
    fail_on: FailOn = FailOn.ERROR
    tolerance: float = 0.0
    layer: str | None = None


def diff(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    options: DiffOptions | None = None,
) -> DiffReport:
    """Compare the checkpoints at two paths, of any formats, the second as the later one.

    Findings are those of BN6xx, and the errors and warnings that the second checkpoint alone has
    of the rules on one checkpoint. Graphs are not read: the values on both sides are what is
    compared. Raises BncheckError where one of the two cannot be read at all.
    """
    options = options or DiffOptions()
    places = [locate(os.fspath(path)) for path in (before, after)]
    with unchanged():
        first, second = _snapshots(*places)
        if options.layer is not None:
            chosen = first.named(options.layer)
            first, second = chosen, chosen if first is second else second.named(options.layer)
        comparison = compare(first, second, options.tolerance)
    findings = _findings(comparison, all_rules())
    suppressed = 0
    if options.rules is not None:
        # Judged again, since a cause that is ignored no longer explains the findings behind it.
        suppressed = sum(finding.rule not in options.rules for finding in findings)
        findings = _findings(comparison, options.rules)
    return DiffReport(
        comparison=comparison,
        findings=tuple(findings),
        tolerance=options.tolerance,
        glob=options.layer,
        remarks=tuple(_remarks(comparison, places)),
        skipped=tuple(_skipped(comparison)),
        suppressed=suppressed,
        fail_on=options.fail_on,
    )


def _snapshots(before: Location, after: Location) -> tuple[Snapshot, Snapshot]:
    """Read both sides; what is one checkpoint under two paths is read once."""
    first = _snapshot(before)
    same = before.kind is after.kind and _real(before.prefix) == _real(after.prefix)
    return first, first if same else _snapshot(after)


def _real(prefix: str) -> str:
    """Return a prefix with its directory's links resolved; no file may have the prefix's name."""
    directory, name = os.path.split(os.path.abspath(prefix))
    return os.path.realpath(os.path.join(os.path.realpath(directory), name))


def _snapshot(location: Location) -> Snapshot:
    checkpoint = open_location(location)
    if not checkpoint.variables:
        raise DamagedError(checkpoint.path, "holds no variables at all")
    if checkpoint.structure.problem:
        raise DamagedError(checkpoint.path, checkpoint.structure.problem, remedy="")
    return take_snapshot(checkpoint)


def _findings(comparison: Comparison, rules: Sequence[Rule]) -> list[Finding]:
    """Return what the rules find in the change, and in the second checkpoint alone."""
    found = judge(evidence_of(comparison.after, comparison), rules)
    if comparison.before is comparison.after:
        known = found
    else:
        known = judge(evidence_of(comparison.before), rules)
    partners = {pair.before.name: pair.after.name for pair in comparison.pairs.layers}
    old = {(each.rule.code, partners.get(each.layer, each.layer)) for each in known}
    if any(each.rule.code == _NEVER_TRAINED for each in known):
        old |= {(_UNTRAINED_LAYER, each.name) for each in comparison.after.layers}
    # What a format alone tells (a momentum) makes no finding new where nothing changed.
    same = {each.pair.after.name for each in comparison.layers if each.is_unchanged}
    added = {each.name for each in comparison.pairs.only_after}
    changed = any(each.rule.code.startswith(_CHANGED) for each in found)
    return [
        each
        for each in found
        if each.rule.code.startswith(_CHANGED)
        or (
            each.level > Level.NOTE
            and (each.rule.code, each.layer) not in old
            and each.layer not in same
            and not (each.rule.code == _UNTRAINED_LAYER and each.layer in added)
            and not (each.rule.code == _NEVER_TRAINED and changed)
        )
    ]


def _remarks(comparison: Comparison, places: Sequence[Location]) -> Iterator[str]:
    for location, snapshot in zip(places, (comparison.before, comparison.after), strict=True):
        for remark in (*location.remarks, *snapshot.checkpoint.remarks):
            yield f"{snapshot.checkpoint.path}: {remark}"
    first, second = comparison.before.step, comparison.after.step
    if first is not None and second is not None and second < first:
        yield f"the second is the older one: step {second}, and the first is of step {first}"


def _skipped(comparison: Comparison) -> Iterator[Skipped]:
    seen = set()
    for unread in (
        comparison.before.unread,
        comparison.after.unread,
        comparison.others.unread,
    ):
        for what, reason in unread.items():
            if (what, reason) not in seen:
                yield Skipped(what, reason)
            seen.add((what, reason))
