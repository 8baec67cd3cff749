"""From checkpoints to points: each is read once, in parallel, and compared with the one before.

A process takes a stretch of the run, and hands over the ends of it in full, so that the stretches
can be joined.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from bncheck.batchnorm.layers import Status
from bncheck.batchnorm.names import STATISTICS
from bncheck.changes.comparison import compare
from bncheck.changes.movement import divergences_between
from bncheck.history.find import number_of
from bncheck.history.reading import Failure, Reader
from bncheck.parallel import in_processes
from bncheck.report.history_model import LayerPoint, Point
from bncheck.rules import all_rules, evidence_of, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from bncheck.changes.model import Comparison
    from bncheck.checkpoint.location import Location
    from bncheck.rules.rule import Finding, Rule
    from bncheck.snapshot import Snapshot

_FEWEST: Final = 8  # checkpoints below which starting processes takes longer than reading
_LONGEST: Final = 32  # checkpoints of a stretch; the progress bar moves by stretches
_SHARES: Final = 4  # stretches for each process, so that all of them end at about the same time
_CHANGED: Final = "BN6"  # what the codes of the rules on changes start with


class Request(NamedTuple):
    """What is wanted of every checkpoint: the rules (None: all), and the layers by a pattern."""

    rules: tuple[Rule, ...] | None = None
    layer: str | None = None

    def judges(self) -> list[Rule]:
        """Return the rules to judge by."""
        return all_rules() if self.rules is None else list(self.rules)


class Link(NamedTuple):
    """What became of a checkpoint since the one before: findings of BN6xx, and what moved.

    `divergences` and `still` (whether both statistics are bit by bit the same) are by layer.
    """

    findings: tuple[Finding, ...]
    divergences: Mapping[str, float | None]
    still: Mapping[str, bool]
    weights_moved: bool | None


class Visit(NamedTuple):
    """One checkpoint that was read: its numbers and findings, and the link to the one before."""

    point: Point
    counter: int | None
    findings: tuple[Finding, ...]
    link: Link | None


class Stretch(NamedTuple):
    """The checkpoints that one process read; `ends` are the first and the last of them."""

    visits: tuple[Visit, ...]
    failures: tuple[Failure, ...]
    ends: tuple[Snapshot, Snapshot] | None


def visit_all(
    locations: Sequence[Location],
    request: Request,
    jobs: int,
    progress: Callable[[int], None],
) -> tuple[list[Visit], list[Failure], Snapshot | None]:
    """Read the checkpoints in their order, with so many processes; `progress` is told each advance.

    Returns what was read, what was not, and the last one in full.
    """
    visits: list[Visit] = []
    failures: list[Failure] = []
    last: Snapshot | None = None
    for stretch in _stretches(locations, request, jobs):
        joined = list(stretch.visits)
        if last is not None and stretch.ends is not None:
            ends = (visits[-1].point, joined[0].point)
            joined[0] = joined[0]._replace(link=_link(last, stretch.ends[0], request, *ends))
        visits += joined
        failures += stretch.failures
        last = stretch.ends[1] if stretch.ends is not None else last
        progress(len(stretch.visits) + len(stretch.failures))
    return [visit._replace(point=_linked(visit)) for visit in visits], failures, last


def _stretches(locations: Sequence[Location], request: Request, jobs: int) -> Iterator[Stretch]:
    if len(locations) < _FEWEST:
        jobs = 1
    size = 1
    if jobs > 1:
        size = min(max(-(-len(locations) // (jobs * _SHARES)), 1), _LONGEST)
    tasks = [locations[at : at + size] for at in range(0, len(locations), size)]
    about = os.path.dirname(locations[0].prefix) or "." if locations else ""
    yield from in_processes(partial(_visit, request=request), tasks, jobs, about)


_READER: Final = Reader()  # one for each process: see Groups


def _visit(locations: Sequence[Location], request: Request) -> Stretch:
    """Read some neighbouring checkpoints and compare each with the one before."""
    visits: list[Visit] = []
    failures: list[Failure] = []
    first: Snapshot | None = None
    last: Snapshot | None = None
    for location in locations:
        outcome = _READER.read(location)
        if isinstance(outcome, Failure):
            failures.append(outcome)
            continue
        if request.layer is not None:
            outcome = outcome.named(request.layer)
        point = _point(outcome, location)
        link = None
        if last is not None:
            link = _link(last, outcome, request, visits[-1].point, point)
        findings = tuple(judge(evidence_of(outcome), request.judges()))
        visits.append(Visit(point, outcome.step, findings, link))
        first, last = first or outcome, outcome
    ends = None if first is None or last is None else (first, last)
    return Stretch(tuple(visits), tuple(failures), ends)


def _link(before: Snapshot, after: Snapshot, request: Request, old: Point, new: Point) -> Link:
    comparison = compare(before, after, same_run=True)
    chosen = [r for r in request.judges() if r.code.startswith(_CHANGED)]
    evidence = evidence_of(after, comparison)
    return Link(
        # What explains what is told when the whole run is known.
        findings=tuple(finding for rule in chosen for finding in rule.check(evidence)),
        divergences=divergences_between(old.vectors, new.vectors, new.spans)
        if old.spans == new.spans
        else {each.pair.after.name: each.divergence for each in comparison.layers},
        still={
            each.pair.after.name: all(change.change.is_none for change in each.statistics())
            for each in comparison.layers
            if each.statistics()
        },
        weights_moved=_weights_moved(comparison),
    )


def _weights_moved(comparison: Comparison) -> bool | None:
    moved = comparison.others.moved
    return any(moved.values()) if moved else None


def _point(snapshot: Snapshot, location: Location) -> Point:
    vectors, spans = _vectors(snapshot)
    number = number_of(location)
    return Point(
        path=snapshot.checkpoint.path,
        format=snapshot.checkpoint.format,
        step=number,
        told_by="" if number is None else "name",
        layers={
            layer.name: LayerPoint(
                layer.status,
                layer.channels,
                {r: s for r in STATISTICS if (s := layer.summary(r)) is not None},
            )
            for layer in snapshot.layers
        },
        vectors=vectors,
        spans=spans,
    )


def _vectors(snapshot: Snapshot) -> tuple[NDArray[np.floating[Any]], dict[str, slice]]:
    """Return the statistics of all layers that have both, side by side, and whose columns are."""
    spans: dict[str, slice] = {}
    means, variances = [], []
    at = 0
    for layer in snapshot.layers:
        members = [layer.members.get(role) for role in STATISTICS]
        values = [each.values.reshape(-1) for each in members if each and each.values is not None]
        if len(values) < len(STATISTICS) or not 0 < values[0].size == values[1].size:
            continue
        mean, variance = (
            each.astype(np.promote_types(each.dtype, np.float32), copy=False) for each in values
        )
        spans[layer.name] = slice(at, at + mean.size)
        at += mean.size
        means.append(mean)
        variances.append(variance)
    if not means:
        return np.zeros((2, 0), np.float32), {}
    return np.stack([np.concatenate(means), np.concatenate(variances)]), spans


def _linked(visit: Visit) -> Point:
    """Return a point with what its link says."""
    point, link = visit.point, visit.link
    if link is None:
        return point
    layers = {
        name: layer._replace(
            divergence=None if layer.status is Status.DAMAGED else link.divergences.get(name)
        )
        for name, layer in point.layers.items()
    }
    return replace(point, layers=layers, weights_moved=link.weights_moved)
