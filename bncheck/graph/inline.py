"""Function calls written out: one flat table of nodes, whatever functions a graph is made of.

TensorFlow 2 keeps whole models in library functions, and both sides of a condition in two of them.
Here each call is replaced by the nodes of its function, so that the ways of data and control are
the same everywhere. What a call returns is a `Merge` where it may be several things, as in graphs
with TensorFlow 1's control flow (tensorflow/core/common_runtime/inline_function_utils.cc does the
like).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck import limits
from bncheck.proto.graphs_pb2 import NodeDef

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bncheck.proto.graphs_pb2 import AttrValue, FunctionDef, GraphDef

# Call ops, the attributes that name their functions, and how many inputs come before the arguments.
_CALLS: Final[Mapping[str, tuple[tuple[str, ...], int]]] = {
    "PartitionedCall": (("f",), 0),
    "StatefulPartitionedCall": (("f",), 0),
    "TPUPartitionedCall": (("f",), 0),
    "If": (("then_branch", "else_branch"), 1),
    "StatelessIf": (("then_branch", "else_branch"), 1),
    "Case": (("branches",), 1),
    "StatelessCase": (("branches",), 1),
    "While": (("body", "cond"), 0),
    "StatelessWhile": (("body", "cond"), 0),
}
_CONDITIONS: Final = frozenset(("If", "StatelessIf"))
_LOOPS: Final = frozenset(("While", "StatelessWhile"))
# The outputs of ops that have several of different names; all others count theirs in one list.
_OUTPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "FusedBatchNorm": ("y", "batch_mean", "batch_variance"),
    "FusedBatchNormV2": ("y", "batch_mean", "batch_variance"),
    "FusedBatchNormV3": ("y", "batch_mean", "batch_variance"),
    "Switch": ("output_false", "output_true"),
    "RefSwitch": ("output_false", "output_true"),
    "Merge": ("output", "value_index"),
}
_BETWEEN: Final = "|"  # a call's name and an inner node's; TensorFlow allows it in no name


class Node(NamedTuple):
    """One node of the flat graph: its inputs are tensors (`node:1`) and waits (`^node`).

    `source` is the message that it stems from, None of what a call gives out.
    """

    name: str
    op: str
    input: Sequence[str]
    source: NodeDef | None = None

    @property
    def attr(self) -> Mapping[str, AttrValue]:
        """The attributes that were stored with it; one that was not reads as its default."""
        return (NodeDef() if self.source is None else self.source).attr


class Branch(NamedTuple):
    """The side of a condition that a node is on: the deciding tensor, and its value there."""

    predicate: str
    value: bool


class Inlined(NamedTuple):
    """All nodes by name.

    `calls` are the names of those that were written out; a tensor `call:1` is the node that
    `output_name` names. `branches` tells which of the functions are one side of a condition.
    """

    nodes: dict[str, Node]
    calls: set[str]
    branches: dict[str, Branch]


def label(name: str) -> str:
    """Return the name that the program gave a node, without the calls around it."""
    return name.rpartition(_BETWEEN)[2]


def enclosing_calls(name: str) -> list[str]:
    """Return the names of the calls that a node is written out in, the outermost first."""
    parts = name.split(_BETWEEN)
    return [_BETWEEN.join(parts[:length]) for length in range(1, len(parts))]


def inline(graph: GraphDef) -> Inlined:
    """Return the nodes of a graph with all function calls written out.

    A graph without functions keeps its nodes as they are. Calls that nest deeper than 64 and what
    goes beyond half a million nodes more, or beyond 256 MiB of names, stay calls.
    """
    # Each message's fields are read once: every access makes a new object of them. A slice is the
    # fastest of the ways to a list.
    flat = [Node(node.name, node.op, node.input[:], node) for node in graph.node]
    nodes = {node.name: node for node in flat}
    functions = {function.signature.name: function for function in graph.library.function}
    result = Inlined(nodes, set(), {})
    if functions:
        _Inliner(result, functions).run([node.name for node in flat])
    return result


class _Call(NamedTuple):
    node: Node
    depth: int


class _Inliner:
    def __init__(self, result: Inlined, functions: Mapping[str, FunctionDef]) -> None:
        self._nodes, self._calls, self._branches = result
        self._functions = functions
        self._sizes: dict[str, tuple[int, int]] = {}
        self._nodes_left = limits.MOST_INLINED
        self._letters_left = limits.LONGEST_INLINED

    def run(self, names: Sequence[str]) -> None:
        pending = [_Call(self._nodes[name], 0) for name in names if self._is_call(name)]
        while pending:
            call = pending.pop()
            if call.depth < limits.DEEPEST_CALL:
                inner = self._write_out(call.node)
                pending += [_Call(self._nodes[n], call.depth + 1) for n in inner]

    def _is_call(self, name: str) -> bool:
        op = self._nodes[name].op
        return op in _CALLS or op in self._functions

    def _write_out(self, call: Node) -> list[str]:
        """Replace a call by its functions' nodes; return those of them that are calls again."""
        attributes, before = _CALLS.get(call.op, ((), 0))
        names = _function_names(call, attributes) if attributes else [call.op]
        if not self._spend(call, names):
            return []
        arguments = [tensor for tensor in call.input if not tensor.startswith("^")]
        control = [tensor for tensor in call.input if tensor.startswith("^")]
        inner: list[str] = []
        returns: list[list[str]] = []
        effects: list[str] = list(control)
        for number, name in enumerate(names):
            function = self._functions.get(name)
            if function is None:
                continue
            prefix = f"{call.name}{_BETWEEN}{name}" if len(names) > 1 else call.name
            if call.op in _CONDITIONS and arguments:
                self._branches[prefix] = Branch(arguments[0], number == 0)
            body = _Body(function, prefix, arguments[before:])
            inner += self._add(body, control)
            if call.op in _LOOPS and number == 1:
                effects += body.effects()
                continue  # the condition of a loop returns nothing but whether to go on
            returns.append(body.returns())
            effects += body.effects()
        self._close(call, returns, effects)
        return inner

    def _spend(self, call: Node, names: Sequence[str]) -> bool:
        """Whether a call's nodes and their names fit into what is left, which they are taken of.

        What was written counts, not what is there: both sides of a condition may be one function,
        and are nodes of the same names then.
        """
        nodes = letters = 0
        for name in names:
            inner, inputs = self._size(name)
            nodes += 1 + inner
            letters += (len(call.name) + len(name)) * (inner + inputs)
        if nodes > self._nodes_left or letters > self._letters_left:
            return False
        self._nodes_left -= nodes
        self._letters_left -= letters
        return True

    def _size(self, name: str) -> tuple[int, int]:
        """Return how many nodes a function has, and how many inputs they have together."""
        if name not in self._sizes:
            nodes = self._functions[name].node_def if name in self._functions else ()
            self._sizes[name] = (len(nodes), sum([len(node.input) for node in nodes]))
        return self._sizes[name]

    def _add(self, body: _Body, control: Sequence[str]) -> list[str]:
        calls = []
        for node in body.nodes(control):
            self._nodes[node.name] = node
            if self._is_call(node.name):
                calls.append(node.name)
        return calls

    def _close(self, call: Node, returns: Sequence[Sequence[str]], effects: Sequence[str]) -> None:
        """Let the call's outputs be what its functions return, and itself all that they do."""
        initial = [tensor for tensor in call.input if not tensor.startswith("^")]
        count = max(map(len, returns), default=0)
        for output in range(count):
            values = [each[output] for each in returns if output < len(each)]
            if call.op in _LOOPS and output < len(initial):
                values.append(initial[output])
            name = output_name(call.name, output)
            self._nodes[name] = Node(name, "Merge", [*values, f"^{call.name}"])
        self._calls.add(call.name)
        # Whoever needs a call runs its effects; its values go by the outputs' own nodes.
        self._nodes[call.name] = Node(call.name, call.op, tuple(effects), call.source)


def index_of(digits: str) -> int:
    """Return the output that a number behind a colon means; 0 where there is no such number."""
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= limits.LONGEST_OUTPUT
    return int(digits) if is_number else 0


def output_name(call: str, output: int) -> str:
    """Return the name of the node that an inlined call's output is."""
    return f"{call}{_BETWEEN}<{output}>"


def _function_names(call: Node, attributes: Sequence[str]) -> list[str]:
    names: list[str] = []
    for attribute in attributes:
        if attribute in call.attr:
            value = call.attr[attribute]
            names += [each.name for each in value.list.func] or [value.func.name]
    return names


class _Body:
    """One function at one call: its nodes under the call's name, its arguments put in."""

    def __init__(self, function: FunctionDef, prefix: str, arguments: Sequence[str]) -> None:
        self._function = function
        self._prefix = prefix
        names = [each.name for each in function.signature.input_arg]
        self._arguments = dict(zip(names, arguments, strict=False))
        self._ops = {node.name: node.op for node in function.node_def}

    def nodes(self, control: Sequence[str]) -> list[Node]:
        return [
            Node(
                f"{self._prefix}{_BETWEEN}{node.name}",
                node.op,
                [*map(self._tensor, node.input), *(control if not node.input else ())],
                node,
            )
            for node in self._function.node_def
        ]

    def returns(self) -> list[str]:
        """Return what the function's outputs are, in the order of its signature."""
        returned = self._function.ret
        return [
            self._tensor(returned[each.name])
            for each in self._function.signature.output_arg
            if each.name in returned
        ]

    def effects(self) -> list[str]:
        """Return what runs whenever the function does, used or not."""
        told = [f"^{self._prefix}{_BETWEEN}{name}" for name in self._function.control_ret.values()]
        if told:
            return told
        return [
            f"^{self._prefix}{_BETWEEN}{name}"
            for name, op in self._ops.items()
            if op.startswith("Assign")
        ]

    def _tensor(self, tensor: str) -> str:
        """Return an input of the body as one of the flat graph: `node:output:0` is `node:0`."""
        if tensor.startswith("^"):
            name = tensor[1:]
            inside = name in self._ops
            return f"^{self._prefix}{_BETWEEN}{name}" if inside else tensor
        name, _, rest = tensor.partition(":")
        if name not in self._ops:
            return self._arguments.get(name, name)
        output, _, number = rest.rpartition(":")
        index = index_of(number)
        listed = _OUTPUTS.get(self._ops[name], ())
        if output in listed:
            index = listed.index(output)
        return f"{self._prefix}{_BETWEEN}{name}:{index}"
