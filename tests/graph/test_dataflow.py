"""The walks over hand-made graphs, and the constants in them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from bncheck.graph.dataflow import Dataflow, node_name, output_number, uniform_value
from bncheck.graph.model import strip_output
from bncheck.proto.graphs_pb2 import GraphDef, NodeDef
from bncheck.proto.tensors_pb2 import TensorProto


def const(name: str, *numbers: float) -> NodeDef:
    node = NodeDef(name=name, op="Const")
    tensor = node.attr["value"].tensor
    tensor.dtype = 1
    tensor.float_val.extend(numbers)
    tensor.tensor_shape.dim.add().size = len(numbers)
    return node


def node(name: str, op: str, *inputs: str) -> NodeDef:
    return NodeDef(name=name, op=op, input=inputs)


def flow(*nodes: NodeDef) -> Dataflow:
    return Dataflow(GraphDef(node=nodes))


@pytest.mark.parametrize(
    "tensor, name",
    [("a", "a"), ("a:0", "a"), ("a:12", "a"), ("^a", "a"), ("a/b:1", "a/b"), ("a:x", "a:x")],
)
def test_node_names(tensor: str, name: str) -> None:
    assert node_name(tensor) == name


def test_outputs_are_stripped() -> None:
    assert strip_output("net/gamma:0") == "net/gamma"
    assert strip_output("net/gamma") == "net/gamma"
    assert strip_output("a:b:1") == "a:b"


def test_variables_behind_a_tensor() -> None:
    graph = flow(
        node("v", "VariableV2"),
        node("w", "VarHandleOp"),
        node("v/read", "Identity", "v"),
        node("w/read", "ReadVariableOp", "w", "^v"),
        node("cast", "Cast", "v/read"),
        node("enter", "Enter", "cast:0"),
        node("switch", "Switch", "enter", "w"),
        node("merge", "Merge", "switch:1", "w/read", "^gone"),
        node("sum", "Add", "v/read", "w/read"),
        node("loop", "Identity", "loop"),
    )
    assert graph.variables_behind("merge:0") == {"v", "w"}
    assert graph.variables_behind("switch") == {"v"}
    assert graph.variables_behind("w/read:0") == {"w"}
    assert graph.variables_behind("sum") == set()
    assert graph.variables_behind("loop") == set()
    assert graph.variables_behind("not there") == set()


def test_constants_behind_a_tensor() -> None:
    graph = flow(
        const("one", 1),
        const("decay", 0.75),
        const("mixed", 1, 2),
        node("momentum", "Sub", "one", "decay"),
        node("twice", "Sub", "one", "momentum"),
        node("choice", "Merge", "momentum", "mixed", "one"),
        node("v", "VariableV2"),
        node("half", "Merge", "v", "decay"),
    )
    assert graph.constants_behind("momentum") == {0.25}
    assert graph.constants_behind("choice:0") == {0.25, 1.0}
    assert graph.constants_behind("mixed") == set()
    assert graph.constants_behind("half") == {0.75}
    assert graph.constants_behind("twice") == set()


def test_ancestors_stop_where_they_are_told() -> None:
    graph = flow(
        node("save", "SaveV2", "^deep"),
        node("deep", "NoOp"),
        node("control", "Identity", "file", "^save"),
        node("file", "Const"),
        node("loop", "Merge", "loop", "control:0", "missing"),
    )
    names = {n.name for n in graph.ancestors(["loop"], frozenset(["SaveV2"]))}
    assert names == {"loop", "control", "file", "save"}
    assert {n.name for n in graph.ancestors(["loop"], frozenset())} == {*names, "deep"}


def test_initializers_like_another_tensor() -> None:
    graph = flow(node("z", "ZerosLike", "x"), node("o", "OnesLike", "x"))
    assert graph.initial_value("z:0") == 0.0
    assert graph.initial_value("o") == 1.0


def test_an_initializer_that_feeds_on_itself() -> None:
    """No TensorFlow writes this; a file that somebody made must not end in a RecursionError."""
    graph = flow(const("dims", 3), node("fill", "Fill", "dims", "fill"))
    assert graph.initial_value("fill") is None


def tensor(dtype: int, **fields: Any) -> TensorProto:
    shape = fields.pop("shape", (2,))
    return TensorProto(
        dtype=dtype, tensor_shape={"dim": [{"size": size} for size in shape]}, **fields
    )


UNIFORM: dict[str, tuple[TensorProto, float | None]] = {
    "one number for all": (tensor(1, float_val=[0.5]), 0.5),
    "a number each": (tensor(1, float_val=[0.5, 0.5]), 0.5),
    "two numbers": (tensor(1, float_val=[0.5, 1]), None),
    "raw": (tensor(1, tensor_content=struct.pack("<2f", 3, 3)), 3.0),
    "raw, two numbers": (tensor(1, tensor_content=struct.pack("<2f", 3, 4)), None),
    "raw, half a number": (tensor(1, tensor_content=bytes(7)), None),
    "double": (tensor(2, double_val=[0.1]), 0.1),
    "half": (tensor(19, half_val=[0x3C00]), 1.0),
    "bfloat16": (tensor(14, half_val=[0x3FC0]), 1.5),
    "raw bfloat16": (tensor(14, tensor_content=bytes.fromhex("c03fc03f")), 1.5),
    "nothing is zero": (tensor(1), 0.0),
    "nothing of nothing": (tensor(1, shape=(0,)), None),
    "scalar": (tensor(1, shape=(), float_val=[2]), 2.0),
    "infinite": (tensor(1, float_val=[np.inf]), np.inf),
    "not a number": (tensor(1, float_val=[np.nan]), None),
    "int32": (tensor(3, int_val=[1]), None),
    "string": (tensor(7, string_val=[b"1"]), None),
    "float8": (tensor(24, half_val=[1]), None),
    "type of the future": (tensor(77, float_val=[1]), None),
}


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_values(name: str) -> None:
    message, expected = UNIFORM[name]
    assert uniform_value(message) == expected


@pytest.mark.parametrize(
    ("tensor", "number"),
    [("a", 0), ("a:1", 1), ("a:b:12", 12), ("a:", 0), ("a:²", 0), ("a:" + "9" * 5000, 0)],
)
def test_the_number_of_an_output(tensor: str, number: int) -> None:
    assert output_number(tensor) == number
