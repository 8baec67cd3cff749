"""Which of a checkpoint's variables is which of a graph's, by their names."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from bncheck.batchnorm.names import Role
from bncheck.batchnorm.objects import name_variables
from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.object_graph import object_path
from bncheck.checkpoint.structure import NO_STRUCTURE, Structure
from bncheck.errors import UnsupportedError
from bncheck.graph.model import Graph, strip_output

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from typing import Any

    from bncheck.checkpoint.model import Checkpoint


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


def counterparts(
    graph: Graph, checkpoint: Checkpoint, rename: Callable[[str], str] | None = None
) -> dict[str, str]:
    """Return the graph's name of each of the checkpoint's keys that it has one for.

    Equal keys match, then equal paths of objects, equal full names, and the names that a person
    would give; a name that several keys of one side share matches nothing. `rename` changes each of
    the checkpoint's names before it is compared. Raises UnsupportedError where one side has no
    names.
    """
    for source, structure in (
        (checkpoint.path, checkpoint.structure),
        (graph.source, graph.structure),
    ):
        if structure.nameless:
            raise UnsupportedError(
                source,
                "numbers its layers, and does not name them, so that nothing can be matched",
                remedy="Give the .keras file, whose configuration has the names.",
            )
    return _match(
        _Side(graph.variables, graph.structure),
        _Side(checkpoint.variables, checkpoint.structure),
        rename,
    )


def _match(
    graph: _Side, checkpoint: _Side, rename: Callable[[str], str] | None = None
) -> dict[str, str]:
    if rename is None:
        found = {key: key for key in checkpoint.keys if key in graph.keys}
    else:
        renamed = unique({key: rename(key) for key in checkpoint.keys})
        found = {key: name for name, key in renamed.items() if name in graph.keys}
    own_forms, graph_forms = checkpoint.forms(), graph.forms()
    if any(own_forms) or any(graph_forms):
        used = set(found.values())
        rounds = list(zip(own_forms, graph_forms, strict=True))
        named, other_named = own_forms[-1], graph_forms[-1]
        # Keras 3 puts the model's name in front in some of its formats, and not in others.
        rounds += [
            (_tails(checkpoint.keys, named), other_named),
            (named, _tails(graph.keys, other_named)),
            (_either(checkpoint.keys, named, "gamma"), other_named),
            (_either(checkpoint.keys, named, "beta"), other_named),
            (named, _either(graph.keys, other_named, "gamma")),
            (named, _either(graph.keys, other_named, "beta")),
        ]
        for own, other in rounds:
            by_form = unique({key: other.get(key, key) for key in graph.keys if key not in used})
            mine = {key: own.get(key, key) for key in checkpoint.keys if key not in found}
            if rename is not None:
                mine = {key: rename(form) for key, form in mine.items()}
            for form, key in unique(mine).items():
                target = by_form.get(form)
                if target is not None and key not in checkpoint.structure.copies:
                    found[key] = target
                    used.add(target)
    return {key: found[key] for key in checkpoint.keys if key in found}


def _tails(keys: Iterable[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return the names without their first part, where a layer's name is left."""
    called = {key: names.get(key, key) for key in keys}
    return {key: name.partition("/")[2] for key, name in called.items() if name.count("/") > 1}


def _either(keys: Iterable[str], names: Mapping[str, str], role: str) -> dict[str, str]:
    """Return the names in which one that may be gamma or beta is taken for one of them."""
    called = {key: names.get(key, key) for key in keys}
    either = f"/{Role.GAMMA_OR_BETA.value}"
    return {
        key: f"{name.removesuffix(either)}/{role}" if name.endswith(either) else name
        for key, name in called.items()
    }


def unique(forms: Mapping[str, str]) -> dict[str, str]:
    """Return the keys by those of their forms that no other key has."""
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
