"""The pipeline: path, checkpoint, layers and graph, rules, report."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bncheck.assignment import assign
from bncheck.batchnorm.grouping import Candidate, Group, Grouping, group
from bncheck.batchnorm.layers import Layer, build_layers
from bncheck.batchnorm.names import STATISTICS, kind_of, normalization_of
from bncheck.checkpoint import open_location
from bncheck.checkpoint.locate import locate
from bncheck.errors import BncheckError, DamagedError, UnsupportedError
from bncheck.graph import graph_beside, load_graph
from bncheck.report.model import FailOn, Report, Skipped
from bncheck.rules import all_rules, judge
from bncheck.rules.program import is_saver_of_trainables
from bncheck.rules.restored import is_asked_for
from bncheck.rules.rule import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bncheck.checkpoint.model import Checkpoint, Values
    from bncheck.graph.model import Graph
    from bncheck.rules.rule import Rule

_OBJECT_GRAPH: Final = "_CHECKPOINTABLE_OBJECT_GRAPH"
_STEP: Final = "global_step"
_INTEGERS: Final = ("int64", "int32")


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


def inspect(path: str, options: Options | None = None) -> Report:
    """Audit the checkpoint at a path.

    Raises BncheckError where there is no checkpoint that can be read, or the graph that was asked
    for cannot be. What is damaged beside a readable checkpoint (a shard, the graph found next to
    it) is `skipped` in the report instead.
    """
    options = options or Options()
    location = locate(path)
    checkpoint = open_location(location)
    if _OBJECT_GRAPH in checkpoint.variables:
        raise UnsupportedError(
            checkpoint.path,
            "is object-based (tf.train.Checkpoint), and its names do not tell its layers",
            remedy="This version reads name-based checkpoints, as tf.train.Saver writes them.",
        )
    if not checkpoint.variables:
        raise DamagedError(checkpoint.path, "holds no variables at all")
    skipped: list[Skipped] = []
    graph = _find_graph(checkpoint.path, options, skipped)
    own = graph is not None and _is_own(graph, checkpoint.path)
    grouping = _group(checkpoint, graph, own=own)
    step_name = _step_variable(checkpoint)
    values = checkpoint.read(_names_to_read(grouping, step_name))
    skipped += _unread(checkpoint, values)
    layers = build_layers(grouping.layers, checkpoint.variables, values, graph)
    # Layers of statistics alone have nothing in a checkpoint of the trainable variables.
    forgetful = own and graph is not None and is_saver_of_trainables(graph)
    evidence = Evidence(
        variables=checkpoint.variables,
        layers=tuple(each for each in layers if forgetful or _is_present(each, graph, own=own)),
        unknown=tuple(grouping.unknown),
        graph=graph,
        graph_is_own=own,
        assignment=assign(graph, checkpoint, options.collection) if graph else None,
        collection=options.collection,
        step=_step(values, step_name) if options.step is None else options.step,
        momentum=options.momentum,
    )
    remarks = (*location.remarks, *_unread_names(evidence))
    return _report(checkpoint, evidence, options, remarks, tuple(skipped))


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


def _unread(checkpoint: Checkpoint, values: Values) -> list[Skipped]:
    """Return every value that could not be read, and every other data file that is not whole."""
    files = {
        path: reason
        for path, reason in checkpoint.damaged_files().items()
        if path not in values.broken_files
    }
    return [Skipped(what, reason) for what, reason in (*values.unread.items(), *files.items())]


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
    return Report(
        path=checkpoint.path,
        format=checkpoint.format,
        shards=checkpoint.shards,
        step=evidence.step,
        variables=checkpoint.variables,
        layers=evidence.layers,
        findings=tuple(findings),
        remarks=remarks,
        others=Counter(kind_of(name) for name in checkpoint.variables if name not in members),
        graph=evidence.graph,
        collection=options.collection,
        assignment=evidence.assignment,
        graph_used=_graph_used(evidence),
        skipped=skipped,
        suppressed=suppressed,
        fail_on=options.fail_on,
    )


def _find_graph(prefix: str, options: Options, skipped: list[Skipped]) -> Graph | None:
    if options.graph is not None:
        return load_graph(options.graph)
    if not options.use_graph:
        return None
    try:
        return graph_beside(prefix)
    except BncheckError as error:
        skipped.append(
            Skipped(error.path, f"{error.reason} (--no-graph judges the checkpoint without it)")
        )
        return None


def _group(checkpoint: Checkpoint, graph: Graph | None, *, own: bool) -> Grouping:
    """Group the checkpoint's variables, and those that only the graph has.

    What the graph's own Saver saved under another name is read by the graph's name for it. A gamma
    and beta that the graph has, without any statistics beside them, are no batch norm whose
    statistics went missing.
    """
    own_names: dict[str, str] = {}
    if own and graph is not None and graph.saved_as:
        own_names = {
            saved: name
            for name, saved in graph.saved_as.items()
            if saved != name and name not in checkpoint.variables
        }
    candidates = [
        Candidate(name, own_names.get(name, name), variable.shape, variable.dtype)
        for name, variable in checkpoint.variables.items()
    ]
    if graph is not None:
        there = {candidate.name for candidate in candidates}
        candidates += [
            Candidate(name, name, variable.shape, variable.dtype, in_checkpoint=False)
            for name, variable in graph.variables.items()
            if name not in there
        ]
    grouping = group(candidates, graph.variables if graph is not None and not own else ())
    if graph is None:
        return grouping
    # The graph has all of such a layer, so nothing is missing; a name that says batch norm is worth
    # a note.
    layers: list[Group] = []
    unknown = [each for each in grouping.unknown if not _lacks_statistics(each, graph)]
    for each in grouping.layers:
        (unknown if _lacks_statistics(each, graph) else layers).append(each)
    return Grouping(layers, sorted(unknown, key=lambda each: each.name))


def _lacks_statistics(each: Group, graph: Graph) -> bool:
    """Whether the graph has this layer's affine, and nobody has any statistics of it."""
    return all(role not in each.roles for role in STATISTICS) and any(
        candidate.name in graph.variables for candidate in each.roles.values()
    )


def _names_to_read(grouping: Grouping, step_name: str | None) -> Iterable[str]:
    names = [
        candidate.key
        for each in grouping.layers
        for candidate in each.roles.values()
        if candidate.in_checkpoint
    ]
    return dict.fromkeys(names if step_name is None else [*names, step_name])


def _step_variable(checkpoint: Checkpoint) -> str | None:
    """Return the name of the step's variable: `global_step`, else a Keras optimizer's counter."""

    def is_step(name: str, *leaves: str) -> bool:
        variable = checkpoint.variables[name]
        leaf = name.rpartition("/")[2]
        return leaf in leaves and variable.shape == () and variable.dtype in _INTEGERS

    if _STEP in checkpoint.variables and is_step(_STEP, _STEP):
        return _STEP
    named = [name for name in checkpoint.variables if is_step(name, _STEP)]
    counted = [name for name in checkpoint.variables if is_step(name, "iter", "iterations")]
    # Two networks with a step each have no step in common.
    return next((names[0] for names in (named, counted) if len(names) == 1), None)


def _step(values: Values, name: str | None) -> int | None:
    return int(values.arrays[name]) if name is not None and name in values.arrays else None


def _is_own(graph: Graph, prefix: str) -> bool:
    """Whether a graph is the one that was saved with the checkpoint."""
    return os.path.realpath(graph.source) == os.path.realpath(prefix + ".meta")


def _is_present(layer: Layer, graph: Graph | None, *, own: bool) -> bool:
    """Whether a layer is in the checkpoint at all, or the graph asks this checkpoint for it."""
    return any(
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
