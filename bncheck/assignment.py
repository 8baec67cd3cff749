"""The assignment map: which checkpoint variable goes into which graph variable, by name.

The logic is the widespread get_assignment_map_from_checkpoint: graph names without their output
number, intersected with the checkpoint's names, in the checkpoint's order. Fed with the trainable
variables alone, as it often is, it drops every moving_mean and moving_variance without a word.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from bncheck.checkpoint import open_checkpoint
from bncheck.graph.model import Graph, strip_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from bncheck.checkpoint.model import Checkpoint


_MOST_SOURCES = 64  # names with the same end and shape that one variable is compared with
_MOST_PROPOSALS = 32
_MOST_RENAMES = 5


class AssignmentMap(NamedTuple):
    """What tf.compat.v1.train.init_from_checkpoint takes, and the names it will initialize."""

    assignment_map: dict[str, Any]
    initialized_variable_names: set[str]


def assignment_map(
    variables: Graph | Iterable[Any], checkpoint: Checkpoint | str, *, collection: str = "global"
) -> AssignmentMap:
    """Match variables to a checkpoint's by name, and return the map for init_from_checkpoint.

    `variables` is a Graph (of which `collection` is taken: "global", "trainable" or "model"), or an
    iterable of names ("x" or "x:0") or of TensorFlow variables; `checkpoint` an open checkpoint or
    the path of one. Names map to names, and TensorFlow variables to themselves, since
    init_from_checkpoint finds only what tf.get_variable made by its name; the parts of a
    partitioned variable become a list under their full name. The second value holds `x` and `x:0`
    of every variable matched. Raises BncheckError where there is no checkpoint at the path.
    """
    opened = open_checkpoint(checkpoint) if isinstance(checkpoint, str) else checkpoint
    targets: dict[str, Any] = {}
    if isinstance(variables, Graph):
        targets = {name: name for name in variables.collection(collection)}
    else:
        for variable in variables:
            _add_target(targets, variable)
    matched = {name: targets[name] for name in opened.variables if name in targets}
    return AssignmentMap(matched, {form for name in matched for form in (name, f"{name}:0")})


def _add_target(targets: dict[str, Any], variable: Any) -> None:
    if isinstance(variable, str):
        name = strip_output(variable)
        targets[name] = name
        return
    name = strip_output(variable.name)
    slice_info = getattr(variable, "_save_slice_info", None)
    if slice_info is None:
        targets[name] = variable
    else:
        targets.setdefault(slice_info.full_name, []).append(variable)


class Rename(NamedTuple):
    """Prefixes that would turn misses into matches: the checkpoint's, and the graph's instead."""

    from_prefix: str
    to_prefix: str
    matches: int


class Assignment(NamedTuple):
    """The map's three sets, each in the order of its source, and what could mend the misses."""

    matched: tuple[str, ...]
    graph_only: tuple[str, ...]
    checkpoint_only: tuple[str, ...]
    renames: tuple[Rename, ...]


def assign(graph: Graph, checkpoint: Checkpoint, collection: str) -> Assignment:
    """Lay the collection's variables beside the checkpoint's.

    Renames are looked for in all of the graph's variables: what the collection leaves out is not
    misnamed.
    """
    mapped = assignment_map(graph, checkpoint, collection=collection).assignment_map
    targets = graph.collection(collection)
    graph_only = {name: v.shape for name, v in targets.items() if name not in checkpoint.variables}
    checkpoint_only = {
        name: v.shape for name, v in checkpoint.variables.items() if name not in targets
    }
    strangers = {n: s for n, s in checkpoint_only.items() if n not in graph.variables}
    return Assignment(
        matched=tuple(mapped),
        graph_only=tuple(graph_only),
        checkpoint_only=tuple(checkpoint_only),
        renames=tuple(suggest_renames(strangers, graph_only)),
    )


def suggest_renames(
    checkpoint_only: Mapping[str, tuple[int, ...]],
    graph_only: Mapping[str, tuple[int, ...] | None],
) -> list[Rename]:
    """Return the prefix changes that match variables of equal shape, those that gain most first.

    Every pair of names that ends alike proposes one; a change counts what it matches exactly. It
    must gain two variables or more, to be told from chance, and no other may gain as many of the
    same.
    """
    by_tail: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, shape in checkpoint_only.items():
        by_tail.setdefault((_tail(name), shape), []).append(name)
    proposed: Counter[tuple[str, str]] = Counter()
    for target, wanted in graph_only.items():
        sources = [] if wanted is None else by_tail.get((_tail(target), wanted), [])
        for source in sources[:_MOST_SOURCES]:
            proposed[_prefixes(source, target)] += 1
    renames: list[Rename] = []
    left = {name: shape for name, shape in graph_only.items() if shape is not None}
    while len(renames) < _MOST_RENAMES:
        gains = {
            pair: _matches(pair, left, checkpoint_only)
            for pair, _ in proposed.most_common(_MOST_PROPOSALS)
        }
        best = max(gains, key=lambda pair: len(gains[pair]), default=None)
        if best is None or len(gains[best]) < 2 or _is_ambiguous(best, gains):
            break
        renames.append(Rename(*best, len(gains[best])))
        for name in gains[best]:
            del left[name]
    return renames


def _matches(
    pair: tuple[str, str],
    graph_only: Mapping[str, tuple[int, ...]],
    checkpoint_only: Mapping[str, tuple[int, ...]],
) -> list[str]:
    """Return the graph's variables that a change of prefix finds in the checkpoint."""
    source, target = pair
    return [
        name
        for name, shape in graph_only.items()
        if name.startswith(target) and checkpoint_only.get(source + name[len(target) :]) == shape
    ]


def _is_ambiguous(best: tuple[str, str], gains: Mapping[tuple[str, str], list[str]]) -> bool:
    """Whether another prefix of the checkpoint would gain the same variables of the graph."""
    return any(
        pair != best and pair[1] == best[1] and set(gains[pair]) == set(gains[best])
        for pair in gains
    )


def _tail(name: str) -> str:
    return "/".join(name.split("/")[-2:])


def _prefixes(source: str, target: str) -> tuple[str, str]:
    """Return what is left of two names without the components that both end in."""
    left, right = source.split("/"), target.split("/")
    while left and right and left[-1] == right[-1]:
        left.pop()
        right.pop()
    return "".join(f"{part}/" for part in left), "".join(f"{part}/" for part in right)
