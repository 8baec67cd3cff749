"""What a checkpoint says of its variables beyond their keys: objects, full names, slots, configs.

Name-based checkpoints say nothing: their keys are all there is. An object graph, or a Keras file,
says which variables belong to one layer, and what the program calls them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# No mapping proxies here: what goes from process to process is pickled, and they cannot be.
_NOTHING: Final[Mapping[str, str]] = {}


class LayerConfig(NamedTuple):
    """What a model's configuration says of one layer; None where it does not say.

    `initial` maps the names of variables (`gamma`) to the number that their initializer writes into
    every element, and to None where it writes anything else (random numbers, an array).
    """

    class_name: str
    momentum: float | None = None
    epsilon: float | None = None
    trainable: bool | None = None
    initial: Mapping[str, float | None] = {}


class StoredObject(NamedTuple):
    """One object of the program (a layer, a module, a model) with variables of its own.

    `path` leads to it from the root and is unique within the checkpoint; `name` is what the program
    calls it, empty where only the variables' full names can tell. `attributes` maps the object's
    own names of its variables (`gamma`) to their keys.
    """

    path: str
    attributes: Mapping[str, str]
    name: str = ""
    config: LayerConfig | None = None


class ObjectEdges(NamedTuple):
    """The whole graph of objects, the root at 0: the children by attribute, the variables' keys."""

    children: Sequence[Mapping[str, int]]
    keys: Mapping[int, str]


class Structure(NamedTuple):
    """Everything that a checkpoint tells of its variables, all of it by their keys.

    `full_names` are the names that the program gave the variables, `slots` maps each optimizer slot
    to the variable it serves (empty where that is not told), `counters` are the optimizers' scalars
    and the like, `copies` second entries of a variable that has one already. `steps` are the
    optimizers' counters of training steps, `saves` is tf.train.Checkpoint's count of saves.
    `problem` says why the structure could not be read, where that is so; then the keys alone speak.
    `lists` are the keys of the lists that programs keep variables in, in their order.
    `nameless` says that layers go by numbers that mean nothing outside of this file.
    `edges` are all ways through the objects, of which their paths are the shortest.
    `ambiguous` maps the paths of objects whose variables have no certain names to the reason.
    """

    objects: tuple[StoredObject, ...] = ()
    full_names: Mapping[str, str] = _NOTHING
    slots: Mapping[str, str] = _NOTHING
    counters: frozenset[str] = frozenset()
    copies: frozenset[str] = frozenset()
    steps: tuple[str, ...] = ()
    saves: str | None = None
    problem: str = ""
    ambiguous: Mapping[str, str] = _NOTHING
    lists: tuple[tuple[str, ...], ...] = ()
    nameless: bool = False
    edges: ObjectEdges | None = None

    @property
    def tells_layers(self) -> bool:
        """Whether the checkpoint knows its objects or layers, so that no name has to tell them."""
        return bool(self.objects or self.full_names)


NO_STRUCTURE: Final = Structure()
