"""What reaches what in a GraphDef: the variables and the constants behind a tensor."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from math import isnan
from typing import TYPE_CHECKING, Final

import numpy as np

from bncheck.checkpoint.dtypes import dtype_name, is_floating, numpy_dtype
from bncheck.graph.inline import index_of, inline, output_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from bncheck.graph.inline import Node
    from bncheck.proto.graphs_pb2 import GraphDef
    from bncheck.proto.tensors_pb2 import TensorProto

VARIABLE_OPS: Final = frozenset(("Variable", "VariableV2", "VarHandleOp"))
SAVE_OPS: Final = frozenset(("SaveV2", "SaveSlices", "Save"))

# Ops whose output is their first input's value, possibly moved, cast or of another shape.
PASS_ON: Final = frozenset(
    [
        "Identity",
        "ReadVariableOp",
        "Switch",
        "RefSwitch",
        "Enter",
        "RefEnter",
        "Exit",
        "Cast",
        "Reshape",
        "Squeeze",
        "ExpandDims",
        "StopGradient",
        "Snapshot",
    ]
)
MERGES: Final = frozenset(("Merge", "RefMerge"))
_FARTHEST: Final = 1000  # nodes of one such way; a value that passes through more is none we know
_MOST_CONSTANTS: Final = (
    8  # that one tensor may be, before a difference of two is not worth telling
)
# What an initial value may pass on its way: initialized_value() asks the variable itself as well.
_TRANSPARENT: Final = PASS_ON | MERGES | VARIABLE_OPS | {"Fill"}
_FLOATS: Final = {"float32": "float_val", "float64": "double_val"}


def output_number(tensor: str) -> int:
    """Return which of its node's outputs a tensor is: 1 of `a:1`, 0 of `a`."""
    _, colon, number = tensor.rpartition(":")
    return index_of(number) if colon else 0


def node_name(tensor: str) -> str:
    """Return the name of the node that an input refers to: `^a` and `a:1` both mean `a`."""
    name = tensor[1:] if tensor.startswith("^") else tensor
    head, colon, output = name.rpartition(":")
    return head if colon and output.isdigit() else name


class _Behind(dict[str, "Node | None"]):
    """The node behind each input string, found when it is asked for first.

    Every walk asks again for the same tensors; a dict's own look-up makes that cheap.
    """

    def __init__(self, nodes: Mapping[str, Node], calls: Collection[str]) -> None:
        super().__init__(nodes)
        for call in calls:
            del self[call]
        self._nodes = nodes
        self._calls = calls

    def __missing__(self, tensor: str) -> Node | None:
        if tensor.startswith("^"):
            name = tensor[1:]
        else:
            name = node_name(tensor)
            if name in self._calls:
                name = output_name(name, output_number(tensor))
        found = self[tensor] = self._nodes.get(name)
        return found


class Dataflow:
    """A GraphDef's nodes by name, to be walked against the arrows.

    `node` returns the node behind an input string, None where the graph lacks it.
    """

    def __init__(self, graph: GraphDef) -> None:
        self.nodes, calls, self.branches = inline(graph)
        self.node: Callable[[str], Node | None] = _Behind(self.nodes, calls).__getitem__
        self._uniform: dict[str, float | None] = {}
        self._by_op: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes.values():
            self._by_op[node.op].append(node)
        self.ops = frozenset(self._by_op)

    def of(self, *ops: str) -> list[Node]:
        """Return the nodes of some kinds."""
        return [node for op in ops for node in self._by_op.get(op, ())]

    @property
    def is_frozen(self) -> bool:
        """Whether the graph has no variables: their values are constants of it."""
        return not VARIABLE_OPS & self.ops

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that take each node's value or wait for it, by its name.

        Constants and variables are left out: nobody asks who reads them, and they are most.
        """
        found: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes.values():
            for tensor in node.input:
                source = self.node(tensor)
                if source is not None and source.input:
                    found[source.name].append(node)
        return found

    def passed_on(self, tensor: str) -> Iterator[Node]:
        """Yield the nodes whose value a tensor may be, the tensor's own node included.

        The way goes back through ops that pass their input on unchanged in kind, and through both
        sides of a Merge.
        """
        pending = [tensor]
        seen: set[str] = set()
        while pending and len(seen) < _FARTHEST:
            node = self.node(pending.pop())
            if node is None or node.name in seen:
                continue
            seen.add(node.name)
            yield node
            if node.op in PASS_ON:
                pending += node.input[:1]
            elif node.op == "Fill":
                pending += node.input[1:2]
            elif node.op in MERGES:
                pending += [name for name in node.input if not name.startswith("^")]

    def variables_behind(self, tensor: str) -> set[str]:
        """Return the names of the variable ops whose value a tensor may be."""
        return {node.name for node in self.passed_on(tensor) if node.op in VARIABLE_OPS}

    def constants_behind(self, tensor: str) -> set[float]:
        """Return the uniform constants that a tensor may be.

        1 - x counts, as momentum's complement.

        A tensor that can also be something else than a constant gives what is constant of it.
        """
        values: set[float] = set()
        for node in self.passed_on(tensor):
            if node.op == "Const":
                value = self._uniform_value(node)
                values |= set() if value is None else {value}
            elif node.op == "Sub" and len(node.input) >= 2:
                left, right = (self._constants(name) for name in node.input[:2])
                if len(left) <= _MOST_CONSTANTS and len(right) <= _MOST_CONSTANTS:
                    values |= {a - b for a in left for b in right}
        return values

    def _constants(self, tensor: str) -> set[float]:
        """Return the constants behind a tensor without following another subtraction."""
        values = (
            self._uniform_value(node) for node in self.passed_on(tensor) if node.op == "Const"
        )
        return {value for value in values if value is not None}

    def initial_value(self, tensor: str) -> float | None:
        """Return the number that an initializer writes into every element, else None."""
        values: set[float | None] = set()
        for node in self.passed_on(tensor):
            if node.op == "Const":
                values.add(self._uniform_value(node))
            elif node.op in ("ZerosLike", "OnesLike"):
                values.add(0.0 if node.op == "ZerosLike" else 1.0)
            elif node.op not in _TRANSPARENT:
                values.add(None)  # random numbers, a file's contents
        return values.pop() if len(values) == 1 else None

    def _uniform_value(self, node: Node) -> float | None:
        if node.name not in self._uniform:
            self._uniform[node.name] = uniform_value(node.attr["value"].tensor)
        return self._uniform[node.name]

    def ancestors(
        self,
        tensors: Iterable[str],
        stop_at: frozenset[str] = frozenset(),
        *,
        data_only: bool = False,
    ) -> Iterator[Node]:
        """Yield every node that the tensors need, over data edges, and control edges if asked.

        Nodes whose op is in `stop_at` are yielded, and not walked past.
        """
        pending = list(tensors)
        seen: set[str] = set()
        while pending:
            node = self.node(pending.pop())
            if node is None or node.name in seen:
                continue
            seen.add(node.name)
            yield node
            if node.op in stop_at:
                continue
            if data_only:
                pending += [tensor for tensor in node.input if not tensor.startswith("^")]
            else:
                pending += node.input


def whole_numbers(tensor: TensorProto) -> list[int]:
    """Return the numbers that an int32, int64 or bool constant holds; a zero may be left out."""
    width = {"int32": 4, "int64": 8, "bool": 1}.get(dtype_name(tensor.dtype))
    if width is None:
        return []
    content = tensor.tensor_content
    if content:
        return [
            int.from_bytes(content[at : at + width], "little", signed=True)
            for at in range(0, len(content), width)
        ]
    return [*map(int, tensor.bool_val), *tensor.int_val, *tensor.int64_val] or [0]


def uniform_value(tensor: TensorProto) -> float | None:
    """Return the one floating-point number that a constant holds everywhere, else None.

    A constant's values are either its raw bytes or a list that stands for its last number repeated
    (tensorflow/core/framework/tensor.proto).
    """
    name = dtype_name(tensor.dtype)
    if not is_floating(name):
        return None
    if tensor.tensor_content:
        dtype = numpy_dtype(name)
        if dtype is None or len(tensor.tensor_content) % dtype.itemsize:
            return None
        values = np.frombuffer(tensor.tensor_content, dtype).astype(np.float64)
    elif name in _FLOATS:
        listed = getattr(tensor, _FLOATS[name])
        if len(listed) == 1:  # nearly every one
            value = float(listed[0])
            return None if isnan(value) else value
        values = np.array(listed, np.float64)
    else:  # half_val holds the bits of float16 and bfloat16
        dtype = numpy_dtype(name)
        bits = np.array(tensor.half_val, np.int64).astype(np.uint16)
        if dtype is None or dtype.itemsize != 2:
            return None
        values = bits.view(dtype).astype(np.float64)
    if not values.size:
        # Zero everywhere is the one constant that some writers store without any value.
        return 0.0 if all(size.size for size in tensor.tensor_shape.dim) else None
    return float(values[0]) if bool((values == values[0]).all()) else None
