"""Writes object-based checkpoints: a bundle, and the object graph that says what its keys are.

Source: tensorflow/core/protobuf/trackable_object_graph.proto, and the paths of
tensorflow/python/checkpoint/graph_view.py: breadth first, so that a key is a shortest path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bncheck.proto.objects_pb2 import TrackableObjectGraph

from .bundle import write_bundle

if TYPE_CHECKING:
    from pathlib import Path

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


@dataclass(eq=False)
class Var:
    """A variable: its value, and the name that the program gave it."""

    value: Any
    full_name: str = ""


@dataclass(eq=False)
class Obj:
    """An object: what hangs on it by attribute, and for an optimizer its slots.

    A slot is (variable, the slot's name, the slot's variable).
    """

    children: dict[str, Obj | Var] = field(default_factory=dict)
    slots: list[tuple[Var, str, Var]] = field(default_factory=list)


def listed(*items: Obj | Var) -> Obj:
    """Return a list as TensorFlow tracks it: an object whose attributes are numbers."""
    return Obj({str(number): item for number, item in enumerate(items)})


def normalization(scope: str, *, trained: bool = True, size: int = 3) -> Obj:
    """Return a batch norm's object; its variables' full names are in the scope."""
    ramp = np.linspace(0.5, 1.5, size, dtype=np.float32)
    mean, variance = (ramp - 0.2, ramp) if trained else (ramp * 0, ramp * 0 + 1)
    values = {"gamma": ramp, "beta": ramp - 1, "moving_mean": mean, "moving_variance": variance}
    prefix = f"{scope}/" if scope else ""
    return Obj({role: Var(value, prefix + role) for role, value in values.items()})


def escaped(name: str) -> str:
    """Return a name as it stands in a key."""
    return name.replace(".", "..").replace("/", ".S")


def build(root: Obj) -> tuple[TrackableObjectGraph, dict[str, Any]]:
    """Return the object graph of a root, and the tensors by their keys."""
    numbers: dict[int, int] = {id(root): 0}
    order: list[tuple[Obj | Var, str]] = [(root, "")]
    for thing, path in order:  # grows while it is walked
        for name, child in thing.children.items() if isinstance(thing, Obj) else ():
            if id(child) not in numbers:
                numbers[id(child)] = len(order)
                order.append((child, f"{path}/{escaped(name)}" if path else escaped(name)))
    for thing, path in list(order):
        for owner, name, slot in thing.slots if isinstance(thing, Obj) else ():
            home = next(where for what, where in order if what is owner)
            numbers[id(slot)] = len(order)
            order.append((slot, f"{home}/.OPTIMIZER_SLOT/{path}/{name}"))
    graph = TrackableObjectGraph()
    tensors: dict[str, Any] = {}
    for thing, path in order:
        node = graph.nodes.add()
        if isinstance(thing, Var):
            key = path + VALUE
            tensors[key] = thing.value
            node.attributes.add(
                name="VARIABLE_VALUE", full_name=thing.full_name, checkpoint_key=key
            )
            continue
        for name, child in thing.children.items():
            node.children.add(node_id=numbers[id(child)], local_name=name)
        for owner, name, slot in thing.slots:
            node.slot_variables.add(
                original_variable_node_id=numbers[id(owner)],
                slot_name=name,
                slot_variable_node_id=numbers[id(slot)],
            )
    return graph, tensors


def write_objects(prefix: Path | str, root: Obj, **options: Any) -> str:
    """Write a root as tf.train.Checkpoint does, and return its prefix; options are the bundle's."""
    graph, tensors = build(root)
    tensors[OBJECT_GRAPH] = np.array(graph.SerializeToString(), object)
    write_bundle(prefix, tensors, **options)
    return str(prefix)
