"""Programs to Graph: what a program expects of a checkpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bncheck.errors import NotFoundError
from bncheck.graph.meta_graph import read_meta_graph

if TYPE_CHECKING:
    from bncheck.graph.model import Graph


def load_graph(path: str) -> Graph:
    """Load the graph at a path: a `.meta` file, or the prefix of one.

    Raises BncheckError where there is none, or it is damaged.
    """
    if os.path.isfile(path + ".meta"):  # of a V1 checkpoint the prefix is a file, too
        path += ".meta"
    if not os.path.exists(path):
        raise NotFoundError(path or "''", "no such graph")
    return read_meta_graph(path)


def graph_beside(prefix: str) -> Graph | None:
    """Load the graph that a Saver left beside a checkpoint, None where there is none."""
    path = prefix + ".meta"
    # A broken link is no absent graph: what cannot be read is said.
    return read_meta_graph(path) if os.path.lexists(path) else None
