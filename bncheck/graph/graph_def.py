"""Graphs that are one file: a GraphDef, a MetaGraphDef or a SavedModel, in binary or text form.

A GraphDef (`frozen.pb`, an Estimator's `graph.pbtxt`) is nodes and nothing else. What stands beside
them in a MetaGraphDef is read off the nodes here: the variables, which of them an optimizer trains,
and what the only Saver writes (tensorflow/core/framework/graph.proto).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.sniff import TEXT, describe
from bncheck.checkpoint.varint import read_varint
from bncheck.errors import DamagedError, NotACheckpointError
from bncheck.graph.dataflow import SAVE_OPS, VARIABLE_OPS, Dataflow
from bncheck.graph.layers import apply_ops
from bncheck.graph.meta_graph import ASSIGN_OPS, OTHER_GRAPH, graph_of, read_message
from bncheck.graph.savers import Saved, only_saver, saved_by
from bncheck.graph.text_form import field_among, parse_text_message, read_text
from bncheck.proto.graphs_pb2 import MetaGraphDef, SavedModel, VariableDef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bncheck.graph.model import Graph
    from bncheck.proto.graphs_pb2 import NodeDef

_WHAT: Final = "TensorFlow graph"
_HEAD: Final = 1 << 16  # bytes; the name and the op of a first node end long before
# The outermost fields of each message that hold messages, as they are called in a text.
_GRAPH: Final = frozenset(("node", "library", "versions"))
_META_GRAPH: Final = frozenset(
    ("meta_info_def", "graph_def", "saver_def", "collection_def", "signature_def")
)
_SAVED_MODEL: Final = "meta_graphs"
# The tags that a binary message starts with: SavedModel's version is a number; a GraphDef's nodes
# and a MetaGraphDef's MetaInfoDef are messages.
_NUMBER_1: Final = 0x08
_MESSAGE_1: Final = 0x0A
_MESSAGE_2: Final = 0x12
_OP: Final = re.compile(rb"[A-Za-z_]")
_PART: Final = re.compile(r"(?s)(.+)/part_\d+")


def read_graph_file(path: str) -> Graph:
    """Read the graph that a file holds, or its list of names; its content tells which.

    Raises NotFoundError, NotACheckpointError where the file is something else, UnsupportedError
    beyond 2 GiB, and DamagedError where it is cut off.
    """
    with RegularFile(path) as file:
        is_text = describe(file) == TEXT
        head = file.head(_HEAD)
    if is_text:
        return _of_text(path)
    if head[:1] == bytes([_NUMBER_1]):
        return _of_saved_model(path, read_message(path, SavedModel(), _WHAT))
    meta = MetaGraphDef()
    if _starts_with_a_node(head):
        read_message(path, meta.graph_def, _WHAT)
        return graph_of_nodes(path, meta, "graph-def")
    return _of_meta_graph(path, read_message(path, meta, _WHAT))


def _starts_with_a_node(head: bytes) -> bool:
    """Whether a message starts with a NodeDef: its name, then its op, a word.

    In a MetaInfoDef there is no such word: its second field is a list of messages.
    """
    if head[:1] != bytes([_MESSAGE_1]):
        return False
    try:
        _, position = read_varint(head, 1, len(head))
        if head[position] == _MESSAGE_1:
            size, position = read_varint(head, position + 1, len(head))
            position += size
        if head[position] != _MESSAGE_2:
            return False
        _, position = read_varint(head, position + 1, len(head))
    except (ValueError, IndexError):
        return False
    return _OP.match(head, position) is not None


def _of_text(path: str) -> Graph:
    text = read_text(path, _WHAT)
    field = field_among(text, {*_GRAPH, *_META_GRAPH, _SAVED_MODEL})
    meta = MetaGraphDef()
    if field is None:
        from bncheck.graph.names_file import read_names

        return read_names(path, text)
    if field == _SAVED_MODEL:
        return _of_saved_model(path, parse_text_message(path, text, SavedModel(), "SavedModel"))
    if field in _GRAPH:
        parse_text_message(path, text, meta.graph_def, _WHAT)
        return graph_of_nodes(path, meta, "graph-def")
    return _of_meta_graph(path, parse_text_message(path, text, meta, _WHAT))


def _of_saved_model(path: str, model: SavedModel) -> Graph:
    from bncheck.graph.saved_model import graph_of_saved_model

    return graph_of_saved_model(path, model)


def _of_meta_graph(path: str, meta: MetaGraphDef) -> Graph:
    if not meta.HasField("graph_def") and not meta.collection_def:
        raise NotACheckpointError(
            path, f"is a protobuf message, but no {_WHAT}", remedy=OTHER_GRAPH
        )
    return graph_of(path, meta, "meta-graph")


def graph_of_nodes(path: str, meta: MetaGraphDef, kind: str) -> Graph:
    """Return what a graph says of which nothing but the nodes is known.

    `meta` has them in its `graph_def`, and is given the collections that a Saver would have written
    beside them. Raises DamagedError where there are no nodes.
    """
    if not meta.graph_def.node:
        raise DamagedError(path, f"is a {_WHAT} without any nodes", remedy="Write it again.")
    flow = Dataflow(meta.graph_def)
    sliced = dict(_sliced_variables(flow, meta))
    definitions = {
        node.name: _definition(node, flow, sliced.get(node.name))
        for node in meta.graph_def.node
        if node.op in VARIABLE_OPS
    }
    trained = _trained(flow)
    for collection, names in (
        ("variables", definitions),
        ("trainable_variables", [name for name in definitions if name in trained]),
    ):
        meta.collection_def[collection].bytes_list.value.extend(
            definitions[name].SerializeToString() for name in names
        )
    graph = graph_of(path, meta, kind, save_ops=only_saver(meta.graph_def), flow=flow)
    initialized = {
        definition.save_slice_info_def.full_name or name
        for name, definition in definitions.items()
        if definition.initializer_name
    }
    return replace(
        graph,
        variables={
            name: variable._replace(initial_known=name in initialized)
            for name, variable in graph.variables.items()
        },
        # An empty collection would say that nothing is trainable, which is not known.
        collections={name: members for name, members in graph.collections.items() if members},
    )


def _definition(node: NodeDef, flow: Dataflow, saved: Saved | None) -> VariableDef:
    """Return the VariableDef that a variable op would have had.

    A part of a partitioned variable is told by the slice that a Saver writes of it. A resource goes
    by its shared name, which a graph that was imported under a prefix keeps.
    """
    definition = VariableDef(variable_name=f"{node.name}:0")
    initializer = flow.node(f"{node.name}/Assign")
    if initializer is not None and initializer.op in ASSIGN_OPS:
        definition.initializer_name = initializer.name
    shared = node.attr["shared_name"].s if "shared_name" in node.attr else b""
    name = shared.decode("utf-8", "replace") if node.op == "VarHandleOp" and shared else node.name
    if saved is not None and saved.full_shape is not None:
        part = _PART.fullmatch(name)
        name = part[1] if part else saved.name  # of a slot of a part, only the Saver tells
        definition.save_slice_info_def.full_shape.extend(saved.full_shape)
    if name != node.name:
        definition.save_slice_info_def.full_name = name
    return definition


def _sliced_variables(flow: Dataflow, meta: MetaGraphDef) -> Iterator[tuple[str, Saved]]:
    """Yield the variable ops that a save op writes as slices of a larger tensor."""
    for node in meta.graph_def.node:
        if node.op in SAVE_OPS:
            for saved in saved_by(flow, node):
                if saved.slice:
                    yield from ((name, saved) for name in flow.variables_behind(saved.tensor))


def _trained(flow: Dataflow) -> set[str]:
    """Return the names of the variable ops that an optimizer's ops update."""
    return {
        name
        for node in apply_ops(flow)
        if node.input
        for name in flow.variables_behind(node.input[0])
    }
