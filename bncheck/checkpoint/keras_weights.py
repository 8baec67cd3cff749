"""Keras' newer weights (`.weights.h5`, and within `.keras`): variables by number, no names.

Each object of the program is a group, and `vars/0`, `vars/1`, ... in it are its own variables, the
trainable ones first. Groups are called as attributes are, and within a list by their class:
`layers/batch_normalization_1/vars/0` belongs to the second batch normalization of a model. Which
role a number has follows from the layer's configuration, where there is one, or else from how many
there are. See keras/src/saving/saving_lib.py.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final

from bncheck.checkpoint.dtypes import is_floating
from bncheck.checkpoint.hdf5_checkpoint import Hdf5Checkpoint
from bncheck.checkpoint.keras_config import AFFINE, RENORM, STATISTICS, Layer, snake_case
from bncheck.checkpoint.model import quoted
from bncheck.checkpoint.structure import StoredObject, Structure
from bncheck.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bncheck.checkpoint.hdf5 import Hdf5File, Source
    from bncheck.checkpoint.model import Variable

EITHER: Final = "gamma_or_beta"

_VARS: Final = re.compile(r"(?s)(?:(?P<group>.*)/)?vars/(?P<index>[^/]+)")
# Keras 2.13 lists a model's layers under another attribute, most of them twice.
_LAYERS: Final = ("layers", "_layer_checkpoint_dependencies")
# The attribute that holds what a wrapper's configuration calls `layer`.
_ATTRIBUTES: Final = {"layer": ("layer", "forward_layer")}
_NUMBER: Final = re.compile(r"(?P<name>.*?)(?:_(?P<number>[1-9]\d{0,8}))?")

# Keras' own class, as its groups are called where a list holds them.
_CLASS: Final = re.compile(r"(sync_)?batch_normalization(_v1|_v2)?(_\d+)?")
_BATCH: Final = re.compile(r"batch_?norm|(^|_)s?bn\d*($|_)|[a-z]bn\d*($|_)")
_OTHER: Final = re.compile(
    r"(layer|instance|inst|group|weight|unit|pixel|spectral|rms|ada)_?norm|(^|_)(ln|gn|adain)\d*($|_)"
)
# Keras' layer that scales inputs by their mean and variance; also a likely name of an attribute.
_PREPROCESSING: Final = re.compile(r"normalization(_\d+)?")
# Layers, metrics and optimizers with several vectors of one length, none of them a normalization.
_KNOWN: Final = re.compile(
    r"(^|_)(auc|precision|recall|sensitivity|specificity|mean|dense|gru|lstm|rnn|cell"
    r"|embedding|conv\d?d|attention|prelu|p_re_lu)(_|$)"
)
_OPTIMIZER: Final = re.compile(r"(^|/)[^/]*(optimizer|(^|_|/)opt)(_\d+)?(/|$)")
_METRICS: Final = re.compile(r"(^|/)_?(compile_)?metrics?(/|$)|(^|/)\w*(loss_tracker|_metric)(/|$)")
_SEED: Final = re.compile(r"(^|/)_?(random_|seed_)generator(_\d+)?$")

_NO_CONFIG: Final = "without config.json nothing says which of gamma and beta this layer has"
_PERHAPS: Final = "{} vectors of one length without names: perhaps a batch normalization"


def is_keras_weights(file: Hdf5File) -> bool:
    """Whether an HDF5 file has the layout of `.weights.h5`."""
    return any(_VARS.fullmatch(key) for key in file.variables) or any(
        group == "vars" or group.endswith("/vars") for group in file.groups
    )


def read_names(file: Hdf5File) -> dict[str, str]:
    """Return the names that Keras 3 stores beside the variables, by group."""
    names = {}
    for group in file.groups:
        parent, _, leaf = group.rpartition("/")
        if leaf == "vars":
            name = file.text(group, "name")
            if name:
                names[parent] = name
    return names


def build_structure(
    variables: Mapping[str, Variable],
    groups: Iterable[str],
    names: Mapping[str, str],
    model: Layer | None,
) -> Structure:
    """Return the layers of the weights in one file or several, and the optimizers' variables.

    `groups` are the HDF5 groups, `names` those that Keras 3 gives them, `model` the configuration.
    """
    owned: dict[str, dict[str, Variable]] = {}
    for key, variable in variables.items():
        match = _VARS.fullmatch(key)
        if match:
            owned.setdefault(match["group"] or "", {})[match["index"]] = variable
    places = _Places(groups, names, model)
    objects: list[StoredObject] = []
    ambiguous: dict[str, str] = {}
    slots: dict[str, str] = {}
    counters: set[str] = set()
    steps: dict[str, str] = {}
    for group, own in sorted(owned.items(), key=lambda item: _natural(item[0])):
        ordered = [own[index] for index in sorted(own, key=_numeric)]
        if _is_optimizer(group, ordered):
            counters |= {variable.name for variable in ordered if not variable.shape}
            slots |= {variable.name: "" for variable in ordered if variable.shape}
            if ordered and _counts(ordered[0]):
                steps[group] = ordered[0].name
        elif _METRICS.search(group) or _SEED.search(group):
            counters |= {variable.name for variable in ordered}
        else:
            found, problem = places.object(group, ordered)
            objects.append(found)
            if problem:
                ambiguous[found.path] = problem
    return Structure(
        objects=tuple(objects),
        slots=slots,
        counters=frozenset(counters),
        steps=tuple(_innermost(steps)),
        ambiguous=ambiguous,
        nameless=model is None and not names,
    )


def _innermost(steps: Mapping[str, str]) -> Iterator[str]:
    """Yield the counters of the optimizers that no LossScaleOptimizer is around; it counts less."""
    around: set[str] = set()
    for group in steps:
        while group:
            group = group.rpartition("/")[0]
            around.add(group)
    for group, key in steps.items():
        if group not in around:
            yield key


def _numeric(index: str) -> tuple[int, int, str]:
    """Sort 10 after 9, and what is no number behind all numbers."""
    return (0, int(index), "") if index.isdecimal() and len(index) < 10 else (1, 0, index)


def _natural(group: str) -> list[tuple[str, int]]:
    """Sort `conv_10` after `conv_9`, which is nearer to the model's order than the file's is."""
    matches = (_NUMBER.fullmatch(part) for part in group.split("/"))
    return [(match["name"], int(match["number"] or 0)) for match in matches if match]


def _counts(variable: Variable) -> bool:
    return not variable.shape and variable.dtype in ("int64", "int32", "uint64")


def _is_optimizer(group: str, own: Sequence[Variable]) -> bool:
    """Whether variables are an optimizer's: it is called so, or counts steps before all others."""
    return bool(_OPTIMIZER.search(group)) or (len(own) > 1 and _counts(own[0]))


class _Places:
    """Which layer each group belongs to, and what it is called."""

    def __init__(
        self, groups: Iterable[str], names: Mapping[str, str], model: Layer | None
    ) -> None:
        self._names = names
        self._children: dict[str, list[str]] = {}
        self._layers: dict[str, Layer] = {}
        self._seen: set[tuple[str, str]] = set()
        self._paths: dict[str, int] = {}  # how often each was asked for
        for group in groups:
            parent, _, name = group.rpartition("/")
            if name != "vars":
                self._children.setdefault(parent, []).append(name)
        if model is not None:
            self._take("", model)

    def object(self, group: str, own: Sequence[Variable]) -> tuple[StoredObject, str]:
        """Return a group's variables as an object, and why their roles are not certain."""
        layer = self._layers.get(group)
        roles, problem = _roles(own, layer, self._words(group, layer), group.split("/")[:-1])
        keys = [variable.name for variable in own]
        if roles:
            attributes = dict(zip(roles, keys, strict=True))
        else:
            attributes = {key.rpartition("/")[2]: key for key in keys}
        found = StoredObject(
            path=self._unique(self._path(group), group),
            attributes=attributes,
            name=self._name(group),
            config=layer.config if layer else None,
        )
        return found, problem

    def _words(self, group: str, layer: Layer | None) -> list[str]:
        """Return what the object itself is called: by its group, its class and its name."""
        words = [group.rpartition("/")[2], self._names.get(group, "")]
        if layer:
            words[1:1] = [snake_case(layer.class_name), layer.name]
        return [word.lower() for word in words if word]

    def _name(self, group: str) -> str:
        layer = self._layers.get(group)
        return (layer.name if layer else "") or self._names.get(group) or group.rpartition("/")[2]

    def _path(self, group: str) -> str:
        parts = group.split("/")
        ways = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        return "/".join(
            self._name(way) for way, part in zip(ways, parts, strict=True) if part not in _LAYERS
        )

    def _unique(self, path: str, group: str) -> str:
        """Return a path that no other object has; the group's own path is unique among groups."""
        unique = group if path in self._paths else path
        while unique in self._paths:
            self._paths[path] += 1
            unique = f"{path}#{self._paths[path]}"
        self._paths[unique] = 1
        return unique

    def _take(self, group: str, layer: Layer) -> None:
        """Note the layer of a group, and those of the groups below that its configuration tells."""
        self._layers[group] = layer
        self._seen.add((layer.name, layer.class_name))
        here = self._children.get(group, ())
        for key, part in layer.parts.items():
            for attribute in _ATTRIBUTES.get(key, (key,)):
                if attribute in here:
                    self._take(_join(group, attribute), part)
                    break
        for key, layers in layer.lists.items():
            for attribute in _LAYERS if key == "layers" else (key,):
                if attribute in here:
                    self._take_list(_join(group, attribute), layers)

    def _take_list(self, container: str, layers: Iterable[Layer]) -> None:
        """Note the layers of a list, whose groups bear their classes' names and numbers."""
        by_class: dict[str, list[Layer]] = {}
        for layer in layers:
            by_class.setdefault(snake_case(layer.class_name), []).append(layer)
        numbered: dict[str, list[tuple[int, str]]] = {}
        for child in self._children.get(container, ()):
            match = _NUMBER.fullmatch(child)
            if match:
                numbered.setdefault(match["name"], []).append((int(match["number"] or 0), child))
        # A layer that another list holds, too, is stored there alone: first the classes that are
        # all here, which may hold it.
        for name, same in sorted(
            by_class.items(), key=lambda item: len(item[1]) != len(numbered.get(item[0], ()))
        ):
            for child, layer in self._pairs(container, sorted(numbered.get(name, ())), same):
                self._take(_join(container, child), layer)

    def _pairs(
        self, container: str, groups: Sequence[tuple[int, str]], layers: Sequence[Layer]
    ) -> Iterator[tuple[str, Layer]]:
        """Yield a list's groups of one class, each with its layer.

        Keras 3 stores the layers' names. Otherwise the order tells: the groups are numbered in the
        order of the list, though Keras 2.13 leaves numbers out, and Keras 3 those of layers that
        are stored elsewhere.
        """
        named = {layer.name: layer for layer in layers}
        names = [self._names.get(_join(container, child)) for _, child in groups]
        if len(named) == len(layers) and all(name in named for name in names):
            yield from (
                (child, named[name])
                for (_, child), name in zip(groups, names, strict=True)
                if name is not None
            )
            return
        if len(groups) != len(layers):
            layers = [each for each in layers if (each.name, each.class_name) not in self._seen]
        if len(groups) == len(layers):
            yield from zip((child for _, child in groups), layers, strict=True)


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


def _roles(
    own: Sequence[Variable], layer: Layer | None, words: Sequence[str], parents: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    """Return the roles of an object's variables in their order, and why they are not certain.

    No roles where it is no batch normalization, or may be none.
    """
    count = len(own)
    # What is certainly a batch normalization stays one whatever its variables look like: that they
    # disagree is for a rule to say.
    if layer and layer.roles:
        if count == len(layer.roles):
            return layer.roles, ""
        return (), f"its configuration tells of {len(layer.roles)} variables, {count} are stored"
    if any(_CLASS.fullmatch(word) for word in words):
        roles, problem = _counted(count)
        return roles, problem if roles else f"a batch normalization of {count} variables"
    alike = len({(variable.shape, variable.dtype) for variable in own}) == 1
    if not alike or not own[0].shape or not is_floating(own[0].dtype):
        return (), ""
    kind = _kind(words, parents)
    if kind is _Kind.BATCH:
        return _counted(count)
    if kind in (_Kind.OTHER, _Kind.KNOWN) or len(own[0].shape) != 1:
        return (), ""
    if count == 4 or (count == 3 and kind is _Kind.NORM):
        return _counted(count)
    # A configuration that does not know momentum and epsilon is none of a batch normalization.
    if count in (2, 3) and layer is None:
        return (), _PERHAPS.format(count)
    return (), ""


def _counted(count: int) -> tuple[tuple[str, ...], str]:
    """Return the roles of a batch normalization's variables by their number alone."""
    renorm = RENORM if count > 4 else ()
    plain = count - len(renorm)
    if plain == 4:
        return (*AFFINE, *STATISTICS, *renorm), ""
    if plain == 3:
        return (EITHER, *STATISTICS, *renorm), _NO_CONFIG
    return ((*STATISTICS, *renorm), "") if plain == 2 else ((), "")


class _Kind(Enum):
    BATCH = "a batch normalization"
    OTHER = "another normalization"
    NORM = "a normalization"
    KNOWN = "a layer that is none"
    UNKNOWN = "anything"


def _kind(words: Sequence[str], parents: Sequence[str]) -> _Kind:
    """Return what an object's own names say it is, or else the innermost of those around it."""
    own = _named(words)
    if own is None and any(_KNOWN.search(word) for word in words):
        return _Kind.KNOWN
    kind = own or _named([parent.lower() for parent in reversed(parents)])
    if kind is not None:
        return kind
    norm = any("norm" in word and not _PREPROCESSING.fullmatch(word) for word in words)
    return _Kind.NORM if norm else _Kind.UNKNOWN


def _named(words: Iterable[str]) -> _Kind | None:
    for word in words:
        if _OTHER.search(word):
            return _Kind.OTHER
        if _BATCH.search(word):
            return _Kind.BATCH
    return None


def open_weights(
    path: str,
    form: str,
    sources: Sequence[Source],
    model: Layer | None,
    expected: Iterable[str] = (),
) -> Hdf5Checkpoint:
    """Return the weights in one file or several shards as a checkpoint.

    `form` is its format, `expected` the groups that the shards have to hold together. Raises
    DamagedError where one is missing, or a variable is stored twice.
    """
    places: dict[str, int] = {}
    variables: dict[str, Variable] = {}
    groups: dict[str, None] = {}
    names: dict[str, str] = {}
    for number, source in enumerate(sources):
        with source() as file:
            if not is_keras_weights(file):
                raise file.not_keras()
            for key in file.variables:
                if places.setdefault(key, number) != number:
                    raise file.damaged(f"holds {quoted(key)}, which another shard holds, too")
            variables |= file.variables
            groups |= file.groups
            names |= read_names(file)
    for group in expected:
        if group.strip("/") not in groups:
            raise DamagedError(path, f"lists {quoted(group)}, which is in none of its shards")
    structure = build_structure(variables, groups, names, model)
    remarks = tuple(_misplaced(variables))
    return Hdf5Checkpoint(path, form, sources, places, variables, structure, remarks)


def _misplaced(variables: Iterable[str]) -> Iterator[str]:
    """Say which datasets are where Keras stores no variables: a damaged name, or another program.

    Nobody can tell whose they are, so that a layer of them is not judged.
    """
    found = [name for name in variables if not _VARS.fullmatch(name)]
    if found:
        shown = ", ".join(map(quoted, found[:3])) + (", ..." if len(found) > 3 else "")
        yield f"{len(found)} datasets are in no group 'vars', and were not judged: {shown}"
