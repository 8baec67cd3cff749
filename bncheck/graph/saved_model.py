"""SavedModels as graphs: what the program that was exported expects of its variables.

TensorFlow 1 exports list their variables in collections, as a .meta does; TensorFlow 2 exports have
a SavedVariable for each in their object graph (tensorflow/core/protobuf/saved_object_graph.proto),
and Keras 2 describes its layers in `keras_metadata.pb` or, before TensorFlow 2.5, in the objects'
metadata.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bncheck import limits
from bncheck.checkpoint.bundle import TensorBundle
from bncheck.checkpoint.dtypes import dtype_name
from bncheck.checkpoint.keras_config import read_config
from bncheck.checkpoint.location import variables_prefix
from bncheck.checkpoint.object_graph import OBJECT_GRAPH, load_objects, structure_of
from bncheck.checkpoint.structure import NO_STRUCTURE
from bncheck.errors import BncheckError, NotACheckpointError, UnsupportedError
from bncheck.graph.conditions import sources
from bncheck.graph.dataflow import Dataflow, node_name
from bncheck.graph.layers import Program, find_layers, signature_outputs, training_ops
from bncheck.graph.meta_graph import OTHER_GRAPH, graph_of, read_message
from bncheck.graph.model import Graph, GraphVariable
from bncheck.graph.text_form import read_text_message
from bncheck.proto.graphs_pb2 import SavedModel
from bncheck.proto.objects_pb2 import SavedMetadata

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from bncheck.checkpoint.structure import LayerConfig, ObjectEdges, Structure
    from bncheck.graph.inline import Node
    from bncheck.graph.model import GraphLayer
    from bncheck.proto.graphs_pb2 import MetaGraphDef
    from bncheck.proto.objects_pb2 import SavedObjectGraph, SavedVariable

BINARY: Final = "saved_model.pb"
TEXT: Final = "saved_model.pbtxt"
CHUNKED: Final = "saved_model.cpb"
_KERAS: Final = "keras_metadata.pb"
_SERVE: Final = "serve"
_LAYER: Final = "_tf_keras_layer"


def read_saved_model(directory: str) -> Graph:
    """Read the SavedModel in a directory; nothing in it is executed.

    With several MetaGraphs, the one that is tagged for serving says what is restored, and what the
    others know of the training (momentum, update ops) is added. Raises BncheckError where the file
    is damaged or of a form that is not read.
    """
    return graph_of_saved_model(*_read(directory))


def graph_of_saved_model(path: str, model: SavedModel) -> Graph:
    """Return what a SavedModel says; `path` is the file that it is from.

    Raises as `read_saved_model` does.
    """
    if not model.meta_graphs:
        raise NotACheckpointError(
            path, "is a protobuf message, but no SavedModel", remedy=OTHER_GRAPH
        )
    if len(model.meta_graphs) > limits.MOST_META_GRAPHS:
        raise UnsupportedError(
            path,
            f"holds {len(model.meta_graphs)} MetaGraphs; a SavedModel has one for each of its uses",
            remedy="--no-graph judges its variables alone.",
        )
    with_objects = any(meta.HasField("object_graph_def") for meta in model.meta_graphs)
    stored = _stored(os.path.dirname(path)) if with_objects else NO_STRUCTURE
    graphs = [
        _graph(path, meta, stored)
        for meta in sorted(model.meta_graphs, key=lambda m: _SERVE not in m.meta_info_def.tags)
    ]
    first, *others = graphs
    for other in others:
        first = replace(
            first,
            variables={**other.variables, **first.variables},
            collections={
                name: tuple(dict.fromkeys((*first.collections.get(name, ()), *names)))
                for name, names in other.collections.items()
            },
            saved_as=None
            if first.saved_as is None and other.saved_as is None
            else {**(other.saved_as or {}), **(first.saved_as or {})},
            momentum={**other.momentum, **first.momentum},
            updates={**other.updates, **first.updates},
            epsilon={**other.epsilon, **first.epsilon},
            normalized=first.normalized | other.normalized,
            update_ops=max(first.update_ops, other.update_ops),
        )
    return first


def _read(directory: str) -> tuple[str, SavedModel]:
    path = os.path.join(directory, BINARY)
    if os.path.lexists(path):
        return path, read_message(path, SavedModel(), "SavedModel")
    path = os.path.join(directory, TEXT)
    if os.path.lexists(path):
        return path, read_text_message(path, SavedModel(), "SavedModel")
    raise UnsupportedError(
        os.path.join(directory, CHUNKED),
        "is a SavedModel in chunks, which this version does not read",
        remedy="--no-graph judges its variables alone.",
    )


def _graph(path: str, meta: MetaGraphDef, stored: Structure) -> Graph:
    serving = _SERVE in meta.meta_info_def.tags
    if not meta.HasField("object_graph_def"):
        graph = graph_of(path, meta, "saved-model")
        return replace(graph, role="serving") if serving else graph
    names = _names(meta.object_graph_def, stored.edges)
    nodes = meta.object_graph_def.nodes
    variables = {name: _variable(name, nodes[number].variable) for number, name in names.items()}
    trainable = {name for number, name in names.items() if nodes[number].variable.trainable}
    return Graph(
        source=path,
        kind="saved-model",
        variables=variables,
        collections={
            "variables": tuple(variables),
            "trainable_variables": tuple(name for name in variables if name in trainable),
        },
        role="serving" if serving else "unknown",
        tensorflow_version=meta.meta_info_def.tensorflow_version,
        layers=_layers(meta, names, trainable),
        structure=stored,
        configs=dict(_configs(path, meta.object_graph_def, names)),
    )


def _layers(
    meta: MetaGraphDef, names: Mapping[int, str], trainable: Collection[str]
) -> tuple[GraphLayer, ...]:
    """Return the batch norms that the signatures' functions go through, by their variables' keys.

    The objects that a function is bound to say which variables its call's last inputs are; else the
    graph's own restore says which key a variable gets. Functions that no signature calls, like
    those for training, are stored beside them and do not count.
    """
    flow = Dataflow(meta.graph_def)
    keys = _restored_keys(flow)
    functions = meta.object_graph_def.concrete_functions
    for node in meta.graph_def.node:
        name = node.attr["f"].func.name if "f" in node.attr else ""
        bound = functions[name].bound_inputs if name in functions else ()
        for tensor, number in zip(reversed(node.input), reversed(bound), strict=False):
            if number in names:
                keys[node_name(tensor)] = names[number]
    steps = training_ops(flow, [op for op, key in keys.items() if key in trainable], ())
    return find_layers(flow, Program(keys, steps, signature_outputs(meta)))


def _restored_keys(flow: Dataflow) -> dict[str, str]:
    """Return the key that each variable op gets its value from in the graph's own restore."""
    keys: dict[str, str] = {}
    for node in flow.of("AssignVariableOp"):
        if len(node.input) < 2:
            continue
        for source in sources(flow, node.input[1]):
            if source.node.op == "RestoreV2":
                key = _restored_key(flow, source.node, source.output)
                keys |= dict.fromkeys(flow.variables_behind(node.input[0]), key) if key else {}
    return keys


def _restored_key(flow: Dataflow, restore: Node, output: int) -> str:
    """Return the key that an output of a RestoreV2 op reads; empty where it is computed."""
    names = restore.input[1] if len(restore.input) > 1 else ""
    constant = next((each.node for each in sources(flow, names) if each.node.op == "Const"), None)
    if constant is None or "value" not in constant.attr:
        return ""
    strings = constant.attr["value"].tensor.string_val
    return strings[output].decode("utf-8", "surrogateescape") if output < len(strings) else ""


def _stored(directory: str) -> Structure:
    """Return what a SavedModel's own bundle tells of its objects, once for all MetaGraphs."""
    try:
        bundle = TensorBundle(variables_prefix(directory))
        if OBJECT_GRAPH not in bundle.variables:
            return NO_STRUCTURE
        return structure_of(load_objects(bundle), bundle)
    except BncheckError:
        # The audit of the checkpoint itself says so; another graph's variables still have names.
        return NO_STRUCTURE


def _names(objects: SavedObjectGraph, stored: ObjectEdges | None) -> dict[int, str]:
    """Return each variable node's key in the SavedModel's own bundle.

    Nodes and keys are brought together as a restore does it: both graphs are walked from the root
    along edges of the same name. A variable that the bundle lacks goes by its own name.
    """
    keys: dict[int, str] = {}
    if stored is None:
        return _own_names(objects, keys)
    pending = [(0, 0)] if objects.nodes and stored.children else []
    seen = {0}
    for number, other in pending:  # grows while it is walked
        if other in stored.keys:
            keys[number] = stored.keys[other]
        for child in objects.nodes[number].children:
            match = stored.children[other].get(child.local_name)
            known = 0 <= child.node_id < len(objects.nodes)
            if match is not None and known and child.node_id not in seen:
                seen.add(child.node_id)
                pending.append((child.node_id, match))
    return _own_names(objects, keys)


def _own_names(objects: SavedObjectGraph, keys: Mapping[int, str]) -> dict[int, str]:
    names: dict[int, str] = {}
    taken = set(keys.values())
    for number, node in enumerate(objects.nodes):
        if not node.HasField("variable"):
            continue
        name = keys.get(number, node.variable.name)
        if number in keys or (name and name not in taken):
            names[number] = name
            taken.add(name)
    return names


def _variable(name: str, variable: SavedVariable) -> GraphVariable:
    shape = tuple(dimension.size for dimension in variable.shape.dim)
    definite = not variable.shape.unknown_rank and all(size >= 0 for size in shape)
    return GraphVariable(name, dtype_name(variable.dtype), shape if definite else None)


def _configs(
    path: str, objects: SavedObjectGraph, names: Mapping[int, str]
) -> Iterator[tuple[str, LayerConfig]]:
    """Yield what Keras 2 says of the layers, by the names of their variables."""
    beside = os.path.join(os.path.dirname(path), _KERAS)
    path = beside if os.path.lexists(beside) else path
    for number, metadata in _metadata(path, objects):
        layer = read_config(metadata, path, "the configuration of a layer")
        if layer is not None and 0 <= number < len(objects.nodes):
            for child in objects.nodes[number].children:
                if child.node_id in names:
                    yield names[child.node_id], layer.config


def _metadata(path: str, objects: SavedObjectGraph) -> Iterator[tuple[int, str]]:
    """Yield the number and the JSON of every Keras layer, from the file that has them."""
    if os.path.basename(path) == _KERAS:
        metadata = read_message(path, SavedMetadata(), "Keras metadata")
        yield from (
            (node.node_id, node.metadata)
            for node in metadata.nodes
            if node.identifier == _LAYER and node.metadata
        )
        return
    for number, node in enumerate(objects.nodes):
        user = node.user_object if node.HasField("user_object") else None
        if user is not None and user.identifier == _LAYER and user.metadata:
            yield number, node.user_object.metadata
