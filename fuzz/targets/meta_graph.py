"""A Saver's graph beside its checkpoint: PREFIX.meta, a MetaGraphDef."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.graph.meta_graph import read_meta_graph
from fuzz.audit import audit
from fuzz.seeds import contents, small_meta_graph, write_checkpoint
from fuzz.target import Depth, Target
from fuzz.watch import preparing
from fuzz.wire import mutate_message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    prefix = directory / "model.ckpt-60"
    path = directory / "model.ckpt-60.meta"
    with preparing():
        path.write_bytes(data)
    graph = read_meta_graph(str(path))
    if depth is Depth.READ:
        return
    with preparing():
        write_checkpoint(prefix, graph.variables)
    audit(prefix, depth)


def _seeds() -> Iterator[bytes]:
    yield small_meta_graph().SerializeToString()
    yield from contents("tf1/*/*.meta", most=24, longest=1 << 15)


TARGET = Target("meta_graph", _read, _seeds, mutate_message)
