"""Objects to names: what a person would call each variable of a structured checkpoint.

An object-based checkpoint and a Keras file know their layers. The names made here stand for that
knowledge, `LAYER/ROLE` each, so that one grouping serves every format.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.batchnorm.names import RENORM, STATISTICS, Role, normalization_of, read_name
from bncheck.checkpoint.object_graph import object_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bncheck.checkpoint.structure import LayerConfig, StoredObject, Structure

_NAMELESS: Final = re.compile(r"Variable(_\d+)?")
# Sonnet 2 hangs an ExponentialMovingAverage under each statistic's name.
_AVERAGES: Final = frozenset((Role.MOVING_MEAN.value, Role.MOVING_VARIANCE.value))


class Naming(NamedTuple):
    """The names of a checkpoint's variables, by their keys, and what is known of the layers.

    What is missing in `names` is no layer's: slots, counters, second copies. `whole` are layers of
    which every variable is known, `configs` what the model's configuration says, both by name.
    """

    names: Mapping[str, str]
    whole: frozenset[str] = frozenset()
    configs: Mapping[str, LayerConfig] = {}


def name_variables(keys: Iterable[str], structure: Structure) -> Naming:
    """Name every variable of a checkpoint that may belong to a layer.

    The keys of a name-based checkpoint are names already.
    """
    apart = structure.slots.keys() | structure.counters | structure.copies
    left = [key for key in keys if key not in apart]
    if not structure.tells_layers:
        return Naming({key: key for key in left})
    names: dict[str, str] = {}
    configs: dict[str, LayerConfig] = {}
    called = _object_names(structure)
    for each, name in called:
        if each.config is not None:
            configs[name] = each.config
        other = each.config is not None and is_other_class(each.config)
        for attribute, key in each.attributes.items():
            # A variable that two objects share goes by the first of them that gives it a role.
            leaf = attribute if other else _leaf(attribute, structure.full_names.get(key, ""))
            if key not in names or (_role(names[key]) is None and _role(leaf) is not None):
                names[key] = f"{name}/{leaf}" if name else leaf
    _name_the_rest(left, names, structure)
    whole = {name for _, name in called}
    for listed in structure.lists:
        # A list with statistics in it is of all variables, not of those that are trained.
        roles = {_role(names[key]) for key in listed if key in names}
        if roles & {*STATISTICS}:
            whole.update(names[key].rpartition("/")[0] for key in listed if key in names)
    return Naming({key: names[key] for key in left}, frozenset(whole), configs)


def is_other_class(config: LayerConfig) -> bool:
    """Whether a layer's class is a normalization that is not batch norm."""
    if config.momentum is not None:
        return False  # whatever it is called, it keeps running averages
    kind = normalization_of(config.class_name)
    return kind == "other" or (kind is None and config.class_name.endswith("Normalization"))


def _object_names(structure: Structure) -> list[tuple[StoredObject, str]]:
    """Name the objects: as the program calls them, by their paths where two would be one layer."""
    proper = [(each, each.name or _scope(each, structure.full_names)) for each in structure.objects]
    claims: dict[tuple[str, str], set[str]] = {}
    for each, name in proper:
        for attribute, key in each.attributes.items():
            claims.setdefault((name, attribute), set()).add(key)
    by_path = {each.path: each for each in structure.objects}
    named = []
    for each, name in proper:
        shared = any(len(claims[name, attribute]) > 1 for attribute in each.attributes)
        named.append((each, each.path if shared else name))
    called = {each.path: name for each, name in named}
    return [(each, _within_layer(each, name, by_path, called)) for each, name in named]


def _within_layer(
    each: StoredObject,
    name: str,
    by_path: Mapping[str, StoredObject],
    called: Mapping[str, str],
) -> str:
    """Return an average's name below that of the layer that it hangs on."""
    owner, _, own = each.path.rpartition("/")
    if own in _AVERAGES and "average" in each.attributes and owner in by_path:
        return f"{called[owner]}/{own}"
    return name


def _scope(each: StoredObject, full_names: Mapping[str, str]) -> str:
    """Return the scope that an object's variables have in their full names, else its path.

    A full name is believed if it ends as the attribute is called, in a role, or as a variable
    without a name does.
    """
    scopes: Counter[str] = Counter()
    for attribute, key in each.attributes.items():
        scope, _, leaf = full_names.get(key, "").rpartition("/")
        told = leaf == attribute.lstrip("_") or _role(leaf) is not None
        if scope and (told or _NAMELESS.fullmatch(leaf)):
            scopes[scope] += 1
    return scopes.most_common(1)[0][0] if scopes else each.path


def _leaf(attribute: str, full_name: str) -> str:
    """Return what tells a variable's role: its attribute, else the end of its full name."""
    plain = attribute.lstrip("_")
    leaf = full_name.rpartition("/")[2]
    return leaf if _role(plain) is None and _role(leaf) is not None else plain


def _role(leaf: str) -> Role | None:
    reading = read_name(leaf.rpartition("/")[2])
    return None if reading is None or reading.scope else reading.role


def _name_the_rest(left: Iterable[str], names: dict[str, str], structure: Structure) -> None:
    """Name the variables that no object owns, as in lists, by their full names.

    Where that name is taken, another variable has it: the scope is numbered, so that the two never
    count as one.
    """
    rest = [key for key in left if key not in names]
    ordered = [key for each in structure.lists for key in each]
    place = {key: number for number, key in enumerate(ordered)}
    rest.sort(key=lambda key: place.get(key, len(place)))
    called = {key: structure.full_names.get(key) or object_path(key) for key in rest}
    taken = {name.rpartition("/")[0] for name in names.values()}
    counts = Counter(called.values())
    repeated = {name.rpartition("/")[0] for name, count in counts.items() if count > 1}
    runs = _Runs(called.values())
    for key, name in called.items():
        scope, slash, leaf = name.rpartition("/")
        number = runs.number(scope, leaf) if scope in repeated else 1
        number += scope in taken
        told = f" ({number})" if number > 1 else ""
        names[key] = f"{scope}{told}{slash}{leaf}" if scope else f"{leaf}{told}"


class _Runs:
    """The layers that one scope stands for in a list, by the order of their variables.

    Keras lists a layer's variables as gamma, beta, moving_mean, moving_variance, tf.Module by
    their names: where that order starts again, or something else is in between, another layer
    begins.
    """

    def __init__(self, names: Iterable[str]) -> None:
        leaves = [name.rpartition("/")[2] for name in names]
        pairs = set(pairwise(leaves))
        by_name = ("beta", "gamma") in pairs and ("gamma", "beta") not in pairs
        first = [Role.BETA, Role.GAMMA] if by_name else [Role.GAMMA, Role.BETA]
        order = (*first, Role.GAMMA_OR_BETA, Role.MOVING_MEAN, Role.MOVING_VARIANCE, *RENORM)
        self._ranks = {role: rank for rank, role in enumerate(order)}
        self._last: tuple[str, int] = ("", len(order))
        self._numbers: Counter[str] = Counter()

    def number(self, scope: str, leaf: str) -> int:
        """Return which layer of its scope the next variable of the list belongs to."""
        role = _role(leaf)
        last_scope, last_rank = self._last
        rank = len(self._ranks) if role is None else self._ranks[role]
        if role is not None and (scope != last_scope or rank <= last_rank):
            self._numbers[scope] += 1
        self._last = (scope, rank)
        return max(self._numbers[scope], 1)
