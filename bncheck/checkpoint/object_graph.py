"""Object-based checkpoints: the TrackableObjectGraph that tf.train.Checkpoint stores among them.

The keys of such a checkpoint are shortest paths through the program's objects, and no layer
structure: with an optimizer beside the model, Keras 3 keeps gamma under
`optimizer/_trainable_variables`. The edges of the graph say which object has which variable
(tensorflow/core/protobuf/trackable_object_graph.proto; the paths are made in
tensorflow/python/checkpoint/graph_view.py and util.py).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from google.protobuf.message import DecodeError

from bncheck import limits
from bncheck.checkpoint.structure import ObjectEdges, StoredObject, Structure
from bncheck.errors import DamagedError
from bncheck.proto.objects_pb2 import TrackableObjectGraph

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from bncheck.checkpoint.bundle import TensorBundle
    from bncheck.checkpoint.model import Variable

OBJECT_GRAPH: Final = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE: Final = "VARIABLE_VALUE"
_SUFFIX: Final = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT: Final = "/.OPTIMIZER_SLOT/"
_STEPS: Final = ("_iterations", "iterations", "iter")  # Keras 2.11 and 3, and the older optimizers
_ROOT_STEPS: Final = ("step", "global_step")  # what a program hangs on its tf.train.Checkpoint
_INTEGERS: Final = ("int64", "int32")
_REPLICA: Final = re.compile(r"(?s)(.+)/replica_\d+")
_MOST_SUFFIXES: Final = 8  # words at a slot's end that may be its kind


def load_objects(bundle: TensorBundle) -> TrackableObjectGraph:
    """Return the object graph of a bundle; DamagedError where it cannot be read."""
    values = bundle.read([OBJECT_GRAPH])
    if OBJECT_GRAPH in values.unread:
        raise DamagedError(bundle.path, values.unread[OBJECT_GRAPH], remedy="")
    encoded = values.arrays[OBJECT_GRAPH]
    if encoded.shape != () or encoded.dtype.kind != "O":
        raise DamagedError(bundle.path, "its object graph is no string")
    try:
        return TrackableObjectGraph.FromString(encoded.item())
    except DecodeError:
        raise DamagedError(bundle.path, "its object graph is no TrackableObjectGraph") from None


def read_structure(bundle: TensorBundle) -> Structure:
    """Return what a bundle's object graph says of its variables.

    Where the graph itself cannot be read, `problem` says so, and the keys' own paths speak.
    """
    try:
        graph = load_objects(bundle)
    except DamagedError as error:
        return _by_keys(bundle.variables, error.reason)
    return structure_of(graph, bundle)


def structure_of(graph: TrackableObjectGraph, bundle: TensorBundle) -> Structure:
    """Return what an object graph says of a bundle's variables, as `read_structure` does."""
    found = _Reader(graph, bundle).read()
    if not found.full_names and any(key.endswith(_SUFFIX) for key in bundle.variables):
        error = DamagedError(
            bundle.path, "its object graph describes none of the variables that are here"
        )
        return _by_keys(bundle.variables, error.reason)
    return found


def object_path(key: str) -> str:
    """Return the path of attributes that a key stands for: `model/bn/gamma`.

    The two escapes are undone: `.S` is a slash within a name, `..` a dot.
    """
    path = key.removesuffix(_SUFFIX)
    if "." not in path:
        return path
    return "/".join(
        part.replace(".S", "/").replace("..", ".") if part[:1] != "." else part
        for part in path.split("/")
    )


def _by_keys(variables: Mapping[str, Variable], problem: str) -> Structure:
    """Read the paths of the keys, where the object graph is lost: slots have a mark in theirs."""
    objects: dict[str, dict[str, str]] = {}
    slots = {}
    for key in variables:
        if _SLOT in key:
            slots[key] = key.partition(_SLOT)[0] + _SUFFIX
        elif key.endswith(_SUFFIX):
            scope, _, attribute = object_path(key).rpartition("/")
            if not attribute.isdigit():
                objects.setdefault(scope, {})[attribute] = key
    return Structure(
        objects=tuple(StoredObject(path, attributes) for path, attributes in objects.items()),
        full_names={key: object_path(key) for key in variables if key.endswith(_SUFFIX)},
        slots=slots,
        counters=frozenset(_scalars(variables)),
        problem=problem,
    )


def _scalars(variables: Mapping[str, Variable]) -> Iterator[str]:
    return (key for key, variable in variables.items() if not variable.shape)


class _Edge(NamedTuple):
    parent: int
    name: str


class _Reader:
    """One object graph on its way to a Structure."""

    def __init__(self, graph: TrackableObjectGraph, bundle: TensorBundle) -> None:
        self._nodes = graph.nodes
        self._bundle = bundle
        self._variables = bundle.variables
        self._keys: dict[int, str] = {}
        self._full_names: dict[str, str] = {}
        self._own: dict[int, Mapping[str, str]] = {}
        for number, node in enumerate(self._nodes):
            for attribute in node.attributes:
                if attribute.name == _VALUE and attribute.checkpoint_key in self._variables:
                    self._keys[number] = attribute.checkpoint_key
                    self._full_names[attribute.checkpoint_key] = attribute.full_name
        self._edges = [
            {
                child.local_name: child.node_id
                for child in node.children
                if 0 <= child.node_id < len(self._nodes)
            }
            for node in self._nodes
        ]
        self._ways = self._breadth_first()

    def read(self) -> Structure:
        optimizers = [number for number in self._ways if self._is_optimizer(number)]
        slots = self._slots(optimizers)
        counters = self._scalars_of(optimizers)
        saves = self._attributes(0).get("save_counter")
        counters |= {saves} if saves else set()
        counters |= {key for key in self._variables if key.startswith("keras_api/metrics/")}
        return Structure(
            objects=tuple(self._objects(set(optimizers))),
            full_names=self._full_names,
            slots=slots,
            counters=frozenset(counters - slots.keys()),
            copies=frozenset(self._copies(slots)),
            lists=tuple(tuple(each) for each in self._lists()),
            steps=self._steps(optimizers),
            saves=saves,
            edges=ObjectEdges(self._edges, self._keys),
        )

    def _breadth_first(self) -> dict[int, _Edge | None]:
        """Return each object that the root reaches, with the last edge of its shortest path."""
        if not self._nodes:
            return {}
        ways: dict[int, _Edge | None] = {0: None}
        pending = [0]
        for number in pending:  # grows while it is walked
            for name, child in self._edges[number].items():
                if child not in ways:
                    ways[child] = _Edge(number, name)
                    pending.append(child)
        return ways

    def _path(self, number: int) -> str:
        parts: list[str] = []
        edge = self._ways[number]
        while edge is not None and len(parts) < limits.DEEPEST_OBJECT:
            # No program calls an attribute so; a graph of many such would fill the memory.
            short = len(edge.name) <= limits.LONGEST_ATTRIBUTE_NAME
            parts.append(
                edge.name if short else f"{edge.name[: limits.LONGEST_ATTRIBUTE_NAME]}...{number}"
            )
            edge = self._ways[edge.parent]
        return "/".join([*(["..."] if edge is not None else []), *reversed(parts)])

    def _attributes(self, number: int) -> Mapping[str, str]:
        """Return the keys of an object's own variables by attribute; a list has none."""
        if number not in self._own:
            self._own[number] = {
                name: self._keys[child]
                for name, child in (self._edges[number].items() if number in self._ways else ())
                if child in self._keys and not name.isdigit()
            }
        return self._own[number]

    def _items(self, numbers: Iterable[int], attribute: str) -> list[list[str]]:
        """Return the variables of the lists that objects have as an attribute, each list once."""
        lists = [
            child
            for number in numbers
            for name, child in self._edges[number].items()
            if name == attribute
        ]
        return [self._list(each) for each in dict.fromkeys(lists)]

    def _list(self, number: int) -> list[str]:
        """Return the keys in a list, by their numbers."""
        items = [
            (int(name), self._keys[child])
            for name, child in self._edges[number].items()
            if child in self._keys and name.isdecimal() and len(name) < limits.LONGEST_LIST_INDEX
        ]
        return [key for _, key in sorted(items)]

    def _objects(self, optimizers: set[int]) -> Iterator[StoredObject]:
        for number in self._ways:
            attributes = {} if number in optimizers else dict(self._attributes(number))
            if number == 0:
                attributes.pop("save_counter", None)
            if attributes:
                yield StoredObject(self._path(number), attributes)

    def _is_optimizer(self, number: int) -> bool:
        """Whether an object keeps slots, or counts iterations beside a list of its variables."""
        if self._nodes[number].slot_variables:
            return True
        names = self._edges[number].keys()
        counted = any(name in self._attributes(number) for name in _STEPS)
        return counted and bool(
            names & {"_variables", "_learning_rate", "learning_rate", "decay", "beta_1"}
        )

    def _slots(self, optimizers: Iterable[int]) -> dict[str, str]:
        """Return the variable of each slot: told by reference, or by the slot's full name."""
        slots: dict[str, str] = {}
        for number in optimizers:
            for slot in self._nodes[number].slot_variables:
                key = self._keys.get(slot.slot_variable_node_id)
                if key is not None:
                    slots[key] = self._keys.get(slot.original_variable_node_id, "")
        listed = [key for each in self._items(optimizers, "_variables") for key in each]
        trained = self._items(optimizers, "_trainable_variables")
        trainable = {key for each in trained for key in each}
        unknown = [key for key in listed if key not in slots and self._variables[key].shape]
        owners = _Owners(self._full_names, {*listed, *slots} - trainable)
        slots |= {key: owners.of(self._full_names[key]) for key in unknown if key not in trainable}
        for each in trained:
            self._pair_by_order(each, slots)
        return slots

    def _pair_by_order(self, trained: list[str], slots: dict[str, str]) -> None:
        """Give slots whose names lead nowhere to the variables in whose order they stand.

        A subclassed Keras 3 model that builds its layers late calls every variable `net/gamma`;
        the slot `adam/net_bn_1_gamma_momentum` still knows the layer, and tells it.
        """
        unknown = [key for key in slots if not slots[key] and self._full_names[key]]
        if not trained or not unknown or len(unknown) % len(trained):
            return
        each = len(unknown) // len(trained)
        orders = (
            [trained[at // each] for at in range(len(unknown))],
            [trained[at % len(trained)] for at in range(len(unknown))],
        )
        shapes = [self._variables[key].shape for key in unknown]
        for order in orders:
            if [self._variables[key].shape for key in order] == shapes:
                for slot, key in zip(unknown, order, strict=True):
                    slots[slot] = key
                    self._learn_name(key, self._full_names[slot])
                return

    def _learn_name(self, key: str, slot: str) -> None:
        leaf = self._full_names[key].rpartition("/")[2]
        scope, found, _ = slot.partition("/")[2].rpartition(f"_{leaf}_")
        if found and scope:
            self._full_names[key] = f"{scope}/{leaf}"

    def _scalars_of(self, optimizers: Iterable[int]) -> set[str]:
        keys = {key for each in self._items(optimizers, "_variables") for key in each}
        keys.update(key for number in optimizers for key in self._attributes(number).values())
        return {key for key in keys if not self._variables[key].shape}

    def _steps(self, optimizers: Iterable[int]) -> tuple[str, ...]:
        """Return the keys of the optimizers' counters, else of a step that hangs on the root.

        An optimizer around another one (a LossScaleOptimizer) leaves the counting to that.
        """
        found = []
        known = set(optimizers)
        for number in sorted(known):
            if any(child in known for child in self._edges[number].values()):
                continue
            attributes = self._attributes(number)
            found += [attributes[name] for name in _STEPS if name in attributes][:1]
        if not found:
            root = self._attributes(0)
            named = [key for key in root.values() if self._full_names[key] in _ROOT_STEPS]
            found = [*(root[name] for name in _ROOT_STEPS if name in root), *named][:1]
        integers = [
            key
            for key in dict.fromkeys(found)
            if not self._variables[key].shape and self._variables[key].dtype in _INTEGERS
        ]
        return tuple(integers)

    def _copies(self, slots: Mapping[str, str]) -> Iterator[str]:
        """Yield what is stored twice: Keras' export keeps several lists of the same variables.

        An entry of a later list is one that an earlier list, or an object, has already if full
        name, type, shape and checksum agree; within one list, equal entries are two variables
        (untrained layers are all alike). Under a MirroredStrategy, the second list has each
        replica's part (`bn/moving_mean/replica_1`), of which the first has the mean.
        """
        replicated = {
            match[1] for name in self._full_names.values() if (match := _REPLICA.fullmatch(name))
        }
        owned = {key for number in self._ways for key in self._attributes(number).values()}
        there = Counter(self._identity(key, replicated) for key in owned)
        for each in self._lists():
            own = [k for k in each if k not in owned and k not in slots and self._full_names[k]]
            found: Counter[tuple[object, ...]] = Counter()
            for key in own:
                identity = self._identity(key, replicated)
                if there[identity] > found[identity] or (len(identity) == 1 and there[identity]):
                    yield key
                found[identity] += 1
            there |= found

    def _identity(self, key: str, replicated: Collection[str]) -> tuple[object, ...]:
        name = self._full_names[key]
        replica = _REPLICA.fullmatch(name)
        name = replica[1] if replica else name
        if name in replicated:
            return (name,)
        variable = self._variables[key]
        return (name, variable.dtype, variable.shape, self._bundle.checksum(key))

    def _lists(self) -> Iterator[list[str]]:
        """Yield the variables of each list that are in no earlier one, in their order."""
        seen: set[str] = set()
        for number in self._ways:
            own = [key for key in self._list(number) if key not in seen]
            seen.update(own)
            if own:
                yield own


class _Owners:
    """The variables that an optimizer's slots may be for, by the full names that tell it.

    tf.keras calls a slot `Adam/m/bn/gamma`, Keras 3 `adam/sequential_bn_gamma_momentum`.
    """

    def __init__(self, full_names: Mapping[str, str], optimizers: set[str]) -> None:
        self._by_name: dict[str, str] = {}
        for key, name in full_names.items():
            if name and key not in optimizers:
                self._by_name.setdefault(name, key)
                self._by_name.setdefault(name.replace("/", "_"), key)

    def of(self, slot: str) -> str:
        """Return the key of the variable that a slot's full name names, empty where none."""
        _, _, rest = slot.partition("/")
        _, _, name = rest.partition("/")
        if name in self._by_name:
            return self._by_name[name]
        for _ in range(_MOST_SUFFIXES):
            rest = rest.rpartition("_")[0]
            if rest in self._by_name:
                return self._by_name[rest]
        return ""
