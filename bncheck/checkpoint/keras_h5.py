"""Keras' older HDF5 files (`model.save("x.h5")`): weights under the names of their layers.

A whole model has a group `model_weights` and the attribute `model_config`, a weights-only file has
the layers' groups at its root. `layer_names` lists the groups, `weight_names` of each group its
datasets; a model within the model is one group with all its weights. The names are TensorFlow's
(`bn/gamma:0`), Keras 3's (`inner/bn/gamma`) or Keras 1's (`bn_gamma`). See
keras/src/legacy/saving/legacy_h5_format.py, and engine/topology.py of Keras 1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.checkpoint.keras_config import Layer, read_config
from bncheck.checkpoint.model import quoted
from bncheck.checkpoint.structure import StoredObject, Structure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bncheck.checkpoint.hdf5 import Hdf5File

_MODEL: Final = "model_weights"
_OPTIMIZER: Final = "optimizer_weights"
_TOP_LEVEL: Final = "top_level_model_weights"  # variables of the model itself
_NUMBERED: Final = frozenset(f"param_{number}" for number in range(4))  # of Keras before version 1
_LOSS_SCALE: Final = "loss_scale_optimizer"
_STEPS: Final = ("iteration", "iterations", "iter")
# An optimizer puts two parts before a variable's name and one or two words behind it.
_MOST_AROUND: Final = 8
_MOST_WAYS: Final = 1000  # layers of one name in a model; a scope is compared with each
# Keras 1's names of the statistics; its running_std holds a variance (keras-team/keras#5178).
_ROLES: Final = {"running_mean": "moving_mean", "running_std": "moving_variance"}
_KERAS_1: Final = re.compile(
    r"(?s)(?P<scope>.+?)_(?P<leaf>gamma|beta|running_mean|running_std|W|b)(?P<number>_\d+)?"
)


class _Weight(NamedTuple):
    key: str
    name: str  # without :0
    scope: str
    leaf: str


class _Way(NamedTuple):
    names: tuple[str, ...]
    layer: Layer


def is_keras_h5(file: Hdf5File) -> bool:
    """Whether an HDF5 file is one of Keras' older ones, of a whole model or of weights alone."""
    return file.has_group(_MODEL) or any(
        file.has_attribute("", name) for name in ("layer_names", "layer_names0", "nb_layers")
    )


def read_structure(file: Hdf5File) -> Structure:
    """Return the layers of the file, and the optimizer's slots.

    Raises DamagedError where a list names a group or a dataset that is not there.
    """
    root = _MODEL if _MODEL in file.groups else ""
    config = file.text("", "model_config")
    model = read_config(config, file.path, "model_config") if config else None
    groups = _layer_groups(file, root)
    weights = {group: _weights(file, root, group) for group in groups}
    copies = _copies(weight for each in weights.values() for weight in each)
    objects = _Objects(model, groups)
    for group, each in weights.items():
        objects.add_group(group, [weight for weight in each if weight.key not in copies])
    full_names = {weight.key: weight.name for each in weights.values() for weight in each}
    slots = _weights(file, "", _OPTIMIZER) if _OPTIMIZER in file.groups else []
    scalars = {weight.key for weight in slots if not file.variables[weight.key].shape}
    owners = _Owners(full_names)
    return Structure(
        objects=tuple(objects.found),
        full_names=full_names | {weight.key: weight.name for weight in slots},
        slots={w.key: owners.of(w.name) for w in slots if w.key not in scalars},
        counters=frozenset(scalars),
        copies=copies,
        steps=tuple(
            w.key
            for w in slots
            # A LossScaleOptimizer leaves the counting to the optimizer in it.
            if w.key in scalars and w.leaf in _STEPS and not w.name.startswith(_LOSS_SCALE)
        ),
        ambiguous=objects.ambiguous,
    )


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _layer_groups(file: Hdf5File, root: str) -> list[str]:
    """Return the groups of the layers, in the model's order."""
    names = file.strings(root, "layer_names")
    if names is None:  # before Keras 1: layer_0, layer_1, ...
        names = [name for name in _children(file, root) if name not in (_TOP_LEVEL, _OPTIMIZER)]
    for name in names:
        if _join(root, name) not in file.groups:
            raise file.damaged(f"lists the layer {quoted(name)} and does not hold it")
    # A group that is listed again is the same one.
    return [
        *dict.fromkeys(names),
        *([_TOP_LEVEL] if _join(root, _TOP_LEVEL) in file.groups else []),
    ]


def _children(file: Hdf5File, root: str) -> Iterator[str]:
    for group in sorted(file.groups, key=lambda name: (len(name), name)):
        parent, _, name = group.rpartition("/")
        if parent == root:
            yield name


def _weights(file: Hdf5File, root: str, group: str) -> list[_Weight]:
    """Return the weights of a group, in the order in which it lists them."""
    place = _join(root, group)
    names = file.strings(place, "weight_names")
    if names is None:
        names = file.below(place)
    weights = []
    for name in names:
        key = f"{place}/{name}"
        if key not in file.variables:
            raise file.damaged(
                f"{quoted(place)} lists the weight {quoted(name)} and does not hold it"
            )
        weights.append(_Weight(key, *_split(name)))
    return weights


def _split(name: str) -> tuple[str, str, str]:
    """Return a weight's name without `:0`, the scope in it, and its own name.

    Keras 1 has no scopes (`bn_running_mean`); what TensorFlow appended there to tell two layers
    apart (`bn_running_mean_1:0`) goes with the layer's name.
    """
    name = re.sub(r":\d+$", "", name)
    scope, _, leaf = name.rpartition("/")
    match = _KERAS_1.fullmatch(name) if not scope else None
    if match:
        scope = match["scope"] + (match["number"] or "")
        leaf = match["leaf"]
    return name, scope, _ROLES.get(leaf, leaf)


def _copies(weights: Iterable[_Weight]) -> frozenset[str]:
    """Return what is stored twice: the weights of a layer that two models share.

    Only Keras 3 tells: its names are whole ways through the models, so that equal ones mean one
    variable. In the names of Keras 2 the models are left out.
    """
    seen: set[str] = set()
    copies = set()
    for weight in weights:
        if "/" in weight.scope and weight.key.endswith(f"/{weight.name}"):
            if weight.name in seen:
                copies.add(weight.key)
            seen.add(weight.name)
    return frozenset(copies)


class _Objects:
    """The layers of a file, one after another; a group is one of them, or a model of several."""

    def __init__(self, model: Layer | None, groups: Sequence[str]) -> None:
        self.found: list[StoredObject] = []
        self.ambiguous: dict[str, str] = {}
        self._layers = _by_group(model, groups) if model else {}
        self._paths: dict[str, int] = {}  # how often each was asked for

    def add_group(self, group: str, weights: Iterable[_Weight]) -> None:
        layer = self._layers.get(group)
        below = _below(layer) if layer else {}
        scopes: dict[str, list[_Weight]] = {}
        for weight in weights:
            scopes.setdefault(weight.scope, []).append(weight)
        for scope, members in scopes.items():
            inner = _inner_scope(group, scope, alone=len(scopes) == 1)
            found = _find(below, inner) if inner else layer and _wrapped(layer)
            self._add(group, inner, members, found)

    def _add(self, group: str, inner: str, weights: list[_Weight], layer: Layer | None) -> None:
        path = self._unique(_join("" if group == _TOP_LEVEL else group, inner) or _TOP_LEVEL)
        name = layer.name if layer else ""
        attributes: dict[str, str] = {}
        for weight in weights:
            # Two weights of one name are no roles: which of them would be the layer's?
            attributes[weight.leaf if weight.leaf not in attributes else weight.key] = weight.key
        self.found.append(
            StoredObject(
                path=path,
                attributes=attributes,
                name=name or path.rpartition("/")[2],
                config=layer.config if layer else None,
            )
        )
        if attributes.keys() <= _NUMBERED and 2 <= len(attributes) <= 4:
            self.ambiguous[path] = "Keras before version 1 stored no names of the variables"

    def _unique(self, path: str) -> str:
        unique = path
        while unique in self._paths:
            self._paths[path] += 1
            unique = f"{path}#{self._paths[path]}"
        self._paths[unique] = 1
        return unique


def _by_group(model: Layer, groups: Sequence[str]) -> dict[str, Layer]:
    """Return the layers of a model by their groups, which are called as they are.

    Before Keras 2.2.3, a Sequential within another one has no name in the configuration; but both
    list all layers in one order.
    """
    layers = list(model.layers())
    groups = [group for group in groups if group != _TOP_LEVEL]
    pairs = list(zip(groups, layers, strict=False))
    if len(groups) == len(layers) and all(layer.name in ("", group) for group, layer in pairs):
        return dict(pairs)
    return {layer.name: layer for layer in layers}


def _inner_scope(group: str, scope: str, *, alone: bool) -> str:
    """Return the part of a scope that lies within its group, empty for the group's own weights.

    Keras 3 names the whole way (`model/group/bn`), Keras 2 the last layer alone. TensorFlow makes
    a scope unique by a number: the layer `bn_1` may keep its weights in `bn_1_4`.
    """
    parts = scope.split("/")
    if group in parts:
        return "/".join(parts[len(parts) - parts[::-1].index(group) :])
    if alone and re.fullmatch(re.escape(group) + r"_\d+", parts[-1]):
        return ""
    return scope


def _below(layer: Layer, names: tuple[str, ...] = ()) -> dict[str, list[_Way]]:
    """Return the ways to all layers within another one, by the names of those at their ends."""
    found: dict[str, list[_Way]] = {}
    for each in layer.layers():
        way = _Way((*names, each.name), each)
        found.setdefault(each.name, []).append(way)
        for name, ways in _below(each, way.names).items():
            found.setdefault(name, []).extend(ways)
    return found


def _find(below: Mapping[str, list[_Way]], inner: str) -> Layer | None:
    """Return the layer that a scope stands for, None where none or several could be meant."""
    parts = inner.split("/")
    ways = below.get(parts[-1]) or below.get(re.sub(r"_\d+$", "", parts[-1]), [])
    if len(ways) > _MOST_WAYS:
        return None
    fits = [sum(name in parts for name in way.names) for way in ways]
    most = max(fits, default=0)
    best = [way.layer for way, fit in zip(ways, fits, strict=True) if fit == most]
    return best[0] if best and all(each.config == best[0].config for each in best) else None


def _wrapped(layer: Layer) -> Layer:
    """Return the layer within a wrapper of one: TimeDistributed gives weights its own name."""
    while "layer" in layer.parts and len(list(layer.layers())) == 1:
        layer = layer.parts["layer"]
    return layer


class _Owners:
    """The weights that an optimizer's slots may be for, by the names that tell it.

    Keras 2.11 calls a slot `Adam/m/bn/gamma`, and before that `training/Adam/bn/gamma/m`. Keras 3
    writes `adam/inner_bn_gamma_momentum`, and Keras 2.0 `training/Adam/Variable_3`, which tells
    nothing.
    """

    def __init__(self, full_names: Mapping[str, str]) -> None:
        self._by_name: dict[str, str] = {}
        for key, name in full_names.items():
            self._by_name.setdefault(name, key)
            self._by_name.setdefault(name.replace("/", "_"), key)

    def of(self, slot: str) -> str:
        """Return the key of the weight that a slot's name names, empty where none."""
        parts = slot.split("/")
        for start in range(1, min(len(parts), _MOST_AROUND + 1)):
            for end in (len(parts), len(parts) - 1):
                if (name := "/".join(parts[start:end])) in self._by_name:
                    return self._by_name[name]
        rest = parts[-1]
        for _ in range(_MOST_AROUND):
            rest = rest.rpartition("_")[0]
            if rest in self._by_name:
                return self._by_name[rest]
        return ""
