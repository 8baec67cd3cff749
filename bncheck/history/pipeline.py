"""The pipeline of `bncheck history`: paths, checkpoints in their order, points, the report."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bncheck.batchnorm.names import STATISTICS
from bncheck.checkpoint.location import Kind
from bncheck.errors import BncheckError, NotFoundError
from bncheck.graph import graph_beside
from bncheck.history.find import find_checkpoints
from bncheck.history.findings import fold
from bncheck.history.trends import trends
from bncheck.history.visits import Request, Visit, visit_all
from bncheck.parallel import processors
from bncheck.report.history_model import HistoryReport
from bncheck.report.model import FailOn, Skipped
from bncheck.rules import evidence_of
from bncheck.rules.rule import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bncheck.checkpoint.location import Location
    from bncheck.graph.model import Graph
    from bncheck.history.reading import Failure
    from bncheck.rules.rule import Rule
    from bncheck.snapshot import Snapshot

_UNDERTRAINED = "BN205"
_TRIES = 9  # more listings of a directory in which all that was listed vanished


@dataclass(frozen=True, slots=True)
class HistoryOptions:
    """What the user may ask of a history; see the command line's help for each.

    `jobs` is the number of processes, `progress` is called with the number of checkpoints in all
    before the first is read, and then with how many more are done.
    """

    rules: tuple[Rule, ...] | None = None
    fail_on: FailOn = FailOn.ERROR
    layer: str | None = None
    momentum: float | None = None
    use_graph: bool = True
    jobs: int | None = None
    progress: Callable[[int], None] | None = None


def history(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    options: HistoryOptions | None = None,
) -> HistoryReport:
    """Follow the statistics through all checkpoints of a run, the oldest first.

    `paths` is a directory, or several directories and checkpoints. Each checkpoint is read once. A
    run may still be going on: what is deleted or unfinished is left out and told. Raises
    NotFoundError where nothing can be read at all.
    """
    options = options or HistoryOptions()
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    named = [os.fspath(path) for path in given]
    locations = find_checkpoints(named)
    visits, failures, last = _visit_in_order(locations, options)
    for _ in range(_TRIES):
        if last is not None or not all(each.passing for each in failures):
            break
        # A job that saves often and keeps few may have replaced all of them.
        locations = find_checkpoints(named)
        visits, failures, last = _visit_in_order(locations, options)
    if last is None:
        reasons = [f"{each.what}: {each.reason}" for each in failures[:3]]
        raise NotFoundError(
            named[0],
            f"none of {len(locations)} checkpoints here could be read: {'; '.join(reasons)}",
        )
    momenta = _momenta(last, locations, options)
    visits[-1] = _with_undertrained(visits[-1], last, momenta, options)
    findings, spans, gone = fold(visits)
    return HistoryReport(
        paths=tuple(named),
        points=tuple(visit.point for visit in visits),
        layers=trends(visits, last, momenta),
        findings=tuple(findings),
        spans=tuple(spans),
        gone=tuple(gone),
        remarks=tuple(remark for location in locations for remark in location.remarks),
        passing={each.path: each.reason for each in failures if each.passing},
        skipped=tuple(Skipped(each.what, each.reason) for each in failures if not each.passing),
        fail_on=options.fail_on,
    )


def _visit_in_order(
    locations: Sequence[Location], options: HistoryOptions
) -> tuple[list[Visit], list[Failure], Snapshot | None]:
    """Visit the checkpoints in the order of their steps.

    Names tell it nearly always. Where they have no numbers, the counters in the checkpoints do, and
    then all is read once more if the files' times gave another order.
    """
    progress = options.progress or (lambda _: None)
    progress(len(locations))
    request = Request(options.rules, options.layer)
    jobs = options.jobs or processors()
    visits, failures, last = visit_all(locations, request, jobs, progress)
    counters = [visit.counter for visit in visits]
    known = [counter for counter in counters if counter is not None]
    numbered = all(visit.point.step is not None for visit in visits)
    if not numbered and len(known) == len(counters) and known != sorted(known):
        steps = {visit.point.path: visit.counter or 0 for visit in visits}
        again = [each for each in locations if each.prefix in steps]
        again.sort(key=lambda each: steps[each.prefix])
        visits, later, last = visit_all(again, request, jobs, lambda _: None)
        failures += later
    return _with_steps(visits), failures, last


def _with_steps(visits: list[Visit]) -> list[Visit]:
    """Give every point its step: the counters', unless they do not grow as the names' numbers do.

    A program that goes on from a checkpoint with a new optimizer counts from 0 again.
    """
    counters = [visit.counter for visit in visits if visit.counter is not None]
    complete = len(counters) == len(visits)
    if (
        complete
        and counters == sorted(counters)
        and (len(visits) < 2 or counters[0] < counters[-1])
    ):
        return [
            v._replace(point=replace(v.point, step=v.counter, told_by="counter")) for v in visits
        ]
    if all(visit.point.step is not None for visit in visits):
        return visits
    return [v._replace(point=replace(v.point, step=None, told_by="")) for v in visits]


def _momenta(
    last: Snapshot, locations: Sequence[Location], options: HistoryOptions
) -> dict[str, tuple[float, int]]:
    """Return the momentum and the updates in a step of each layer, where something tells them."""
    graph = _graph(locations) if options.use_graph else None
    names = {saved: name for name, saved in (graph.saved_as or {}).items()} if graph else {}
    momenta = {}
    for layer in last.layers:
        momentum, updates = layer.momentum, 1
        for role in STATISTICS:
            member = layer.members.get(role)
            if graph is None or member is None:
                continue
            name = names.get(member.name, member.name)
            momentum = graph.momentum.get(name, momentum)
            updates = max(updates, graph.updates.get(name, 1))
        momentum = options.momentum if momentum is None else momentum
        if momentum is not None and 0 <= momentum <= 1:
            momenta[layer.name] = (momentum, updates)
    return momenta


def _graph(locations: Sequence[Location]) -> Graph | None:
    """Return the graph of the latest checkpoint that has one beside it; damaged ones tell nothing.

    What it says is a momentum and no verdict: `bncheck inspect` judges by graphs.
    """
    for location in reversed(locations):
        try:
            graph = graph_beside(location) if location.kind is Kind.BUNDLE else None
        except BncheckError:
            continue
        if graph is not None:
            return graph
    return None


def _with_undertrained(
    visit: Visit,
    last: Snapshot,
    momenta: dict[str, tuple[float, int]],
    options: HistoryOptions,
) -> Visit:
    """Judge the last checkpoint's layers by the momentum that the graph beside it tells."""
    rule = RULES[_UNDERTRAINED]
    if options.rules is not None and rule not in options.rules:
        return visit
    layers = [
        layer._replace(momentum=momenta[layer.name][0])
        for layer in last.layers
        if layer.momentum is None and momenta.get(layer.name, (0, 0))[1] == 1
    ]
    evidence = evidence_of(last.of_layers(layers))
    known = {each.layer for each in visit.findings if each.rule is rule}
    found = [each for each in rule.check(evidence) if each.layer not in known]
    return visit._replace(findings=(*visit.findings, *found))
