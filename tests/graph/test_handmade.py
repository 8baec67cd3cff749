"""Hand-made .meta files: forms that are rare or old, and one file for each way to fail."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bncheck.errors import (
    BncheckError,
    DamagedError,
    NotACheckpointError,
    NotFoundError,
    UnsupportedError,
)
from bncheck.graph import load_graph
from bncheck.graph.dataflow import VARIABLE_OPS
from bncheck.graph.meta_graph import read_meta_graph
from bncheck.proto.graphs_pb2 import GraphDef, MetaGraphDef, NodeDef, VariableDef


def const(name: str, *numbers: float) -> NodeDef:
    made = NodeDef(name=name, op="Const")
    tensor = made.attr["value"].tensor
    tensor.dtype = 1
    tensor.float_val.extend(numbers)
    tensor.tensor_shape.dim.add().size = len(numbers)
    return made


def node(name: str, op: str, *inputs: str) -> NodeDef:
    return NodeDef(name=name, op=op, input=inputs)


def meta_graph(*nodes: NodeDef, **collections: list[bytes]) -> MetaGraphDef:
    """Return a graph with these nodes; its variables are listed unless a collection is given."""
    meta = MetaGraphDef(graph_def=GraphDef(node=nodes))
    if "variables" not in collections:
        listed = [each.name for each in nodes if each.op in VARIABLE_OPS]
        collections["variables"] = [
            VariableDef(variable_name=f"{name}:0").SerializeToString() for name in listed
        ]
    for name, values in collections.items():
        meta.collection_def[name].bytes_list.value.extend(values)
    return meta


def read(tmp_path: Path, meta: MetaGraphDef) -> Any:
    (tmp_path / "m.meta").write_bytes(meta.SerializeToString())
    return read_meta_graph(str(tmp_path / "m.meta"))


def old_graph() -> MetaGraphDef:
    """Return what was written before 1.5: the initial value is what the initializer assigns."""
    nodes = [
        node("v", "VariableV2"),
        const("zeros", 0, 0),
        node("v/Assign", "Assign", "v", "zeros"),
        node("u", "VariableV2"),
    ]
    nodes[0].attr["dtype"].type = 101
    nodes[0].attr["shape"].shape.dim.add().size = 2
    nodes[3].attr["shape"].shape.dim.add().size = -1
    definitions = [
        VariableDef(variable_name="v:0", initializer_name="v/Assign", snapshot_name="v/read:0"),
        VariableDef(variable_name="u:0"),
        VariableDef(variable_name="gone:0"),
    ]
    return meta_graph(*nodes, variables=[message.SerializeToString() for message in definitions])


def test_old_definitions(tmp_path: Path) -> None:
    v, u, gone = read(tmp_path, old_graph()).variables.values()
    assert (v.dtype, v.shape, v.initial, v.initial_known) == ("float32", (2,), 0.0, True)
    assert (u.shape, u.initial, u.initial_known) == (None, None, True)
    assert (gone.dtype, gone.shape, gone.initial_known) == ("", None, False)


def test_a_collection_by_name_alone(tmp_path: Path) -> None:
    """Old files list model_variables as nodes; that takes nothing away from the definition."""
    meta = old_graph()
    meta.collection_def["model_variables"].node_list.value.append("v:0")
    graph = read(tmp_path, meta)
    assert list(graph.collection("model")) == ["v"]
    assert graph.variables == read(tmp_path, old_graph()).variables


def test_a_stripped_epsilon_is_the_ops_default(tmp_path: Path) -> None:
    graph = read(
        tmp_path,
        meta_graph(node("g", "VariableV2"), node("bn", "FusedBatchNormV3", "x", "g", "b")),
    )
    assert graph.epsilon == {"g": 0.0001}


def test_saved_names_that_are_one_for_all(tmp_path: Path) -> None:
    """A constant's shorter list stands for its last string repeated; names may be no UTF-8."""
    names = const("names")
    names.attr["value"].tensor.dtype = 7
    names.attr["value"].tensor.string_val.extend([b"\xff"])
    names.attr["value"].tensor.tensor_shape.dim[0].size = 2
    save = node("save", "SaveV2", "file", "names", "slices", "a", "b")
    meta = meta_graph(node("a", "VariableV2"), node("b", "VarHandleOp"), names, save)
    meta.saver_def.save_tensor_name = "save:0"
    assert read(tmp_path, meta).saved_as == {"a": "\udcff", "b": "\udcff"}


def test_the_oldest_save_op_has_no_slices(tmp_path: Path) -> None:
    """Save's inputs are file, names, tensors; SaveSlices and SaveV2 have one more before them."""
    names = const("names")
    names.attr["value"].tensor.string_val.extend([b"first", b"second"])
    save = node("save", "Save", "file", "names", "a", "b/read", "^a")
    meta = meta_graph(
        node("a", "Variable"), node("b", "Variable"), node("b/read", "Identity", "b"), names, save
    )
    meta.saver_def.save_tensor_name = "save"
    assert read(tmp_path, meta).saved_as == {"a": "first", "b": "second"}


def test_save_and_update_ops_of_no_known_form(tmp_path: Path) -> None:
    """Names that are computed, inputs that are missing, an update that is no product."""
    for inputs in ([], ["file"], ["file", "names"], ["file", "computed", "slices", "v"]):
        meta = meta_graph(
            node("v", "VariableV2"),
            node("computed", "StringJoin"),
            node("save", "SaveV2", *inputs),
            node("step", "AssignSub", "v", "computed"),
        )
        meta.saver_def.save_tensor_name = "save"
        graph = read(tmp_path, meta)
        assert graph.saved_as == {}
        assert graph.momentum == {}


def file(raw: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(raw)


def sparse(path: Path) -> None:
    with path.open("wb") as opened:
        opened.truncate(1 << 31)


WHOLE = meta_graph(node("v", "VariableV2"), variables=[b""]).SerializeToString()
NO_UTF8 = b"\x0a\x03" + b"\x0a\x01\xff"  # a node whose name is no text
ERRORS: dict[str, tuple[Callable[[Path], Any], type[BncheckError], list[str]]] = {
    "nothing": (lambda _: None, NotFoundError, ["no such graph"]),
    "a directory": (os.mkdir, NotACheckpointError, ["is not a regular file"]),
    "a fifo": (os.mkfifo, NotACheckpointError, ["is not a regular file"]),
    "2 GiB": (sparse, UnsupportedError, ["is larger than 2 GiB"]),
    "empty": (file(b""), NotACheckpointError, ["no TensorFlow graph but an empty file"]),
    "text": (file(b"{\n}\n"), NotACheckpointError, ["no TensorFlow graph but a JSON text"]),
    "Git LFS": (
        file(b"version https://git-lfs.github.com/spec/v1\n"),
        NotACheckpointError,
        ["but a Git LFS pointer. Run 'git lfs pull'."],
    ),
    "cut off": (
        file(WHOLE[:-1]),
        DamagedError,
        ["is no TensorFlow graph, or it is cut off", "--no-graph"],
    ),
    "noise": (
        file(bytes(range(255, 0, -1))),
        DamagedError,
        ["is no TensorFlow graph, or it"],
    ),
    "a name that is no text": (
        file(b"\x12" + bytes([len(NO_UTF8)]) + NO_UTF8),
        DamagedError,
        ["is no TensorFlow graph, or it is cut off"],
    ),
    "another message": (
        file(b"\x08\x01\x18\x02"),
        NotACheckpointError,
        ["is a protobuf message, but no SavedModel"],
    ),
    "a variable that is none": (
        file(meta_graph(variables=[b"\x0a\xff"]).SerializeToString()),
        DamagedError,
        ["holds a variable that is no VariableDef"],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(tmp_path: Path, name: str) -> None:
    write, kind, words = ERRORS[name]
    path = tmp_path / "m.meta"
    write(path)
    with pytest.raises(BncheckError) as caught:
        load_graph(str(path))
    assert (type(caught.value), caught.value.path) == (kind, str(path))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_graph_cut_off_anywhere(fixtures: Path, tmp_path: Path) -> None:
    """A shorter message can be a valid one; whatever happens, only our own errors come out."""
    whole = (fixtures / "tf1/healthy/model.ckpt-60.meta").read_bytes()
    path = tmp_path / "m.meta"
    outcomes = {True: 0, False: 0}
    for size in range(0, len(whole), 997):
        path.write_bytes(whole[:size])
        try:
            read_meta_graph(str(path))
        except BncheckError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
    assert outcomes[False] > 10 * outcomes[True]
