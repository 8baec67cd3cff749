"""Batch norm by structure: the ops that normalize, whatever their variables are called.

Two forms are known: FusedBatchNorm and its versions, and what tf.nn.batch_normalization is made of:
`x * m + (beta - mean * m)` with `m = rsqrt(variance + epsilon) * gamma`. A layer's statistics are
what such an op reads, or what is updated with the mean and variance of its batch.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.graph.conditions import UNTOLD, branches_of, scalar, sources
from bncheck.graph.dataflow import PASS_ON, VARIABLE_OPS, output_number, whole_numbers
from bncheck.graph.inline import Branch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bncheck.graph.dataflow import Dataflow
    from bncheck.graph.inline import Node

FUSED: Final = frozenset(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"))
ASSIGNS: Final = frozenset(
    [
        *("Assign", "AssignAdd", "AssignSub"),
        *("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"),
    ]
)
GAMMA, BETA = "gamma", "beta"
MEAN, VARIANCE = "moving_mean", "moving_variance"
_FUSED_ROLES: Final = ((1, GAMMA), (2, BETA), (3, MEAN), (4, VARIANCE))
_BATCH_OUTPUTS: Final = {1: MEAN, 2: VARIANCE}  # of a fused op: the batch's own statistics
# What an average is made of, on the way from the batch's statistics to the update op.
_ARITHMETIC: Final = frozenset(
    [
        *("Sub", "Add", "AddV2", "AddN", "Mul", "RealDiv", "Neg", "Select", "SelectV2"),
        *("Identity", "Cast", "Squeeze", "Reshape", "ExpandDims", "StopGradient", "Snapshot"),
        *("Switch", "RefSwitch", "Merge", "RefMerge", "Enter", "RefEnter", "Exit", "RefExit"),
    ]
)
_ADDS: Final = frozenset(("Add", "AddV2"))
_SQUARES: Final = frozenset(("SquaredDifference", "Square"))
_FARTHEST: Final = 120  # nodes between an update op and the batch's statistics
_LARGEST_EPSILON: Final = 0.1
_STEPS: Final = 8  # ops between an Rsqrt and the last one of its layer


class Use(NamedTuple):
    """One place where a graph normalizes.

    `roles` are variable ops by role, `batch` says that it takes the batch's own statistics,
    `branches` are the sides of conditions that it is on.
    """

    node: Node
    roles: Mapping[str, str]
    batch: bool
    branches: list[Branch]
    fused: bool


class Update(NamedTuple):
    """An op that moves a variable towards the mean or variance of a batch."""

    node: str
    variable: str
    role: str
    statistics: str  # the node that computes it: a fused op, or the last of tf.nn.moments


def find_updates(flow: Dataflow) -> list[Update]:
    """Return the ops that update a variable with a batch's mean or variance."""
    updates = []
    for node in flow.of(*ASSIGNS):
        if len(node.input) < 2:
            continue
        found = _batch_statistics(flow, node.input[1])
        # The mean and variance of two layers in one value are no average of either.
        if len(found) == 1:
            ((statistics, role),) = found
            updates += [
                Update(node.name, variable, role, statistics)
                for variable in flow.variables_behind(node.input[0])
            ]
    return updates


def _batch_statistics(flow: Dataflow, tensor: str) -> set[tuple[str, str]]:
    """Return the nodes whose mean or variance of a batch a value is made of, with which it is."""
    found: set[tuple[str, str]] = set()
    pending = [tensor]
    seen: set[str] = set()
    while pending and len(seen) < _FARTHEST:
        current = pending.pop()
        node = flow.node(current)
        if node is None or current in seen:
            continue
        seen.add(current)
        if node.op in FUSED:
            role = _BATCH_OUTPUTS.get(output_number(current)) if is_batch(node) else None
            found |= set() if role is None else {(node.name, role)}
        elif node.op == "Mean":
            found |= _moment(flow, node)
        elif node.op in _ARITHMETIC:
            pending += [name for name in node.input if not name.startswith("^")]
    return found


def _moment(flow: Dataflow, node: Node) -> set[tuple[str, str]]:
    """Return what a Mean over the batch is: the variance is the mean of squared differences."""
    if not _reduces_batch(flow, node):
        return set()
    data = [node.input[0]]
    squared = [s.node for s in sources(flow, data[0]) if s.node.op in _SQUARES and s.node.input]
    data += [each.input[0] for each in squared]
    if any(_is_stored(flow, tensor) for tensor in data):
        return set()
    return {(node.name, VARIANCE if squared else MEAN)}


def _is_stored(flow: Dataflow, tensor: str) -> bool:
    """Whether a tensor is a weight: standardized weights are no normalized batch."""
    kinds = {"Const"} if flow.is_frozen else VARIABLE_OPS
    return any(node.op in kinds for node in flow.passed_on(tensor))


def _mixed(flow: Dataflow, tensor: str) -> list[Branch]:
    """Return what decides where a value is made of a variable, too, else nothing.

    In phase * batch + (1 - phase) * average it is the phase, if the graph tells that.
    """
    pending = [tensor]
    seen: set[str] = set()
    phases: list[Branch] = []
    reads_variable = False
    while pending and len(seen) < _FARTHEST:
        node = flow.node(pending.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        reads_variable |= node.op in VARIABLE_OPS
        if node.op in _ARITHMETIC or node.op in PASS_ON:
            inputs = [name for name in node.input if not name.startswith("^")]
            pending += inputs
            if node.op == "Mul" and len(inputs) > 1:
                phases += [
                    Branch(factor, value=True)
                    for factor, other in (inputs[:2], inputs[1::-1])
                    if isinstance(scalar(flow, factor), int) and _batch_statistics(flow, other)
                ]
    return (phases or [UNTOLD]) if reads_variable else []


def _reduces_batch(flow: Dataflow, mean: Node) -> bool:
    """Whether a Mean goes over the first axis and keeps another: a layer norm's does not."""
    if len(mean.input) < 2:
        return False
    axes = next((s.node for s in sources(flow, mean.input[1]) if s.node.op == "Const"), None)
    if axes is None or "value" not in axes.attr:
        return False
    return 0 in whole_numbers(axes.attr["value"].tensor)


def find_uses(flow: Dataflow, updates: Iterable[Update]) -> list[Use]:
    """Return every place where the graph normalizes with a variable of its own.

    Layer normalization, also where it is made of FusedBatchNorm (tf.keras does that), has neither a
    statistic nor, in that op, a gamma or beta, and is none.
    """
    by_source: dict[str, dict[str, str]] = defaultdict(dict)
    for update in updates:
        by_source[update.statistics][update.role] = update.variable
    uses = [_fused(flow, node, by_source) for node in flow.of(*FUSED)]
    uses += _Decomposed(flow, by_source).find()
    return [use for use in uses if use.roles]


def is_batch(fused: Node) -> bool:
    """Whether a fused op takes the batch's own statistics.

    An attribute that was stripped has the op's default, which is training.
    """
    return fused.attr["is_training"].b if "is_training" in fused.attr else True


def _fused(flow: Dataflow, node: Node, by_source: Mapping[str, Mapping[str, str]]) -> Use:
    batch = is_batch(node)
    roles = dict(by_source.get(node.name, {})) if batch else {}
    for index, role in _FUSED_ROLES[: 2 if batch else 4]:
        if index < len(node.input):
            variable = _held(flow, node.input[index])
            if variable is not None:
                roles[role] = variable
    return Use(node, roles, batch, branches_of(flow, node), fused=True)


def _held(flow: Dataflow, tensor: str) -> str | None:
    """Return the one variable that a tensor is; in a frozen graph, the constant in its place."""
    names = flow.variables_behind(tensor)
    if not names and flow.is_frozen:
        names = {
            source.node.name
            for source in sources(flow, tensor)
            if source.node.op == "Const" and source.node.attr["value"].tensor.tensor_shape.dim
        }
    return next(iter(names)) if len(names) == 1 else None


class _Decomposed:
    """Batch norms made of single ops, each found by its Rsqrt."""

    def __init__(self, flow: Dataflow, by_source: Mapping[str, Mapping[str, str]]) -> None:
        self._flow = flow
        self._by_source = by_source

    def find(self) -> list[Use]:
        roots = [node for node in self._flow.of("Rsqrt", "Sqrt") if node.input]
        starts = [(root, variance) for root in roots if (variance := self._variance(root))]
        return [use for root, variance in starts for use in self._uses(root, variance)]

    def _variance(self, root: Node) -> str | None:
        """Return the tensor that an epsilon is added to in front of a root."""
        add = self._flow.node(root.input[0])
        if add is None or add.op not in _ADDS or len(add.input) < 2:
            return None
        for value, other in ((add.input[0], add.input[1]), (add.input[1], add.input[0])):
            constants = self._flow.constants_behind(other)
            if len(constants) == 1 and 0 < min(constants) < _LARGEST_EPSILON:
                return value
        return None

    def _uses(self, root: Node, variance: str) -> Iterator[Use]:
        """Yield the use of the moving variance, of the batch's, or both where a cond chooses."""
        affine = self._affine(root)
        for source in sources(self._flow, variance):
            branches = [*source.branches, *branches_of(self._flow, root)]
            held = _held(self._flow, source.node.name)
            if held is not None and affine:
                # A variable under a root with nothing else around it is an optimizer's.
                roles = affine | {VARIANCE: held}
                yield Use(root, roles, batch=False, branches=branches, fused=False)
            elif VARIANCE in {role for _, role in _batch_statistics(self._flow, source.node.name)}:
                roles = {role: name for role, name in affine.items() if role != MEAN}
                roles |= self._updated(source.node)
                branches += _mixed(self._flow, source.node.name)
                yield Use(root, roles, batch=True, branches=branches, fused=False)

    def _updated(self, variance: Node) -> dict[str, str]:
        """Return the averages of the moments that a batch's variance is one of."""
        scope = variance.name.rpartition("/")[0]
        found: dict[str, str] = {}
        for statistics, roles in self._by_source.items():
            if statistics == variance.name or statistics.rpartition("/")[0] == scope:
                found |= roles
        return found

    def _affine(self, root: Node) -> dict[str, str]:
        """Return the variables that come in behind a root: gamma, the mean's average, and beta."""
        roles: dict[str, str] = {}
        pending = [(root, 0)]
        seen = {root.name}
        while pending:
            behind, steps = pending.pop(0)
            for node in self._flow.consumers.get(behind.name, ()) if steps < _STEPS else ():
                if node.name not in seen and node.op in _ARITHMETIC:
                    seen.add(node.name)
                    self._take(node, behind, roles)
                    pending.append((node, steps + 1))
        return roles

    def _take(self, node: Node, behind: Node, roles: dict[str, str]) -> None:
        """Take the variable that a Mul, Sub or Add brings in beside what comes from the root."""
        for tensor in node.input:
            source = self._flow.node(tensor)
            if tensor.startswith("^") or source is None or source.name == behind.name:
                continue
            variable = self._variable(tensor)
            if variable is None and node.op == "Mul" and source.op == "Sub":
                # (x - mean) * m, as it is often written by hand
                self._put(roles, MEAN, self._taken_away(source))
            elif node.op == "RealDiv" and behind.op == "Sqrt":
                self._take_numerator(source, roles)
            elif node.op == "Mul":
                self._put(roles, MEAN if self._is_subtracted(node) else GAMMA, variable)
            elif node.op in ("Sub", *_ADDS):
                self._put(roles, BETA, variable)

    def _take_numerator(self, node: Node, roles: dict[str, str]) -> None:
        """Take mean and gamma from `gamma * (x - mean)`, which a square root divides."""
        if node.op == "Sub":
            self._put(roles, MEAN, self._taken_away(node))
        for tensor in node.input if node.op == "Mul" else ():
            source = self._flow.node(tensor)
            if source is not None and source.op == "Sub":
                self._put(roles, MEAN, self._taken_away(source))
            else:
                self._put(roles, GAMMA, self._variable(tensor))

    def _taken_away(self, difference: Node) -> str | None:
        """Return the variable that a Sub takes away."""
        return self._variable(difference.input[1]) if len(difference.input) > 1 else None

    def _variable(self, tensor: str) -> str | None:
        """Return the variable that a tensor is, or is the negative of."""
        node = self._flow.node(tensor)
        if node is not None and node.op == "Neg" and node.input:
            tensor = node.input[0]
        return _held(self._flow, tensor)

    def _is_subtracted(self, product: Node) -> bool:
        """Whether a product is taken away or added: mean * m is, while gamma * m is a factor."""
        return any(
            node.op in ("Sub", "Neg", *_ADDS) for node in self._flow.consumers.get(product.name, ())
        )

    @staticmethod
    def _put(roles: dict[str, str], role: str, variable: str | None) -> None:
        if variable is not None and role not in roles and variable not in roles.values():
            roles[role] = variable
