"""`PREFIX.meta`: the MetaGraphDef that tf.train.Saver writes beside a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from bncheck.checkpoint.dtypes import dtype_name
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.sniff import UNKNOWN, describe
from bncheck.errors import DamagedError, NotACheckpointError, UnsupportedError
from bncheck.graph.dataflow import SAVE_OPS, VARIABLE_OPS, Dataflow
from bncheck.graph.model import COLLECTIONS, Graph, GraphVariable, strip_output
from bncheck.proto.graphs_pb2 import MetaGraphDef, VariableDef

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bncheck.proto.graphs_pb2 import CollectionDef, NodeDef

_LARGEST = (1 << 31) - 1  # protobuf's own limit for one message
_BATCH_NORM_OPS = frozenset(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"))
_FUSED_EPSILON = 1e-4  # the op's default where the attribute is stripped
_SUBTRACT_OPS = frozenset(("AssignSub", "AssignSubVariableOp"))
_ADD_OPS = frozenset(("Add", "AddV2"))
_APPLY_PREFIXES = ("Apply", "ResourceApply", "SparseApply", "ResourceSparseApply")


def read_meta_graph(path: str) -> Graph:
    """Read a binary MetaGraphDef; nothing in it is executed.

    Raises NotFoundError, NotACheckpointError where the file is something else, UnsupportedError
    beyond 2 GiB, and DamagedError where it is cut off.
    """
    with RegularFile(path) as file:
        if file.size > _LARGEST:
            raise UnsupportedError(path, "is larger than 2 GiB, which no protobuf message can be")
        description = describe(file)
        if description != UNKNOWN:
            raise NotACheckpointError(path, f"is no TensorFlow graph (.meta) but {description}")
        data = file.read(0, file.size, "the MetaGraphDef")
    try:
        meta = MetaGraphDef.FromString(data)
    except DecodeError:
        raise DamagedError(
            path,
            "is no TensorFlow graph (.meta), or it is cut off",
            remedy="Copy it again, or use --no-graph to judge the checkpoint alone.",
        ) from None
    if not meta.HasField("graph_def") and not meta.collection_def:
        raise NotACheckpointError(path, "is a protobuf message, but no TensorFlow graph (.meta)")
    return _Builder(path, meta).build()


class _Builder:
    """One MetaGraphDef on its way to a Graph."""

    def __init__(self, path: str, meta: MetaGraphDef) -> None:
        self._path = path
        self._meta = meta
        self._flow = Dataflow(meta.graph_def)
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
        if not names["variables"] and any(
            node.op in VARIABLE_OPS for node in self._flow.nodes.values()
        ):
            raise DamagedError(
                self._path,
                "has variables in its graph and lists none: it is cut off, or was stripped",
                remedy="Copy it again, or use --no-graph to judge the checkpoint alone.",
            )
        variables = {name: self._variable(name, parts) for name, parts in definitions.items()}
        updates = self._meta.collection_def.get("update_ops")
        return Graph(
            source=self._path,
            kind="meta-graph",
            variables={name: variables[name] for name in names["variables"]},
            collections=names,
            saved_as=self._saved_as(),
            momentum=self._momenta(),
            epsilon=self._epsilons(),
            update_ops=len(set(updates.node_list.value)) if updates else 0,
            role=self._role(),
            tensorflow_version=self._meta.meta_info_def.tensorflow_version,
        )

    def _members(self, collection: CollectionDef | None) -> list[VariableDef]:
        """Return a collection's variables; old files list some collections by name only."""
        if collection is None:
            return []
        try:
            members = [VariableDef.FromString(raw) for raw in collection.bytes_list.value]
        except DecodeError:
            raise DamagedError(self._path, "holds a variable that is no VariableDef") from None
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
            dtype = dtype_name(node.attr["dtype"].type)
            declared = node.attr["shape"].shape
            if not declared.unknown_rank and all(dim.size >= 0 for dim in declared.dim):
                shape = tuple(dim.size for dim in declared.dim)
        if first.HasField("save_slice_info_def"):
            shape = tuple(first.save_slice_info_def.full_shape)
        initials = {self._initial(part) for part in parts}
        return GraphVariable(
            name,
            dtype,
            shape,
            initial=initials.pop() if len(initials) == 1 else None,
            initial_known=node is not None,
        )

    def _initial(self, definition: VariableDef) -> float | None:
        source = definition.initial_value_name
        if not source:  # before TensorFlow 1.5 only the assigning op was named
            assign = self._flow.node(definition.initializer_name)
            if assign is None or len(assign.input) < 2:
                return None
            source = assign.input[1]
        return self._flow.initial_value(source)

    def _saved_as(self) -> dict[str, str] | None:
        """Return what the graph's own Saver saves, by the inputs of its save ops.

        None without a Saver.
        """
        saver = self._meta.saver_def
        if not saver.save_tensor_name:
            return None
        saved: dict[str, str] = {}
        found = False
        for node in self._flow.ancestors([saver.save_tensor_name], stop_at=SAVE_OPS):
            if node.op in SAVE_OPS:
                found = True
                for name, tensor in self._saved_by(node):
                    # A distribution strategy saves the mean over its replicas, not a variable.
                    for variable in self._flow.variables_behind(tensor) or (name,):
                        saved[self._full_name.get(variable, variable)] = name
        return saved if found else None

    def _saved_by(self, node: NodeDef) -> Iterable[tuple[str, str]]:
        """Return one save op's names and tensors; its inputs: file, names, (slices,) tensors."""
        if len(node.input) < 2:
            return ()
        constant = self._flow.node(node.input[1])
        if constant is None or constant.op != "Const":
            return ()
        first = 2 if node.op == "Save" else 3
        tensors = [tensor for tensor in node.input if not tensor.startswith("^")][first:]
        names = _strings(constant, len(tensors))
        decoded = (name.decode("utf-8", "surrogateescape") for name in names)
        return zip(decoded, tensors, strict=False)

    def _momenta(self) -> Mapping[str, float]:
        """Return each moving average's momentum: `variable -= (variable - batch) * (1 - momentum)`.

        The factor 1 - momentum is a constant, or a choice by is_training between that and 0.
        """
        momenta: dict[str, float] = {}
        for node in self._flow.nodes.values():
            if node.op not in _SUBTRACT_OPS or len(node.input) < 2:
                continue
            product = self._flow.node(node.input[1])
            if product is None or product.op != "Mul":
                continue
            decays = {
                decay
                for factor in product.input[:2]
                for decay in self._flow.constants_behind(factor)
                if 0 < decay <= 1
            }
            if len(decays) == 1:
                momentum = float(f"{1 - decays.pop():.7g}")  # as precise as the float32 that it was
                for variable in self._flow.variables_behind(node.input[0]):
                    momenta[self._full_name.get(variable, variable)] = momentum
        return momenta

    def _epsilons(self) -> Mapping[str, float]:
        """Return each batch norm's epsilon by the variables that it reads, fused or not."""
        epsilons: dict[str, float] = {}
        for node in self._flow.nodes.values():
            if node.op in _BATCH_NORM_OPS:
                stored = node.attr["epsilon"].f if "epsilon" in node.attr else _FUSED_EPSILON
                self._note(epsilons, node.input[1:5], stored)
            elif node.op in _ADD_OPS and len(node.input) >= 2:
                for value, other in (node.input[:2], reversed(node.input[:2])):
                    constants = self._flow.constants_behind(other)
                    if len(constants) == 1 and 0 < min(constants) < 0.1:
                        self._note(epsilons, [value], min(constants))
        return epsilons

    def _note(self, epsilons: dict[str, float], tensors: Iterable[str], epsilon: float) -> None:
        for tensor in tensors:
            for variable in self._flow.variables_behind(tensor):
                epsilons[self._full_name.get(variable, variable)] = float(f"{epsilon:.7g}")

    def _role(self) -> str:
        trained = any(node.op.startswith(_APPLY_PREFIXES) for node in self._flow.nodes.values())
        return "training" if trained or "train_op" in self._meta.collection_def else "unknown"


def _strings(constant: NodeDef, count: int) -> list[bytes]:
    """Return `count` elements of a string constant; a shorter list repeats its last one."""
    strings = list(constant.attr["value"].tensor.string_val)
    return (strings + strings[-1:] * (count - len(strings)))[:count]
