"""Object graphs of tf.train.Checkpoint: a TrackableObjectGraph, beside the variables it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.object_graph import OBJECT_GRAPH, load_objects
from bncheck.proto.objects_pb2 import TrackableObjectGraph
from fuzz.audit import audit
from fuzz.seeds import small, write_checkpoint
from fuzz.target import Target
from fuzz.watch import preparing
from fuzz.wire import mutate_message
from tests.writers.bundle import raw_tensor
from tests.writers.objects import Obj, Var, build, listed, normalization

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fuzz.target import Depth


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    keys = []
    try:
        for node in TrackableObjectGraph.FromString(data).nodes:
            keys += [each.checkpoint_key for each in node.attributes]
    except DecodeError:
        keys.append("model/bn/gamma/.ATTRIBUTES/VARIABLE_VALUE")
    graph = raw_tensor(np.array(data, object), 7, "little")
    with preparing():
        write_checkpoint(directory / "ckpt-1", keys, **{OBJECT_GRAPH: graph})
    audit(directory / "ckpt-1", depth)


def _seeds() -> Iterator[bytes]:
    ramp = np.linspace(0.5, 1.5, 3, dtype=np.float32)
    bn, gamma = normalization("bn"), Var(ramp, "bn/gamma")
    bn.children["gamma"] = gamma
    optimizer = Obj({"iter": Var(np.int64(7), "iter")}, [(gamma, "m", Var(ramp, "bn/gamma/m"))])
    layers = listed(bn, normalization("", trained=False), Obj({"kernel": Var(ramp, "kernel")}))
    graph, _ = build(Obj({"model": Obj({"layers": layers}), "optimizer": optimizer}))
    yield graph.SerializeToString()
    for path in small("*/*/checkpoint/*.index", "tf2/*/*.index", most=24, longest=8192):
        bundle = open_checkpoint(str(path))
        if OBJECT_GRAPH in bundle.variables:
            # What holds an object graph is a bundle, which its opener's type does not say.
            encoded = load_objects(bundle).SerializeToString()  # type: ignore[arg-type]
            if len(encoded) < 1 << 13:
                yield encoded


TARGET = Target("object_graph", _read, _seeds, mutate_message)
