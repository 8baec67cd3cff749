"""Graphs that are given as a file: a GraphDef, a MetaGraphDef, a SavedModel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.audit import Options
from bncheck.graph.graph_def import read_graph_file
from fuzz.audit import audit
from fuzz.seeds import contents, small_meta_graph, write_checkpoint
from fuzz.target import Depth, Target
from fuzz.watch import preparing
from fuzz.wire import mutate_message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read_graph(data: bytes, directory: Path, depth: Depth) -> None:
    """Read a file as a graph, then audit a checkpoint of its variables with it."""
    path = directory / "graph"
    with preparing():
        path.write_bytes(data)
    graph = read_graph_file(str(path))
    if depth is Depth.READ:
        return
    with preparing():
        write_checkpoint(directory / "model.ckpt-60", graph.variables)
    audit(directory / "model.ckpt-60", depth, Options(graph=str(path)))


def _seeds() -> Iterator[bytes]:
    yield small_meta_graph().graph_def.SerializeToString()
    yield from contents("tf1/serving-*/*.pb", "tf1/*/*.pb", most=30)


TARGET = Target("graph_file", read_graph, _seeds, mutate_message)
