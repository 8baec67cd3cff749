"""Object graphs made to harm: circles, ways without end, and nodes that are not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.proto.objects_pb2 import TrackableObjectGraph
from tests.attacks.attack import Attack, Make, run
from tests.attacks.test_attacking_slices import groups, nested
from tests.writers import write_bundle
from tests.writers.objects import OBJECT_GRAPH, Obj, build, normalization
from tests.writers.tensor_slices import field

Change = Callable[[TrackableObjectGraph], None]


def written(edit: Callable[[bytes], bytes]) -> Make:
    """Write a batch normalization as objects, and its graph changed."""

    def make(folder: Path) -> Path:
        graph, tensors = build(Obj({"model": Obj({"bn": normalization("model/bn")})}))
        tensors[OBJECT_GRAPH] = np.array(edit(graph.SerializeToString()), object)
        write_bundle(folder / "model.ckpt-1", tensors)
        return folder / "model.ckpt-1"

    return make


def changed(change: Change) -> Make:
    def edit(data: bytes) -> bytes:
        graph = TrackableObjectGraph.FromString(data)
        change(graph)
        return graph.SerializeToString()

    return written(edit)


def everything_in_everything(graph: TrackableObjectGraph) -> None:
    for _ in range(300):
        graph.nodes.add()
    for node in graph.nodes:
        for number in range(len(graph.nodes)):
            node.children.add(node_id=number, local_name=f"x{number}")


def a_chain(graph: TrackableObjectGraph) -> None:
    """Let 100,000 objects hang on each other, the last one on the first."""
    start = len(graph.nodes)
    for number in range(100_000):
        following = start + number + 1 if number < 99_999 else 0
        graph.nodes.add().children.add(node_id=following, local_name="next")
    graph.nodes[0].children.add(node_id=start, local_name="chain")


def diamonds(graph: TrackableObjectGraph) -> None:
    """Let each of 1000 objects have the next one twice: 2**1000 ways to the last."""
    start = len(graph.nodes)
    for number in range(1000):
        node = graph.nodes.add()
        for name in ("a", "b"):
            node.children.add(node_id=start + (number + 1) % 1000, local_name=name)
    graph.nodes[0].children.add(node_id=start, local_name="diamonds")


def nowhere(graph: TrackableObjectGraph) -> None:
    for node in graph.nodes:
        for number in (-1, -(2**31), 2**31 - 1, len(graph.nodes)):
            node.children.add(node_id=number, local_name=f"n{number}")
            node.slot_variables.add(
                original_variable_node_id=number, slot_name="m", slot_variable_node_id=number
            )


def many_children(graph: TrackableObjectGraph) -> None:
    for number in range(300_000):
        graph.nodes[0].children.add(node_id=1, local_name=f"c{number}")


def long_attributes(graph: TrackableObjectGraph) -> None:
    """Let 100 objects hang on each other by names of 10,000 characters."""
    start = len(graph.nodes)
    for number in range(100):
        node = graph.nodes.add()
        node.children.add(node_id=start + number + 1, local_name="n" * 10_000)
        node.attributes.add(name="VARIABLE_VALUE", full_name="f" * 10_000, checkpoint_key="none")
    graph.nodes.add()
    graph.nodes[0].children.add(node_id=start, local_name="long")


def many_attributes(graph: TrackableObjectGraph) -> None:
    variable = next(node for node in graph.nodes if node.attributes)
    for _ in range(200_000):
        variable.attributes.add().CopyFrom(variable.attributes[0])


def many_slots(graph: TrackableObjectGraph) -> None:
    for _ in range(200_000):
        graph.nodes[0].slot_variables.add(
            original_variable_node_id=2, slot_name="m", slot_variable_node_id=3
        )


def the_same_key(graph: TrackableObjectGraph) -> None:
    """Let all variables be the mean."""
    keys = [a for node in graph.nodes for a in node.attributes]
    mean = next(a.checkpoint_key for a in keys if "moving_mean" in a.checkpoint_key)
    for attribute in keys:
        attribute.checkpoint_key = mean


def no_nodes(graph: TrackableObjectGraph) -> None:
    del graph.nodes[:]


def many_objects(graph: TrackableObjectGraph) -> None:
    for _ in range(500_000):
        graph.nodes.add()


def another_value(value: Any) -> Make:
    def make(folder: Path) -> Path:
        path = Path(written(lambda data: data)(folder))
        _, tensors = build(Obj({"model": Obj({"bn": normalization("model/bn")})}))
        write_bundle(path, tensors | {OBJECT_GRAPH: value})
        return path

    return make


PASSES = (everything_in_everything, a_chain, diamonds, nowhere, many_children, long_attributes)
ATTACKS = {
    "no harm": Attack(written(lambda data: data), ("PASS",), code=0),
    **{each.__name__: Attack(changed(each), ("model/bn",), code=0) for each in PASSES},
    "many_attributes": Attack(changed(many_attributes), ("model/bn",), code=0),
    "many_slots": Attack(changed(many_slots), ("1 optimizer slot",), code=0),
    "many_objects": Attack(changed(many_objects), ("model/bn",), code=0),
    "the_same_key": Attack(changed(the_same_key), code=1),
    "no_nodes": Attack(changed(no_nodes), (OBJECT_GRAPH,)),
    "no message": Attack(written(lambda _: b"\xff" * 100), (OBJECT_GRAPH,)),
    "messages in messages": Attack(written(lambda _: nested(20_000)), (OBJECT_GRAPH,)),
    "nodes in nodes": Attack(written(lambda _: field(1, nested(20_000))), (OBJECT_GRAPH,)),
    "a million groups": Attack(written(lambda _: groups(1_000_000)), (OBJECT_GRAPH,)),
    "a list of graphs": Attack(another_value(np.array([b"", b""], object)), (OBJECT_GRAPH,)),
    "a number as the graph": Attack(another_value(np.ones(3)), (OBJECT_GRAPH,)),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(tmp_path: Path, name: str) -> None:
    run(ATTACKS[name], tmp_path)
