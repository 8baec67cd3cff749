"""What a graph's save ops write: the names, the slices and the tensors of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bncheck.graph.dataflow import SAVE_OPS

if TYPE_CHECKING:
    from bncheck.graph.dataflow import Dataflow
    from bncheck.graph.inline import Node
    from bncheck.proto.graphs_pb2 import GraphDef, NodeDef


class Saved(NamedTuple):
    """One tensor that a save op writes: its name in the checkpoint, and what it is a slice of.

    `slice` is the full shape and the slice as TensorFlow spells them (`10 4 0,5:0,4`,
    tensorflow/core/ops/io_ops.cc), and empty for a whole tensor.
    """

    name: str
    slice: str
    tensor: str

    @property
    def full_shape(self) -> tuple[int, ...] | None:
        """The shape of the tensor that this is a slice of; None where it is none."""
        *sizes, _ = self.slice.split(" ")
        return tuple(map(int, sizes)) if sizes and all(map(str.isdecimal, sizes)) else None


def saved_by(flow: Dataflow, node: Node | NodeDef) -> list[Saved]:
    """Return what one save op writes; its inputs are the file, names, (slices,) tensors.

    Nothing where the names are computed.
    """
    if len(node.input) < 2:
        return []
    first = 2 if node.op == "Save" else 3
    tensors = [tensor for tensor in node.input if not tensor.startswith("^")][first:]
    names = _strings(flow, node.input[1], len(tensors))
    slices = _strings(flow, node.input[2], len(tensors)) if first == 3 and tensors else []
    return [
        Saved(name, slices[position] if slices else "", tensor)
        for position, (name, tensor) in enumerate(zip(names, tensors, strict=False))
    ]


def only_saver(graph: GraphDef) -> list[str]:
    """Return the names of the save ops of a graph's saver; nothing where it has several, or none.

    A Saver makes its ops under one scope: one op, or one for each shard or device.
    """
    names = [node.name for node in graph.node if node.op in SAVE_OPS]
    scopes = {name.rpartition("/")[0] for name in names}
    return names if len(scopes) == 1 else []


def _strings(flow: Dataflow, tensor: str, count: int) -> list[str]:
    """Return `count` elements of a string constant; a shorter list repeats its last one."""
    constant = flow.node(tensor)
    if constant is None or constant.op != "Const":
        return []
    strings = list(constant.attr["value"].tensor.string_val)
    strings = (strings + strings[-1:] * (count - len(strings)))[:count]
    return [each.decode("utf-8", "surrogateescape") for each in strings]
