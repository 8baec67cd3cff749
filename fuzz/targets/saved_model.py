"""SavedModels: saved_model.pb beside its variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.graph.saved_model import read_saved_model
from bncheck.proto.graphs_pb2 import SavedModel
from fuzz.audit import audit
from fuzz.seeds import contents, small_meta_graph, write_checkpoint
from fuzz.target import Depth, Target
from fuzz.watch import preparing
from fuzz.wire import mutate_message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    with preparing():
        (directory / "saved_model.pb").write_bytes(data)
        (directory / "variables").mkdir(exist_ok=True)
    graph = read_saved_model(str(directory))
    if depth is Depth.READ:
        return
    with preparing():
        write_checkpoint(directory / "variables/variables", graph.variables)
    audit(directory, depth)


def _seeds() -> Iterator[bytes]:
    meta = small_meta_graph()
    yield SavedModel(saved_model_schema_version=1, meta_graphs=[meta]).SerializeToString()
    yield from contents("tf1/*/model/saved_model.pb", most=12, longest=1 << 15)
    yield from contents("keras*/*/*/saved_model.pb", most=6, longest=1 << 16)


TARGET = Target("saved_model", _read, _seeds, mutate_message, longest=1 << 17)
