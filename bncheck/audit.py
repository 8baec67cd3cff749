"""The pipeline: path, checkpoint, layers and graph, rules, report."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bncheck.assignment import assign
from bncheck.batchnorm.names import normalization_of
from bncheck.batchnorm.others import count_kinds
from bncheck.checkpoint import open_location
from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.unchanged import unchanged
from bncheck.errors import BncheckError, DamagedError, UnsupportedError
from bncheck.graph import graph_beside, load_graph
from bncheck.graph.model import COLLECTIONS
from bncheck.report.model import FailOn, Report, Skipped
from bncheck.rules import all_rules, judge
from bncheck.rules.dataflow import undecided_updates
from bncheck.rules.program import is_saver_of_trainables
from bncheck.rules.restored import is_asked_for
from bncheck.rules.rule import Evidence, Thresholds
from bncheck.snapshot import take_snapshot

if TYPE_CHECKING:
    from bncheck.batchnorm.layers import Layer
    from bncheck.checkpoint.location import Location
    from bncheck.checkpoint.model import Checkpoint
    from bncheck.graph.model import Graph
    from bncheck.rules.rule import Rule

_THRESHOLDS = Thresholds()
_WAY_OUT = "--no-graph"


@dataclass(frozen=True, slots=True)
class Options:
    """What the user may ask of an audit; see the command line's help for each."""

    graph: str | None = None
    use_graph: bool = True
    collection: str = "global"
    rules: tuple[Rule, ...] | None = None
    fail_on: FailOn = FailOn.ERROR
    momentum: float | None = None
    step: int | None = None
    momenta: tuple[tuple[str, float], ...] = ()
    thresholds: Thresholds = _THRESHOLDS
    require_batch_norm: bool = False


def inspect(path: str | os.PathLike[str], options: Options | None = None) -> Report:
    """Audit the checkpoint at a path.

    Raises BncheckError where there is no checkpoint that can be read, or it changes while it is
    read, or the graph that was asked for cannot be read. What is damaged beside a readable
    checkpoint (a shard, the graph found next to it) is `skipped` in the report instead.
    """
    location = locate(os.fspath(path))
    with unchanged():
        return _inspect(location, options or Options())


def _inspect(location: Location, options: Options) -> Report:
    checkpoint = open_location(location)
    if not checkpoint.variables:
        raise DamagedError(checkpoint.path, "holds no variables at all")
    skipped: list[Skipped] = []
    graph = _find_graph(checkpoint, location, options, skipped)
    own = graph is not None and _is_own(graph, checkpoint.path)
    snapshot = take_snapshot(checkpoint, graph, own=own)
    skipped += [Skipped(what, reason) for what, reason in snapshot.unread.items()]
    # Layers of statistics alone have nothing in a checkpoint of the trainable variables.
    forgetful = own and graph is not None and is_saver_of_trainables(graph)
    layers = snapshot.layers
    evidence = Evidence(
        variables=checkpoint.variables,
        layers=tuple(each for each in layers if forgetful or _is_present(each, graph, own=own)),
        unknown=snapshot.unknown,
        graph=graph,
        graph_is_own=own,
        assignment=assign(graph, checkpoint, options.collection) if graph else None,
        collection=options.collection,
        step=snapshot.step if options.step is None else options.step,
        momentum=options.momentum,
        momenta=options.momenta,
        thresholds=options.thresholds,
        required=options.require_batch_norm,
        slots=checkpoint.structure.slots,
        ambiguous=checkpoint.structure.ambiguous,
        keras=checkpoint.structure.tells_layers,
    )
    remarks = (*location.remarks, *checkpoint.remarks, *_unread_names(evidence))
    report = _report(checkpoint, evidence, options, remarks, tuple(skipped))
    if evidence.step is None and snapshot.saves is not None:
        # A count of saves is no count of steps, so no rule sees it; it tells checkpoints apart.
        return replace(report, step=snapshot.saves, step_source=checkpoint.structure.saves)
    return replace(report, step_source=snapshot.step_source if options.step is None else None)


def _unread_names(evidence: Evidence) -> list[str]:
    """Say which variables the graph normalizes with, and no layer has: their names tell nothing."""
    if evidence.graph is None:
        return []
    told = {member.name for layer in evidence.layers for member in layer.members.values()}
    told |= {c.name for each in evidence.unknown for c in each.roles.values()}
    strange = [
        name
        for name in sorted(evidence.graph.normalized - told)
        if normalization_of(name.rpartition("/")[0]) != "other" and name in evidence.variables
    ]
    if not strange:
        return []
    shown = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
    remark = (
        f"the graph's batch-norm ops read {len(strange)} variables whose names do not tell their"
    )
    return [f"{remark} layer, so that the statistics there were not judged: {shown}"]


def _report(
    checkpoint: Checkpoint,
    evidence: Evidence,
    options: Options,
    remarks: tuple[str, ...],
    skipped: tuple[Skipped, ...],
) -> Report:
    findings = judge(evidence, all_rules())
    suppressed = 0
    if options.rules is not None:
        # Judged again, since a cause that is ignored no longer explains the findings behind it.
        suppressed = sum(finding.rule not in options.rules for finding in findings)
        findings = judge(evidence, options.rules)
    members = {member.name for layer in evidence.layers for member in layer.members.values()}
    undecided = undecided_updates(evidence)
    return Report(
        path=checkpoint.path,
        format=checkpoint.format,
        shards=checkpoint.shards,
        step=evidence.step,
        structure=checkpoint.structure,
        variables=checkpoint.variables,
        layers=evidence.layers,
        findings=tuple(findings),
        remarks=remarks,
        others=count_kinds(checkpoint, members),
        graph=evidence.graph,
        graph_remarks=(undecided,) if undecided else (),
        collection=options.collection,
        assignment=evidence.assignment,
        graph_used=_graph_used(evidence),
        skipped=skipped,
        suppressed=suppressed,
        fail_on=options.fail_on,
    )


def _find_graph(
    checkpoint: Checkpoint, location: Location, options: Options, skipped: list[Skipped]
) -> Graph | None:
    if options.graph is not None:
        graph = load_graph(options.graph)
        if (
            options.collection != "global"
            and COLLECTIONS[options.collection] not in graph.collections
        ):
            raise UnsupportedError(
                graph.source,
                f"does not say which variables are {options.collection}",
                remedy="Give the program's own graph (.meta), or leave --collection out.",
            )
        return graph
    if not options.use_graph or checkpoint.structure.problem:
        return None  # without its objects, a checkpoint cannot be matched with a graph of objects
    try:
        return graph_beside(location)
    except BncheckError as error:
        told = _WAY_OUT in error.remedy
        reason = error.reason if told else f"{error.reason} {_WAY_OUT} judges the checkpoint alone."
        skipped.append(Skipped(error.path, reason))
        return None


def _is_own(graph: Graph, path: str) -> bool:
    """Whether a graph is the one that was saved with the checkpoint."""
    source = os.path.realpath(graph.source)
    if graph.kind == "saved-model":
        return os.path.dirname(source) == os.path.realpath(path)
    return source == os.path.realpath(path + ".meta")


def _is_present(layer: Layer, graph: Graph | None, *, own: bool) -> bool:
    """Whether a layer is in the checkpoint at all, or the graph asks this checkpoint for it."""
    return graph is None or any(
        member.variable is not None or is_asked_for(member, graph, own=own)
        for member in layer.members.values()
    )


def _graph_used(evidence: Evidence) -> dict[str, str]:
    """Say of each variable of a layer what the graph does with it, in the JSON report's words."""
    if evidence.graph is None or evidence.assignment is None:
        return {}
    mapped = evidence.graph.collection(evidence.collection)
    matched = set(evidence.assignment.matched)
    used: dict[str, str] = {}
    for layer in evidence.layers:
        for member in layer.members.values():
            known = member.graph_variable
            if known is None:
                used[member.name] = "not-in-graph"
            elif member.variable is None or known.name not in mapped:
                used[member.name] = "keeps-initializer"
            elif member.name in matched or known.name != member.name:
                used[member.name] = "from-checkpoint"
            else:
                used[member.name] = "keeps-initializer"
    return used
