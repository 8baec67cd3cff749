"""Objects and layers side by side: the pairs that tf.train.Checkpoint and Keras find."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.checkpoint.object_graph import object_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bncheck.checkpoint.model import Checkpoint
    from bncheck.checkpoint.structure import Structure
    from bncheck.graph.model import Graph


def by_objects(
    graph: Graph, checkpoint: Checkpoint, rename: Callable[[str], str] | None = None
) -> dict[str, str]:
    """Return the checkpoint's key of each of the graph's variables that a restore gets to.

    It goes from the roots along all edges of the same name, wherever they lead, breadth first. Each
    stored object is bound once, to the first that is found for it; a variable takes the first value
    that it is given (tensorflow/python/checkpoint/restore.py, bind_object and _single_restore).
    Where names are changed, or one side does not tell its edges, the paths are compared instead.
    """
    wanted, stored = graph.structure.edges, checkpoint.structure.edges
    if wanted is None or stored is None or rename is not None:
        return by_path(graph, checkpoint, rename)
    found: dict[str, str] = {}
    bound = {0}
    pending = [(0, 0)]
    for own, saved in pending:  # grows while it is walked
        if own in wanted.keys and saved in stored.keys:
            found.setdefault(wanted.keys[own], stored.keys[saved])
        for name, child in stored.children[saved].items():
            if child not in bound and name in wanted.children[own]:
                bound.add(child)
                pending.append((wanted.children[own][name], child))
    return {name: key for name, key in found.items() if name in graph.variables}


def by_path(
    graph: Graph, checkpoint: Checkpoint, rename: Callable[[str], str] | None = None
) -> dict[str, str]:
    """Return the checkpoint's key of each of the graph's variables that is at one of its paths.

    A variable is at its key's own path, and below each object that has it as an attribute. In a
    name-based checkpoint the variable's full name is looked for.
    """
    if not checkpoint.structure.tells_layers:
        names = {rename(key) if rename else key: key for key in checkpoint.variables}
        full_names = graph.structure.full_names
        return {
            name: names[full_name]
            for name in graph.variables
            if (full_name := full_names.get(name, "")) in names
        }
    places = {
        rename(path) if rename else path: key
        for path, key in _paths(checkpoint.variables, checkpoint.structure)
    }
    found: dict[str, str] = {}
    for path, name in _paths(graph.variables, graph.structure):
        if path in places and name in graph.variables:
            found.setdefault(name, places[path])
    return found


def _paths(keys: Iterable[str], structure: Structure) -> Iterator[tuple[str, str]]:
    for key in keys:
        yield object_path(key), key
    for each in structure.objects:
        for attribute, key in each.attributes.items():
            yield f"{each.path}/{attribute}" if each.path else attribute, key


def by_layer_name(
    graph: Graph, checkpoint: Checkpoint, rename: Callable[[str], str] | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the keys of the graph's weights in layers of equal names, and why others do not pair.

    Only the model's own layers have names that count: a model within it is one layer, with all of
    its weights. Both results are by the graph's names.
    """
    saved = _layers(checkpoint.structure, rename or str)
    pairs: dict[str, str] = {}
    uneven: dict[str, str] = {}
    for layer, names in _layers(graph.structure, str).items():
        keys = saved.get(layer)
        if keys is None:
            continue
        if len(keys) != len(names):
            reason = f"the layer has {len(names)} weights, and {len(keys)} in the file"
            uneven |= dict.fromkeys(names, reason)
        else:
            pairs |= dict(zip(names, keys, strict=True))
    return pairs, uneven


def _layers(structure: Structure, rename: Callable[[str], str]) -> Mapping[str, list[str]]:
    """Return the weights of the model's own layers, in their order."""
    layers: dict[str, list[str]] = {}
    for each in structure.objects:
        name = rename(each.path.partition("/")[0])
        layers.setdefault(name, []).extend(each.attributes.values())
    return layers
