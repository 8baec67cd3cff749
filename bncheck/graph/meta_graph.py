"""`PREFIX.meta`: the MetaGraphDef that tf.train.Saver writes beside a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from bncheck import limits
from bncheck.checkpoint.dtypes import dtype_name
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.sniff import UNKNOWN, describe
from bncheck.errors import DamagedError, NotACheckpointError, UnsupportedError
from bncheck.graph.dataflow import SAVE_OPS, Dataflow, node_name
from bncheck.graph.layers import (
    Program,
    find_layers,
    signature_outputs,
    training_ops,
)
from bncheck.graph.model import COLLECTIONS, Graph, GraphVariable, strip_output
from bncheck.graph.savers import saved_by
from bncheck.proto.graphs_pb2 import MetaGraphDef, VariableDef

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bncheck.graph.inline import Node
    from bncheck.proto.graphs_pb2 import CollectionDef

_M = TypeVar("_M", bound=Message)

_META_GRAPH = "TensorFlow graph (.meta)"
# The checkpoints of a run mostly have the same graph beside each of them: the last one, by the
# file's content.
_LARGEST_KEPT = 1 << 24
_last: dict[bytes, Graph] = {}
_BATCH_NORM_OPS = frozenset(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"))
OTHER_GRAPH: Final = "Name another graph, or use --no-graph to judge the checkpoint alone."
COPY_GRAPH: Final = "Copy it again, or use --no-graph to judge the checkpoint alone."
_FUSED_EPSILON = 1e-4  # the op's default where the attribute is stripped
ASSIGN_OPS = frozenset(("Assign", "AssignVariableOp"))
_SUBTRACT_OPS = frozenset(("AssignSub", "AssignSubVariableOp"))
_RESTORE_OPS = frozenset(("Restore", "RestoreSlice", "RestoreV2"))
_ADD_OPS = frozenset(("Add", "AddV2"))


def read_meta_graph(path: str) -> Graph:
    """Read a binary MetaGraphDef; nothing in it is executed.

    Raises NotFoundError, NotACheckpointError where the file is something else, UnsupportedError
    beyond 2 GiB, and DamagedError where it is cut off.
    """
    data = _content(path, _META_GRAPH)
    graph = _last.get(data)
    if graph is None:
        meta = _parsed(path, data, MetaGraphDef(), _META_GRAPH)
        if not meta.HasField("graph_def") and not meta.collection_def:
            raise NotACheckpointError(
                path, "is a protobuf message, but no TensorFlow graph (.meta)", remedy=OTHER_GRAPH
            )
        graph = graph_of(path, meta, "meta-graph")
        if len(data) <= _LARGEST_KEPT:
            _last.clear()
            _last[data] = graph
    return replace(graph, source=path)


def read_message(path: str, message: _M, what: str) -> _M:
    """Read a file that is one protobuf message; `what` says what that would be.

    Raises as `read_meta_graph` does.
    """
    return _parsed(path, _content(path, what), message, what)


def _content(path: str, what: str) -> bytes:
    with RegularFile(path) as file:
        if file.size > limits.LARGEST_GRAPH:
            raise UnsupportedError(
                path,
                "is larger than 2 GiB, which no protobuf message can be",
                remedy="Use --no-graph to judge the checkpoint alone, or a graph without weights.",
            )
        described = describe(file)
        if described != UNKNOWN:
            raise NotACheckpointError(
                path, f"is no {what} but {described.what}", remedy=described.remedy or OTHER_GRAPH
            )
        return file.read(0, file.size, "the message")


def _parsed(path: str, data: bytes, message: _M, what: str) -> _M:
    """Decode a protobuf message; DamagedError where it is none."""
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise DamagedError(path, f"is no {what}, or it is cut off", remedy=COPY_GRAPH) from None
    return message


def graph_of(
    path: str,
    meta: MetaGraphDef,
    kind: str,
    *,
    save_ops: Sequence[str] = (),
    flow: Dataflow | None = None,
) -> Graph:
    """Return what a MetaGraphDef with variables in collections says; `path` is where it is from.

    `save_ops` are the names of its Saver's, where no SaverDef tells them; `flow` is that of its
    nodes, where it is there already. Raises DamagedError where it contradicts itself.
    """
    return _Builder(path, meta, kind, save_ops, flow or Dataflow(meta.graph_def)).build()


class _Builder:
    """One MetaGraphDef on its way to a Graph."""

    def __init__(
        self, path: str, meta: MetaGraphDef, kind: str, save_ops: Sequence[str], flow: Dataflow
    ) -> None:
        self._save_ops = save_ops
        self._path = path
        self._meta = meta
        self._kind = kind
        self._flow = flow
        # The variable op of a part of `x` is `x/part_0`; everything else goes by the full name.
        self._full_name: dict[str, str] = {}

    def build(self) -> Graph:
        names: dict[str, tuple[str, ...]] = {}
        definitions: dict[str, list[VariableDef]] = {}
        for collection in COLLECTIONS.values():
            members = self._members(self._meta.collection_def.get(collection))
            for definition in members:
                parts = definitions.setdefault(self._name(definition), [])
                if definition.initializer_name or not parts:  # a mere name adds nothing
                    parts.append(definition)
            names[collection] = tuple(dict.fromkeys(map(self._name, members)))
        if not names["variables"] and not self._flow.is_frozen:
            raise DamagedError(
                self._path,
                "has variables in its graph and lists none: it is cut off, or was stripped",
                remedy=COPY_GRAPH,
            )
        variables = {name: self._variable(name, parts) for name, parts in definitions.items()}
        updates = self._meta.collection_def.get("update_ops")
        averages = self._averages()
        program = self._program()
        layers = find_layers(self._flow, program)
        return Graph(
            source=self._path,
            kind=self._kind,
            variables={name: variables[name] for name in names["variables"]},
            collections=names,
            saved_as=self._saved_as(),
            momentum={name: momenta[0] for name, momenta in averages.items()},
            updates={name: len(momenta) for name, momenta in averages.items()},
            normalized=self._normalized(),
            epsilon=self._epsilons(),
            update_ops=len(set(updates.node_list.value)) if updates else 0,
            role=self._role(trains=bool(program.steps), uses=bool(layers)),
            layers=layers,
            tensorflow_version=self._meta.meta_info_def.tensorflow_version,
        )

    def _members(self, collection: CollectionDef | None) -> list[VariableDef]:
        """Return a collection's variables; old files list some collections by name only."""
        if collection is None:
            return []
        try:
            members = [VariableDef.FromString(raw) for raw in collection.bytes_list.value]
        except DecodeError:
            raise DamagedError(
                self._path, "holds a variable that is no VariableDef", remedy=COPY_GRAPH
            ) from None
        return members + [VariableDef(variable_name=n) for n in collection.node_list.value]

    def _name(self, definition: VariableDef) -> str:
        own = strip_output(definition.variable_name)
        full = definition.save_slice_info_def.full_name or own
        self._full_name[own] = full
        return full

    def _variable(self, name: str, parts: list[VariableDef]) -> GraphVariable:
        first = parts[0]
        node = self._flow.node(first.variable_name)
        dtype, shape = "", None
        if node is not None:
            attributes = node.attr
            dtype = dtype_name(attributes["dtype"].type)
            declared = attributes["shape"].shape
            sizes = tuple([dim.size for dim in declared.dim])
            if not declared.unknown_rank and min(sizes, default=0) >= 0:
                shape = sizes
        if first.save_slice_info_def.full_shape:
            shape = tuple(first.save_slice_info_def.full_shape)
        initials = {self._initial(part) for part in parts}
        return GraphVariable(
            name,
            dtype,
            shape,
            initial=initials.pop() if len(initials) == 1 else None,
            initial_known=node is not None,
            restored=any(map(self._is_restored, parts)),
        )

    def _initial(self, definition: VariableDef) -> float | None:
        source = definition.initial_value_name or self._assigned(definition)
        return self._flow.initial_value(source) if source else None

    def _assigned(self, definition: VariableDef) -> str:
        """Return what the initializer assigns; before TensorFlow 1.5 nothing else was named."""
        assign = self._flow.node(definition.initializer_name)
        return assign.input[1] if assign is not None and len(assign.input) > 1 else ""

    def _is_restored(self, definition: VariableDef) -> bool:
        """Whether the initializer reads a checkpoint, as init_from_checkpoint makes it."""
        return any(
            node.op in _RESTORE_OPS for node in self._flow.passed_on(self._assigned(definition))
        )

    def _saved_as(self) -> dict[str, str] | None:
        """Return what the graph's own Saver saves, by the inputs of its save ops.

        None without a Saver.
        """
        told = self._meta.saver_def.save_tensor_name
        sinks = [told] if told else self._save_ops
        saved: dict[str, str] = {}
        found = False
        for node in self._flow.ancestors(sinks, stop_at=SAVE_OPS):
            if node.op in SAVE_OPS:
                found = True
                for name, _, tensor in saved_by(self._flow, node):
                    # A distribution strategy saves the mean over its replicas, not a variable.
                    for variable in self._flow.variables_behind(tensor) or (name,):
                        saved[self._full_name.get(variable, variable)] = name
        return saved if found else None

    def _averages(self) -> dict[str, list[float]]:
        """Return the momentum of each update of each moving average, by variable.

        `variable -= (variable - batch) * (1 - momentum)`, where the factor is a constant, or a
        choice by is_training between that and 0; or `variable = variable * momentum + batch *
        (...)`.
        """
        averages: dict[str, list[float]] = {}
        for node in self._flow.of(*_SUBTRACT_OPS, *ASSIGN_OPS):
            if len(node.input) < 2:
                continue
            momenta: set[float] = set()
            if node.op in _SUBTRACT_OPS:
                momenta = {1 - factor for factor in self._factors(node.input[1]) if 0 < factor <= 1}
            else:
                momenta = self._kept_fractions(node)
            if len(momenta) == 1:
                momentum = float(f"{momenta.pop():.7g}")  # as precise as the float32 that it was
                for variable in self._flow.variables_behind(node.input[0]):
                    name = self._full_name.get(variable, variable)
                    averages.setdefault(name, []).append(momentum)
        return averages

    def _factors(self, tensor: str) -> set[float]:
        """Return the constants that a product has as a factor."""
        product = self._flow.node(tensor)
        if product is None or product.op != "Mul":
            return set()
        return {c for factor in product.input[:2] for c in self._flow.constants_behind(factor)}

    def _kept_fractions(self, assign: Node) -> set[float]:
        """Return how much of its own value an assigned variable keeps: `v = v * momentum + ...`."""
        total = self._flow.node(assign.input[1])
        if total is None or total.op not in _ADD_OPS:
            return set()
        own = self._flow.variables_behind(assign.input[0])
        kept: set[float] = set()
        for term in total.input[:2]:
            product = self._flow.node(term)
            if product is not None and any(
                own & self._flow.variables_behind(factor) for factor in product.input[:2]
            ):
                kept |= {c for c in self._factors(term) if 0 < c < 1}
        return kept

    def _normalized(self) -> frozenset[str]:
        """Return the variables that fused batch-norm ops take as scale and offset."""
        return frozenset(
            self._full_name.get(variable, variable)
            for node in self._flow.of(*_BATCH_NORM_OPS)
            for tensor in node.input[1:3]
            for variable in self._flow.variables_behind(tensor)
        )

    def _epsilons(self) -> Mapping[str, float]:
        """Return each batch norm's epsilon by the variables that it reads, fused or not."""
        epsilons: dict[str, float] = {}
        for node in self._flow.of(*_BATCH_NORM_OPS):
            stored = node.attr["epsilon"].f if "epsilon" in node.attr else _FUSED_EPSILON
            self._note(epsilons, node.input[1:5], stored)
        for node in self._flow.of(*_ADD_OPS):
            if len(node.input) >= 2:
                for value, other in (node.input[:2], reversed(node.input[:2])):
                    constants = self._flow.constants_behind(other)
                    if len(constants) == 1 and 0 < min(constants) < 0.1:
                        self._note(epsilons, [value], min(constants))
        return epsilons

    def _note(self, epsilons: dict[str, float], tensors: Iterable[str], epsilon: float) -> None:
        for tensor in tensors:
            for variable in self._flow.variables_behind(tensor):
                epsilons[self._full_name.get(variable, variable)] = float(f"{epsilon:.7g}")

    def _program(self) -> Program:
        trainable, initializers = set(), set()
        for name in ("variables", "trainable_variables"):
            for definition in self._members(self._meta.collection_def.get(name)):
                initializers.add(node_name(definition.initializer_name))
                if name == "trainable_variables":
                    trainable.add(node_name(definition.variable_name))
        return Program(
            names=self._full_name,
            steps=training_ops(self._flow, trainable, initializers),
            signatures=signature_outputs(self._meta),
        )

    def _role(self, *, trains: bool, uses: bool) -> str:
        if trains or "train_op" in self._meta.collection_def:
            return "training"
        return "serving" if uses or "Placeholder" in self._flow.ops else "unknown"
