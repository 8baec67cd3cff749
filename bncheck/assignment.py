"""The assignment map: which checkpoint variable goes into which graph variable, by name.

The logic is the widespread get_assignment_map_from_checkpoint: graph names without their output
number, intersected with the checkpoint's names, in the checkpoint's order. Fed with the trainable
variables alone, as it often is, it drops every moving_mean and moving_variance without a word.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from bncheck.batchnorm.objects import name_variables
from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.object_graph import OBJECT_GRAPH, object_path
from bncheck.checkpoint.structure import NO_STRUCTURE, Structure
from bncheck.graph.model import Graph, strip_output

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
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
    the path of one. The checkpoint's keys map to names, and TensorFlow variables to themselves,
    since init_from_checkpoint finds only what tf.get_variable made by its name; the parts of a
    partitioned variable become a list under their full name. A key of an object-based checkpoint
    matches by the path of its objects, or by the variable's full name. The second value holds `x`
    and `x:0` of every variable matched. Raises BncheckError where there is no checkpoint at the
    path.
    """
    opened = open_checkpoint(checkpoint) if isinstance(checkpoint, str) else checkpoint
    targets: dict[str, Any] = {}
    structure = NO_STRUCTURE
    if isinstance(variables, Graph):
        targets = {name: name for name in variables.collection(collection)}
        structure = variables.structure
    else:
        for variable in variables:
            _add_target(targets, variable)
    found = _match(_Side(targets, structure), _Side(opened.variables, opened.structure))
    matched = {key: targets[name] for key, name in found.items()}
    return AssignmentMap(matched, {form for name in found.values() for form in (name, f"{name}:0")})


class _Side(NamedTuple):
    """One side of a match: keys, and what is told of them."""

    keys: Collection[str]
    structure: Structure

    def forms(self) -> list[Mapping[str, str]]:
        """Return the names that each key goes by, the surest first."""
        structure = self.structure
        if not structure.tells_layers:
            return [{}] * 3
        return [
            {key: object_path(key) for key in self.keys},
            {key: name for key, name in structure.full_names.items() if name},
            name_variables(self.keys, structure).names,
        ]


def counterparts(graph: Graph, checkpoint: Checkpoint) -> dict[str, str]:
    """Return the graph's name of each of the checkpoint's keys that it has one for.

    Equal keys match, then equal paths of objects, equal full names, and the names that a person
    would give; a name that several keys of one side share matches nothing.
    """
    return _match(
        _Side(graph.variables, graph.structure), _Side(checkpoint.variables, checkpoint.structure)
    )


def _match(graph: _Side, checkpoint: _Side) -> dict[str, str]:
    found = {key: key for key in checkpoint.keys if key in graph.keys}
    own_forms, graph_forms = checkpoint.forms(), graph.forms()
    if not (any(own_forms) or any(graph_forms)):
        return found
    used = set(found.values())
    for own, other in zip(own_forms, graph_forms, strict=True):
        by_form = _unique({key: other.get(key, key) for key in graph.keys if key not in used})
        mine = _unique({key: own.get(key, key) for key in checkpoint.keys if key not in found})
        for form, key in mine.items():
            target = by_form.get(form)
            if target is not None and key not in checkpoint.structure.copies:
                found[key] = target
                used.add(target)
    return {key: found[key] for key in checkpoint.keys if key in found}


def _unique(forms: Mapping[str, str]) -> dict[str, str]:
    """Return the keys by the forms that no other key has."""
    counts = Counter(forms.values())
    return {form: key for key, form in forms.items() if counts[form] == 1}


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
    """The map's three sets, each in the order of its source, and what could mend the misses.

    `matched` maps the checkpoint's keys to the graph's names.
    """

    matched: Mapping[str, str]
    graph_only: tuple[str, ...]
    checkpoint_only: tuple[str, ...]
    renames: tuple[Rename, ...]


def assign(graph: Graph, checkpoint: Checkpoint, collection: str) -> Assignment:
    """Lay the collection's variables beside the checkpoint's.

    Renames are looked for in all of the graph's variables: what the collection leaves out is not
    misnamed.
    """
    everything = counterparts(graph, checkpoint)
    targets = graph.collection(collection)
    matched = {key: name for key, name in everything.items() if name in targets}
    used = set(matched.values())
    graph_only = {name: v.shape for name, v in targets.items() if name not in used}
    checkpoint_only = tuple(
        key for key in checkpoint.variables if key not in matched and key != OBJECT_GRAPH
    )
    called = name_variables(checkpoint.variables, checkpoint.structure).names
    strangers = {
        called[key]: checkpoint.variables[key].shape
        for key in checkpoint_only
        if key in called and key not in everything
    }
    return Assignment(
        matched=matched,
        graph_only=tuple(graph_only),
        checkpoint_only=checkpoint_only,
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
