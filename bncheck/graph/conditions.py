"""Which side of a condition a node is on, and whether the graph itself decides it.

TensorFlow 1's tf.cond sends each tensor through a Switch to one of two sides; an If has a function
for each. The deciding tensor may be a constant, a placeholder with a default (as Keras' learning
phase), or something that only the caller knows.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck import limits
from bncheck.graph.dataflow import MERGES, PASS_ON, output_number, whole_numbers
from bncheck.graph.inline import Branch, enclosing_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from bncheck.graph.dataflow import Dataflow
    from bncheck.graph.inline import Node

_SWITCHES: Final = frozenset(("Switch", "RefSwitch"))
_SELECTS: Final = frozenset(("Select", "SelectV2"))
_COMPARISONS: Final[Mapping[str, Callable[[object, object], bool]]] = {
    "Equal": operator.eq,
    "NotEqual": operator.ne,
}
_FARTHEST: Final = 300  # nodes that one tensor is followed back through
_STRING: Final = 7  # tensorflow/core/framework/types.proto


class Source(NamedTuple):
    """A node whose value a tensor may be, and the sides of conditions that are on the way."""

    node: Node
    output: int
    branches: tuple[Branch, ...]


# What no tensor of the graph is known to decide.
UNTOLD: Final = Branch("", value=True)


def sources(flow: Dataflow, tensor: str) -> Iterator[Source]:
    """Yield all that a tensor may be, through ops that pass values on and both sides of a Merge."""
    pending: list[tuple[str, tuple[Branch, ...]]] = [(tensor, ())]
    seen: set[tuple[str, tuple[Branch, ...]]] = set()
    while pending and len(seen) < _FARTHEST:
        current, branches = pending.pop()
        node = flow.node(current)
        if node is None or (node.name, branches) in seen:
            continue
        seen.add((node.name, branches))
        if node.op in MERGES:
            pending += [(name, branches) for name in node.input if not name.startswith("^")]
        elif node.op in _SWITCHES and len(node.input) > 1:
            side = Branch(node.input[1], output_number(current) == 1)
            pending.append((node.input[0], (*branches, side)))
        elif node.op in _SELECTS and len(node.input) > 2:
            predicate, *sides = node.input[:3]
            for tensor, value in zip(sides, (True, False), strict=True):
                pending.append((tensor, (*branches, Branch(predicate, value))))
        elif node.op in PASS_ON and node.input:
            pending.append((node.input[0], branches))
        else:
            yield Source(node, output_number(current), (*branches, *around(flow, node)))


def around(flow: Dataflow, node: Node) -> list[Branch]:
    """Return the sides of conditions whose functions a node stands in."""
    calls = enclosing_calls(node.name)
    return [flow.branches[call] for call in calls if call in flow.branches]


def branches_of(flow: Dataflow, node: Node) -> list[Branch]:
    """Return the sides of conditions that a node is on, by its inputs and the functions around."""
    found = around(flow, node)
    for tensor in node.input:
        if not tensor.startswith("^"):
            found += next((list(each.branches) for each in sources(flow, tensor)), [])
    return list(dict.fromkeys(found))


def is_taken(flow: Dataflow, branches: list[Branch]) -> bool | None:
    """Whether all these sides are taken; None where the caller decides."""
    undecided = False
    for branch in branches:
        value = decide(flow, branch.predicate)
        if value is None:
            undecided = True
        elif value is not branch.value:
            return False
    return None if undecided else True


def decide(flow: Dataflow, tensor: str, depth: int = 0) -> bool | None:
    """Return a predicate's value as the graph fixes it, None where the caller feeds it."""
    for source in sources(flow, tensor):
        node = source.node
        inputs = [name for name in node.input if not name.startswith("^")]
        if node.op == "Const":
            return _constant(node)
        if depth >= limits.DEEPEST_PREDICATE:
            return None
        if node.op == "PlaceholderWithDefault" and inputs:
            return decide(flow, inputs[0], depth + 1)
        if node.op == "Fill" and len(inputs) > 1:  # a predicate for each channel
            return decide(flow, inputs[1], depth + 1)
        if node.op in _COMPARISONS and len(inputs) > 1:
            left, right = (scalar(flow, tensor) for tensor in inputs[:2])
            known = left is not None and right is not None
            return _COMPARISONS[node.op](left, right) if known else None
        if node.op == "LogicalNot" and inputs:
            value = decide(flow, inputs[0], depth + 1)
            return None if value is None else not value
        if node.op in ("LogicalAnd", "LogicalOr") and len(inputs) > 1:
            return _joined(node.op, [decide(flow, name, depth + 1) for name in inputs[:2]])
        return None
    return None


def is_fed(flow: Dataflow, branches: Iterable[Branch]) -> bool:
    """Whether a placeholder without a default has a part in what the graph does not decide."""
    return any(
        node.op == "Placeholder"
        for branch in branches
        if decide(flow, branch.predicate) is None
        for node in flow.ancestors([branch.predicate])
    )


def scalar(flow: Dataflow, tensor: str) -> int | bytes | None:
    """Return the whole number or the string that a tensor is unless something else is fed."""
    for source in sources(flow, tensor):
        inputs = source.node.input
        if source.node.op == "PlaceholderWithDefault" and inputs and inputs[0] != tensor:
            return next((_written(s.node) for s in sources(flow, inputs[0])), None)
        return _written(source.node)
    return None


def _written(node: Node) -> int | bytes | None:
    if node.op != "Const" or "value" not in node.attr:
        return None
    tensor = node.attr["value"].tensor
    if tensor.tensor_shape.dim:
        return None
    if tensor.dtype == _STRING:
        return tensor.string_val[0] if tensor.string_val else b""
    return next(iter(whole_numbers(tensor)), None)


def _joined(op: str, sides: Sequence[bool | None]) -> bool | None:
    deciding = op == "LogicalOr"  # a value of either side that decides the whole
    if deciding in sides:
        return deciding
    return None if None in sides else not deciding


def _constant(node: Node) -> bool | None:
    """Return a scalar constant as a condition takes it; Keras' learning phase is a number."""
    if "value" not in node.attr:
        return None
    tensor = node.attr["value"].tensor
    if tensor.bool_val:
        return bool(tensor.bool_val[0])
    if tensor.int_val:
        return bool(tensor.int_val[0])
    if tensor.tensor_content:
        return any(tensor.tensor_content)
    return False  # proto3 leaves zeros out
