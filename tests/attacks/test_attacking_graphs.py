"""Programs made to harm: graphs that go in circles, double at each call, or nest without end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bncheck.proto.graphs_pb2 import MetaGraphDef, SavedModel
from tests.attacks.attack import Attack, Make, run
from tests.attacks.test_attacking_slices import groups, nested
from tests.commands import FIXTURES
from tests.writers.tensor_slices import field

HEALTHY = FIXTURES / "tf1/healthy"
SAVED_MODEL = FIXTURES / "tf2/object-based-saved-model/model"
META = "model.ckpt-60.meta"

Change = Callable[[MetaGraphDef], None]


def meta(change: Change) -> Make:
    """Copy a healthy checkpoint and change its graph."""

    def edit(data: bytes) -> bytes:
        message = MetaGraphDef.FromString(data)
        change(message)
        return message.SerializeToString()

    return stored(HEALTHY, META, edit)


def saved_model(change: Callable[[SavedModel], None]) -> Make:
    def edit(data: bytes) -> bytes:
        message = SavedModel.FromString(data)
        change(message)
        return message.SerializeToString()

    return stored(SAVED_MODEL, "saved_model.pb", edit)


def stored(source: Path, name: str, edit: Callable[[bytes], bytes]) -> Make:
    def make(folder: Path) -> Path:
        place = folder / "m"
        shutil.copytree(source, place)
        (place / name).write_bytes(edit((place / name).read_bytes()))
        return place

    return make


def written(name: str, data: bytes) -> Make:
    """Copy a healthy checkpoint without its graph and write another one beside it."""

    def make(folder: Path) -> Path:
        place = folder / "m"
        shutil.copytree(HEALTHY, place)
        (place / META).unlink()
        (place / name).write_bytes(data)
        return place

    return make


def doubling(message: MetaGraphDef) -> None:
    """Let each of 60 functions call the next one twice, as in the billion laughs."""
    library = message.graph_def.library
    for level in range(60):
        function = library.function.add()
        function.signature.name = f"f{level}"
        for number in range(2):
            node = function.node_def.add(name=f"n{number}", op="PartitionedCall")
            node.attr["f"].func.name = f"f{level + 1}"
    node = message.graph_def.node.add(name="laugh", op="PartitionedCall")
    node.attr["f"].func.name = "f0"


def recursive(message: MetaGraphDef) -> None:
    function = message.graph_def.library.function.add()
    function.signature.name = "f"
    for number in range(1000):
        node = function.node_def.add(name=f"n{number}", op="PartitionedCall")
        node.attr["f"].func.name = "f"
    node = message.graph_def.node.add(name="laugh", op="PartitionedCall")
    node.attr["f"].func.name = "f"


def long_names(message: MetaGraphDef) -> None:
    """Let calls nest 64 deep, each with a name of 50,000 characters."""
    library = message.graph_def.library
    for level in range(64):
        function = library.function.add()
        function.signature.name = f"f{level}"
        for number in range(100):
            node = function.node_def.add(name="n" * 50_000 + str(number), op="PartitionedCall")
            node.attr["f"].func.name = f"f{level + 1}"
    node = message.graph_def.node.add(name="laugh", op="PartitionedCall")
    node.attr["f"].func.name = "f0"


def conditions(message: MetaGraphDef) -> None:
    """Let each side of a condition be a condition again."""
    library = message.graph_def.library
    for level in range(60):
        function = library.function.add()
        function.signature.name = f"f{level}"
        node = function.node_def.add(name="n", op="If", input=["p"])
        node.attr["then_branch"].func.name = node.attr["else_branch"].func.name = f"f{level + 1}"
    node = message.graph_def.node.add(name="if", op="If", input=["is_training"])
    node.attr["then_branch"].func.name = node.attr["else_branch"].func.name = "f0"


def circle(message: MetaGraphDef) -> None:
    """Let nodes feed each other, and each of them itself, by data and by waiting."""
    for number in range(1000):
        after = f"c{(number + 1) % 1000}"
        message.graph_def.node.add(
            name=f"c{number}", op="Mul", input=[after, f"c{number}", f"^{after}"]
        )
    message.graph_def.node.add(name="a", op="AssignSub", input=["net/bn/moving_mean", "c0"])


def chain(op: str) -> Change:
    """Add 100,000 nodes in a row, at whose end an average is updated."""

    def change(message: MetaGraphDef) -> None:
        means = [n.name for n in message.graph_def.node if n.name.endswith("/moving_mean")]
        previous = "start"
        message.graph_def.node.add(name=previous, op="Placeholder")
        for number in range(100_000):
            message.graph_def.node.add(name=f"c{number}", op=op, input=[previous, previous])
            previous = f"c{number}"
        for number, mean in enumerate(means):
            message.graph_def.node.add(name=f"a{number}", op="AssignSub", input=[mean, previous])
            message.graph_def.node.add(
                name=f"b{number}", op="FusedBatchNormV3", input=["start", mean, mean, previous]
            )

    return change


def diamonds(op: str) -> Change:
    """Add 200 nodes, each of which takes the one before twice: 2**200 ways through them."""

    def change(message: MetaGraphDef) -> None:
        for number in range(200):
            previous = f"d{number - 1}" if number else "net/bn/moving_mean"
            message.graph_def.node.add(name=f"d{number}", op=op, input=[previous, previous])
        message.graph_def.node.add(name="u", op="AssignSub", input=["net/bn/moving_mean", "d199"])
        message.graph_def.node.add(name="m", op="Merge", input=["d199", "d199"])
        message.graph_def.node.add(
            name="b", op="FusedBatchNorm", input=["d199", "d199", "d199", "d199", "d199"]
        )

    return change


def many_inputs(message: MetaGraphDef) -> None:
    message.graph_def.node.add(name="wide", op="NoOp", input=["^wide"] * 500_000)


def same_names(message: MetaGraphDef) -> None:
    for _ in range(100_000):
        message.graph_def.node.add(name="", op="AssignSub", input=["", ":", "^", "^^", ":0:1"])


def garbage_variables(message: MetaGraphDef) -> None:
    message.collection_def["variables"].bytes_list.value.append(b"\xff" * 100)


def nodes_as_variables(message: MetaGraphDef) -> None:
    message.collection_def["variables"].node_list.value.append("x")


def many_variables(message: MetaGraphDef) -> None:
    values = message.collection_def["variables"].bytes_list.value
    values.extend([values[0]] * 200_000)


def object_circle(model: SavedModel) -> None:
    """Let every object be the child of every object, of none, and of one far away."""
    nodes = model.meta_graphs[0].object_graph_def.nodes
    for node in nodes:
        for number in (*range(len(nodes)), -1, 2**31 - 1, -(2**31)):
            node.children.add(node_id=number, local_name=f"x{number}")


def bound_to_nothing(model: SavedModel) -> None:
    functions = model.meta_graphs[0].object_graph_def.concrete_functions
    for function in functions.values():
        function.bound_inputs.extend([-1, 2**31 - 1] * 1000)


def many_meta_graphs(model: SavedModel) -> None:
    for _ in range(1000):
        model.meta_graphs.add()


def no_meta_graphs(model: SavedModel) -> None:
    del model.meta_graphs[:]


def given(data: bytes, *words: str, code: int = 0) -> Attack:
    """Give a file as the graph."""

    def make(folder: Path) -> Path:
        (folder / "g").write_bytes(data)
        return HEALTHY

    return Attack(make, words, code, ("--graph", "../attack/g"))


def hole(folder: Path) -> Path:
    (folder / "g").touch()
    os.truncate(folder / "g", 1 << 40)
    return HEALTHY


def nested_text(depth: int) -> bytes:
    return b"node { attr { value { " + b"list { " * depth + b"} " * depth + b"} } }"


ATTACKS = {
    "no harm": Attack(meta(lambda _: None), ("PASS",), code=0),
    "a SavedModel without harm": Attack(saved_model(lambda _: None), ("PASS",), code=0),
    # Ways that lead nowhere change nothing of the rest.
    "functions that double": Attack(meta(doubling), ("PASS",), code=0),
    "functions that call themselves": Attack(meta(recursive), ("PASS",), code=0),
    "functions of long names": Attack(meta(long_names), ("PASS",), code=0),
    "conditions that double": Attack(meta(conditions), ("PASS",), code=0),
    "nodes in a circle": Attack(meta(circle), ("PASS",), code=0),
    "a row of Mul": Attack(meta(chain("Mul")), ("PASS",), code=0),
    "a row of Identity": Attack(meta(chain("Identity")), ("PASS",), code=0),
    "a row of AddV2": Attack(meta(chain("AddV2")), ("PASS",), code=0),
    "a row of Switch": Attack(meta(chain("Switch")), ("PASS",), code=0),
    "a row of LogicalAnd": Attack(meta(chain("LogicalAnd")), ("PASS",), code=0),
    "a row of AssignSub": Attack(meta(chain("AssignSub")), ("PASS",), code=0),
    "diamonds of Mul": Attack(meta(diamonds("Mul")), ("PASS",), code=0),
    "diamonds of Merge": Attack(meta(diamonds("Merge")), ("PASS",), code=0),
    "diamonds of Sub": Attack(meta(diamonds("Sub")), ("PASS",), code=0),
    "500,000 inputs": Attack(meta(many_inputs), ("PASS",), code=0),
    "100,000 nodes of no name": Attack(meta(same_names), ("PASS",), code=0),
    "a variable that is none": Attack(meta(garbage_variables), ("--no-graph",)),
    "nodes for variables": Attack(meta(nodes_as_variables), ("1 variables",), code=0),
    "a variable 200,000 times": Attack(meta(many_variables), code=0),
    "messages in messages": Attack(written(META, nested(20_000)), ("--no-graph",)),
    "nodes in nodes": Attack(
        written(META, field(2, field(1, nested(20_000)))), ("graph ", "0 variables"), code=0
    ),
    "a million groups": Attack(written(META, groups(1_000_000)), ("--no-graph",)),
    "an empty graph": Attack(written(META, b""), ("--no-graph",)),
    "a text of a million messages": Attack(written("graph.pbtxt", nested_text(1_000_000))),
    "a text of a million braces": Attack(written("graph.pbtxt", b"node { " * 1_000_000)),
    "a text of one string": Attack(written("graph.pbtxt", b'node { name: "' + b"\\" * 1_000_000)),
    "a text of quotes": Attack(written("graph.pbtxt", b"node { '\"" * 100_000)),
    "objects in a circle": Attack(saved_model(object_circle), ("PASS",), code=0),
    "functions bound to nothing": Attack(saved_model(bound_to_nothing), ("PASS",), code=0),
    "1000 MetaGraphs": Attack(saved_model(many_meta_graphs)),
    "no MetaGraph": Attack(saved_model(no_meta_graphs)),
    "a name of 1 MB": given(b"n" * 1_000_000),
    "30,000 names": given(
        b"".join(b"net/x_%d/gamma [8] float32\n" % n for n in range(30_000)), "30000 variables"
    ),
    "a shape without end": given(b"x [" + b"1," * 30_000 + b"1] float32\n"),
    "a list of brackets": given(b"x " + b"[(" * 30_000 + b"\n", "line 1", code=3),
    "a file of 1 TiB as the graph": Attack(hole, ("2 GiB",), arguments=("--graph", "../attack/g")),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(tmp_path: Path, name: str) -> None:
    run(ATTACKS[name], tmp_path)
