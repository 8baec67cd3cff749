"""Programs to Graph: what a program expects of a checkpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.location import Kind
from bncheck.errors import NotACheckpointError, NotFoundError
from bncheck.graph.meta_graph import read_meta_graph

if TYPE_CHECKING:
    from bncheck.checkpoint.location import Location
    from bncheck.checkpoint.model import Checkpoint
    from bncheck.graph.model import Graph


def load_graph(path: str) -> Graph:
    """Load the graph at a path: a `.meta` file or its prefix, a SavedModel, another checkpoint.

    Raises BncheckError where there is none, or it is damaged.
    """
    if os.path.isfile(path + ".meta"):  # of a V1 checkpoint the prefix is a file, too
        path += ".meta"
    elif not path.endswith(".meta"):
        location = _located(path)
        if location is not None:
            return _of_location(location)
    if not os.path.exists(path):
        raise NotFoundError(path or "''", "no such graph")
    return read_meta_graph(path)


def _located(path: str) -> Location | None:
    """Return the SavedModel or checkpoint at a path, None where it is a single file of no such."""
    try:
        return locate(path)
    except NotACheckpointError:
        if os.path.isfile(path):
            return None
        raise


def _of_location(location: Location) -> Graph:
    if location.kind is Kind.SAVED_MODEL:
        from bncheck.graph.saved_model import read_saved_model

        return read_saved_model(location.prefix)
    from bncheck.checkpoint import open_location

    return graph_of_checkpoint(open_location(location))


def graph_of_checkpoint(checkpoint: Checkpoint) -> Graph:
    """Return a checkpoint as the graph of another: its variables, without slots and counters."""
    from bncheck.graph.model import Graph, GraphVariable

    structure = checkpoint.structure
    apart = structure.slots.keys() | structure.counters | structure.copies
    variables = {
        key: GraphVariable(key, variable.dtype, variable.shape)
        for key, variable in checkpoint.variables.items()
        if key not in apart
    }
    return Graph(
        source=checkpoint.path,
        kind="checkpoint",
        variables=variables,
        collections={"variables": tuple(variables)},
        structure=structure,
    )


def graph_beside(location: Location) -> Graph | None:
    """Load the graph that was left beside a checkpoint, None where there is none.

    That is PREFIX.meta of a Saver, or the SavedModel that the variables belong to.
    """
    if location.kind is Kind.SAVED_MODEL:
        from bncheck.graph.saved_model import read_saved_model

        return read_saved_model(location.prefix)
    path = location.prefix + ".meta"
    # A broken link is no absent graph: what cannot be read is said.
    return read_meta_graph(path) if os.path.lexists(path) else None
