"""The batch norms of a graph: how each is trained, and what its outputs normalize with."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.graph.conditions import branches_of, is_fed, is_taken
from bncheck.graph.inline import label
from bncheck.graph.model import GraphLayer
from bncheck.graph.normalizations import (
    ASSIGNS,
    MEAN,
    VARIANCE,
    find_updates,
    find_uses,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from bncheck.graph.dataflow import Dataflow
    from bncheck.graph.inline import Node
    from bncheck.graph.normalizations import Update, Use
    from bncheck.proto.graphs_pb2 import MetaGraphDef

_APPLY_PREFIXES: Final = ("Apply", "ResourceApply", "SparseApply", "ResourceSparseApply")
# Scopes that a library puts between a layer's and its ops'.
_INNER_SCOPE: Final = re.compile(r"(batchnorm|cond|moments|while|FusedBatchNormV?[23]?)(_\d+)?")
_WORST_FIRST: Final = ("batch", "undecided", "untold", "moving")
# What no output of a model is: it stores, initializes, or only waits for others.
_NO_OUTPUTS: Final = frozenset(
    [
        *("NoOp", "Const", "SaveV2", "SaveSlices", "Save", "MergeV2Checkpoints", "Assert"),
        *("VarIsInitializedOp", "IsVariableInitialized", "ReportUninitializedVariables"),
    ]
)


class Program(NamedTuple):
    """What is known of a graph beside its nodes.

    `names` are the variables' names by their ops, `steps` the ops that train, `signatures` the
    tensors that each signature gives out.
    """

    names: Mapping[str, str]
    steps: Collection[str]
    signatures: Sequence[Sequence[str]] = ()


def signature_outputs(meta: MetaGraphDef) -> list[list[str]]:
    """Return the tensors that each of a MetaGraphDef's signatures gives out."""
    return [
        [tensor.name for tensor in signature.outputs.values() if tensor.name]
        for signature in meta.signature_def.values()
    ]


def apply_ops(flow: Dataflow) -> list[Node]:
    """Return the ops by which optimizers update variables, the first input of each."""
    return flow.of(*[op for op in flow.ops if op.startswith(_APPLY_PREFIXES)])


def training_ops(
    flow: Dataflow, trainable: Collection[str], initializers: Collection[str]
) -> list[str]:
    """Return the ops that train: optimizers' apply ops, and assignments to trainable variables.

    `trainable` and `initializers` are names of ops; a restore is no training.
    """
    found = [node.name for node in apply_ops(flow)]
    trained = set(trainable)
    for node in flow.of(*ASSIGNS) if trained else ():
        if node.name not in initializers and node.input:
            restored = any(each.op.startswith("Restore") for each in flow.passed_on(node.input[-1]))
            if not restored and flow.variables_behind(node.input[0]) & trained:
                found.append(node.name)
    return found


def find_layers(flow: Dataflow, program: Program) -> tuple[GraphLayer, ...]:
    """Return the graph's batch norms by name."""
    updates = find_updates(flow)
    uses = find_uses(flow, updates)
    if not uses:
        return ()
    by_variable: dict[str, list[Update]] = defaultdict(list)
    for update in updates:
        by_variable[update.variable].append(update)
    training = bool(program.steps)
    reached = _run_by_steps(flow, program.steps) if training else set()
    served = _Served(flow, program)
    layers = []
    for group in _joined(uses):
        roles = {role: name for use in group for role, name in use.roles.items()}
        own = [
            each for role in (MEAN, VARIANCE) for each in by_variable.get(roles.get(role, ""), ())
        ]
        layers.append(
            GraphLayer(
                name=_name(group, roles, program.names),
                roles={role: program.names.get(name, name) for role, name in roles.items()},
                fused=all(use.fused for use in group),
                updates=tuple(update.node for update in own),
                trains=any(use.batch for use in group),
                runs=_runs(own, reached) if training and own else None,
                serves=served.with_(group),
                written=tuple(each.node for each in own if served.runs(each.node)),
            )
        )
    return tuple(sorted(layers, key=lambda layer: layer.name))


def _joined(uses: Iterable[Use]) -> list[list[Use]]:
    """Bring the uses of one layer together: they share a variable."""
    home: dict[str, int] = {}
    groups: dict[int, list[Use]] = {}
    for number, use in enumerate(uses):
        groups[number] = [use]
        for variable in use.roles.values():
            other = home.get(variable, number)
            if other != number:
                for moved in groups.pop(other):
                    groups[number].append(moved)
                    home.update(dict.fromkeys(moved.roles.values(), number))
            home[variable] = number
    return list(groups.values())


def _run_by_steps(flow: Dataflow, steps: Iterable[str]) -> set[str]:
    """Return all nodes that run with a training step.

    That is what the training ops need, and whatever else is needed by an op that also waits for
    them: tf.group(train, updates), or an outer step.
    """
    pending = list(steps)
    behind = set(pending)
    while pending:
        for node in flow.consumers.get(pending.pop(), ()):
            if node.name not in behind:
                behind.add(node.name)
                pending.append(node.name)
    return _ancestors(flow, behind)


def _ancestors(flow: Dataflow, names: Iterable[str]) -> set[str]:
    return {node.name for node in flow.ancestors(f"^{name}" for name in names)}


class _Served:
    """What the outputs of a graph for serving need: by data alone, and in all.

    A graph without signatures may give out every last tensor that it has.
    """

    def __init__(self, flow: Dataflow, program: Program) -> None:
        self._flow = flow
        signatures = [
            told
            for each in program.signatures
            if (told := [tensor for tensor in each if flow.node(tensor) is not None])
        ]
        self._is_told = bool(signatures)
        tensors = [
            tensor for each in signatures if not _trains(flow, each, program) for tensor in each
        ]
        if not signatures and not program.steps:
            tensors = _last_tensors(flow)
        self._by_data = {node.name for node in flow.ancestors(tensors, data_only=True)}
        self._in_all = {node.name for node in flow.ancestors(tensors)}

    def runs(self, update: str) -> bool:
        """Whether an output runs an update, whatever the caller feeds."""
        node = self._flow.nodes[update]
        if update not in self._in_all:
            return False
        return is_taken(self._flow, branches_of(self._flow, node)) is True

    def with_(self, group: Iterable[Use]) -> str:
        """Return what the outputs normalize with at a layer: see GraphLayer.serves.

        Without signatures, a copy of the model in training mode beside the one that serves is
        nothing that anybody has to ask for.
        """
        found = set()
        for use in group:
            taken: bool | None = False
            if use.node.name in self._by_data:
                taken = is_taken(self._flow, use.branches)
            if taken is not False:
                undecided = "undecided" if is_fed(self._flow, use.branches) else "untold"
                kind = "moving" if not use.batch else "batch" if taken else undecided
                found.add((kind, bool(taken)))
        if not self._is_told and ("moving", True) in found:
            return "moving"
        kinds = {kind for kind, _ in found}
        return next(
            (each for each in ("batch", "undecided", "untold", "moving") if each in kinds), ""
        )


def _trains(flow: Dataflow, outputs: Iterable[str], program: Program) -> bool:
    """Whether a signature is for training, as on a device: it needs an op that trains."""
    steps = set(program.steps)
    return bool(steps) and any(node.name in steps for node in flow.ancestors(outputs))


def _last_tensors(flow: Dataflow) -> list[str]:
    taken = {
        source.name
        for node in flow.nodes.values()
        for tensor in node.input
        if (source := flow.node(tensor)) is not None
    }
    return [
        name
        for name, node in flow.nodes.items()
        if name not in taken
        and node.op not in _NO_OUTPUTS
        and node.op not in ASSIGNS
        and not flow.variables_behind(name)  # an update reads what it wrote
    ]


def _runs(updates: Iterable[Update], reached: Collection[str]) -> bool:
    """Whether each statistic has an update that runs; the other towers' may stand still."""
    run: dict[str, bool] = {}
    for update in updates:
        run[update.variable] = run.get(update.variable, False) or update.node in reached
    return all(run.values())


def _name(group: Iterable[Use], roles: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Name a layer by the scope of its variables where they have one in common, else of its ops."""
    scopes = {names.get(name, name).rpartition("/")[0] for name in roles.values()}
    if len(scopes) == 1 and "" not in scopes:
        return scopes.pop()
    parts = label(min(use.node.name for use in group)).split("/")[:-1]
    while parts and _INNER_SCOPE.fullmatch(parts[-1]):
        parts.pop()
    return "/".join(parts)
