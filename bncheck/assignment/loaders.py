"""What each of TensorFlow's and Keras' loaders would restore, skip silently, or refuse.

Nothing is run: each function repeats, on names, shapes and types, what the loader's source does.
The sources are those of TensorFlow 1.15.5, 2.15.1 and 2.21, and of Keras 2.15 and 3.15.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.assignment.matching import counterparts, unique
from bncheck.assignment.objects import by_layer_name, by_objects
from bncheck.checkpoint.object_graph import OBJECT_GRAPH
from bncheck.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bncheck.checkpoint.model import Checkpoint
    from bncheck.graph.model import Graph, GraphVariable


class Loader(str, Enum):
    """The ways of loading a checkpoint that `--loader` knows."""

    ASSIGNMENT_MAP = "assignment-map"
    SAVER = "saver"
    WARM_START = "warm-start"
    SLIM = "slim"
    OBJECT = "object"
    KERAS_BY_NAME = "keras-by-name"


CALLS: Final = {
    Loader.ASSIGNMENT_MAP: "tf.compat.v1.train.init_from_checkpoint",
    Loader.SAVER: "tf.compat.v1.train.Saver.restore",
    Loader.WARM_START: "tf.compat.v1.train.warm_start",
    Loader.SLIM: "slim.assign_from_checkpoint(ignore_missing_vars=True)",
    Loader.OBJECT: "tf.train.Checkpoint.restore",
    Loader.KERAS_BY_NAME: "model.load_weights(by_name=True)",
}
_KERAS_FILES: Final = frozenset(("keras-h5", "keras-weights-h5", "keras-archive"))
_OWN_SAVER: Final = "the graph's own list of variables"


class Request(NamedTuple):
    """What is to be loaded into what.

    `collection` is a --collection choice, None for what the loader takes by itself. `rename`
    changes the checkpoint's names before they are compared.
    """

    graph: Graph
    checkpoint: Checkpoint
    collection: str | None = None
    rename: Callable[[str], str] | None = None

    def targets(self, default: str = "global") -> dict[str, GraphVariable]:
        """Return the graph's variables that the loader is given."""
        return self.graph.collection(self.collection or default)

    def keys_by_name(self) -> dict[str, str]:
        """Return the checkpoint's keys by their names as the loader sees them."""
        rename = self.rename or str
        return unique({key: rename(key) for key in self.checkpoint.variables})


def request_of(
    graph: Graph,
    checkpoint: Checkpoint,
    collection: str | None = None,
    rename: Callable[[str], str] | None = None,
) -> Request:
    """Return the request; a checkpoint's description of its objects is no variable of a graph."""
    if OBJECT_GRAPH in graph.variables:
        variables = {n: each for n, each in graph.variables.items() if n != OBJECT_GRAPH}
        graph = replace(graph, variables=variables)
    return Request(graph, checkpoint, collection, rename)


class Outcome(NamedTuple):
    """What a loader does with each of the graph's variables, by the graph's names.

    `restored` and `refused` tell the checkpoint's key (empty where there is none), `skipped` and
    `refused` the reason, which of the latter begins with the exception. A loader that refuses one
    variable raises, and nothing counts as restored then. `source` says what it was given,
    `not_given` is the reason of all that was left out, `asked` the name under which it looks for
    each of the others, `why` what it raises of the checkpoint as a whole.
    """

    loader: Loader
    source: str
    restored: Mapping[str, str]
    skipped: Mapping[str, str]
    refused: Mapping[str, tuple[str, str]]
    asked: Mapping[str, str] = {}
    not_given: str = ""
    why: str = ""

    @property
    def raises(self) -> bool:
        """Whether the loader ends in an exception."""
        return bool(self.refused or self.why)


def load(loader: Loader, request: Request) -> Outcome:
    """Say what a loader would do.

    Raises UnsupportedError where the graph does not tell what this loader goes by.
    """
    if loader is Loader.KERAS_BY_NAME:
        return _keras_by_name(request)
    reading = request.checkpoint.format not in _KERAS_FILES
    outcome = {
        Loader.ASSIGNMENT_MAP: _assignment_map,
        Loader.SAVER: _saver,
        Loader.WARM_START: _warm_start,
        Loader.SLIM: _slim,
        Loader.OBJECT: _object,
    }[loader](request)
    if reading:
        return outcome
    why = f"it reads TensorFlow's checkpoints, and no {request.checkpoint.format} file"
    given = outcome.restored.keys() | outcome.refused.keys()
    refused = {name: (outcome.restored.get(name, ""), why) for name in given}
    return outcome._replace(restored={}, refused=refused, why=why)


class _Fates:
    """The outcome while it is filled; what nobody speaks of was not given to the loader."""

    def __init__(self, request: Request, loader: Loader, source: str) -> None:
        self._request = request
        self._outcome = Outcome(loader, source, {}, {}, {})
        self.restored: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.refused: dict[str, tuple[str, str]] = {}
        self.asked: dict[str, str] = {}

    def compare(self, name: str, key: str, error: str, *, casts: bool = False) -> None:
        """Restore a variable unless shapes or types differ; `error` is what is raised then."""
        wanted = self._request.graph.variables[name]
        saved = self._request.checkpoint.variables[key]
        if wanted.shape is not None and wanted.shape != saved.shape:
            self.refused[name] = (key, f"{error}: shape {list(wanted.shape)} in the graph")
        elif not casts and wanted.dtype and wanted.dtype != saved.dtype:
            types = f"{saved.dtype}, and {wanted.dtype} in the graph"
            self.refused[name] = (key, f"InvalidArgumentError: {types}")
        else:
            self.restored[name] = key

    def finish(self, reason: str) -> Outcome:
        """Return the outcome; `reason` says why the variables left are not loaded."""
        spoken = self.restored.keys() | self.skipped.keys() | self.refused.keys()
        left = {name: reason for name in self._request.graph.variables if name not in spoken}
        given = {**{name: key for name, (key, _) in self.refused.items()}, **self.restored}
        return self._outcome._replace(
            restored=self.restored,
            skipped=self.skipped | left,
            refused=self.refused,
            asked={name: self.asked.get(name) or key or name for name, key in given.items()},
            not_given=reason,
        )


def _source(collection: str) -> str:
    return f"the {collection} variables"


def _not_given(collection: str, so: str) -> str:
    """Say why a variable that is in no such collection is left out."""
    kind = "trainable" if collection == "trainable" else f"a {collection} variable"
    return f"not {kind}, so {so}"


def _assignment_map(request: Request) -> Outcome:
    """init_from_checkpoint with the map that `bncheck.assignment` makes.

    The snippet intersects names without a look at shapes; a shape that differs is a ValueError of
    init_from_checkpoint itself, a type an InvalidArgumentError when the initializer runs
    (tensorflow/python/training/checkpoint_utils.py, _init_from_checkpoint).
    """
    collection = request.collection or "global"
    fates = _Fates(request, Loader.ASSIGNMENT_MAP, _source(collection))
    targets = request.targets()
    for key, name in counterparts(request.graph, request.checkpoint, request.rename).items():
        if name in targets:
            fates.compare(name, key, "ValueError")
    for name in targets:
        if name not in fates.restored and name not in fates.refused:
            fates.skipped[name] = "not in the checkpoint"
    return fates.finish(_not_given(collection, "not in the map"))


def _saver(request: Request) -> Outcome:
    """Saver.restore: every variable of its list must be there.

    A missing one is a NotFoundError; then, if the checkpoint is object-based, the variables' full
    names are tried (tensorflow/python/training/saver.py, restore and
    saver_from_object_based_checkpoint). A reference variable of another shape is an
    InvalidArgumentError; a resource variable takes the checkpoint's shape without a word, since
    AssignVariableOp has no shape to check against (tensorflow/python/training/saving/
    saveable_object_util.py, ResourceVariableSaveable; seen in 1.15.5, 2.15.1 and 2.21).
    """
    own = request.graph.saved_as if request.collection is None else None
    source = _OWN_SAVER if own is not None else _source(request.collection or "global")
    fates = _Fates(request, Loader.SAVER, source)
    if own is None:
        own = {name: name for name in request.targets()}
    listed = {name: saved for name, saved in own.items() if name in request.graph.variables}
    keys = request.keys_by_name()
    if any(saved not in keys for saved in listed.values()):
        keys = _keys_by_full_name(request) or keys
    if request.rename is None:
        fates.asked = listed  # else it is given a dict with the checkpoint's keys
    for name, saved in listed.items():
        if saved in keys:
            fates.compare(name, keys[saved], "InvalidArgumentError")
        else:
            fates.refused[name] = ("", "NotFoundError: not in the checkpoint")
    return fates.finish(
        "the graph's own Saver does not list it"
        if source == _OWN_SAVER
        else _not_given(request.collection or "global", "not in the Saver's list")
    )


def _keys_by_full_name(request: Request) -> dict[str, str]:
    """Return an object-based checkpoint's keys by full name; the last of equal ones counts."""
    rename = request.rename or str
    return {
        rename(name): key
        for key, name in request.checkpoint.structure.full_names.items()
        if request.checkpoint.format not in _KERAS_FILES
    }


def _warm_start(request: Request) -> Outcome:
    """warm_start(".*") takes the trainable variables, and hands them to init_from_checkpoint.

    A string is looked for in TRAINABLE_VARIABLES alone, a list of strings in GLOBAL_VARIABLES; what
    is missing raises ValueError, in object-based checkpoints as well, where full names are compared
    (tensorflow/python/training/warm_starting_util.py, _get_grouped_variables and
    _get_object_checkpoint_renames).
    """
    collection = request.collection or "trainable"
    fates = _Fates(request, Loader.WARM_START, _source(collection))
    keys = _keys_by_full_name(request) or request.keys_by_name()
    for name in request.targets(collection):
        if name in keys:
            fates.compare(name, keys[name], "ValueError")
        else:
            fates.refused[name] = ("", "ValueError: not in the checkpoint")
    return fates.finish(_not_given(collection, "not warm-started"))


def _slim(request: Request) -> Outcome:
    """assign_from_checkpoint(ignore_missing_vars=True) skips what is missing with a log line.

    Names are compared with the checkpoint's keys, so that of an object-based checkpoint nothing is
    restored; another shape is a ValueError, another type is cast, since values are fed
    (tensorflow/contrib/framework/python/ops/variables.py, and tf_slim/ops/variables.py).
    """
    collection = request.collection or "global"
    fates = _Fates(request, Loader.SLIM, _source(collection))
    keys = request.keys_by_name()
    for name in request.targets():
        if name in keys:
            fates.compare(name, keys[name], "ValueError", casts=True)
        else:
            fates.skipped[name] = "not in the checkpoint"
    return fates.finish(_not_given(collection, "not assigned"))


def _object(request: Request) -> Outcome:
    """tf.train.Checkpoint.restore walks both graphs of objects along edges of the same name.

    What finds no counterpart keeps its value without a word, unless assert_consumed is called;
    another shape is a ValueError (tensorflow/python/checkpoint/restore.py and checkpoint.py). A
    name-based checkpoint is restored by the variables' names, and what is missing is skipped as
    well (_NameBasedRestoreCoordinator.eager_restore).
    """
    fates = _Fates(request, Loader.OBJECT, "all objects below the root")
    if not request.graph.structure.tells_layers:
        raise UnsupportedError(
            request.graph.source,
            "does not tell its objects, by which tf.train.Checkpoint restores",
            remedy="Give a SavedModel or an object-based checkpoint of the program as --graph.",
        )
    found = by_objects(request.graph, request.checkpoint, request.rename)
    for name in request.graph.variables:
        if name in found:
            fates.compare(name, found[name], "ValueError")
        else:
            fates.skipped[name] = "no way through the checkpoint's objects leads to it"
    return fates.finish("")


def _keras_by_name(request: Request) -> Outcome:
    """load_weights(by_name=True) pairs the weights of layers of equal names in their order.

    It reads the older HDF5 files alone; layers that the file lacks are skipped, and a layer with
    another number of weights, or a weight of another shape, is a ValueError unless skip_mismatch is
    given (keras/src/legacy/saving/legacy_h5_format.py, load_weights_from_hdf5_group_by_name).
    """
    fates = _Fates(request, Loader.KERAS_BY_NAME, "the layers of the model")
    if request.graph.kind != "checkpoint" or not request.graph.structure.tells_layers:
        raise UnsupportedError(
            request.graph.source,
            "does not tell its Keras layers",
            remedy="Give a Keras file of the program's model (.keras, .h5) as --graph.",
        )
    if request.checkpoint.format != "keras-h5":
        why = "ValueError: by_name is only for legacy .h5 files"
        fates.refused = dict.fromkeys(request.graph.variables, ("", why))
        return fates.finish("")._replace(why=why)
    pairs, uneven = by_layer_name(request.graph, request.checkpoint, request.rename)
    for name, key in pairs.items():
        fates.compare(name, key, "ValueError", casts=True)
    fates.refused |= {name: ("", f"ValueError: {reason}") for name, reason in uneven.items()}
    left = (name for name in request.graph.variables if name not in pairs and name not in uneven)
    fates.skipped = dict.fromkeys(left, "the file has no layer of its layer's name")
    return fates.finish("")
