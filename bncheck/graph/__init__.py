"""Programs to Graph: what a program expects of a checkpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bncheck import limits
from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.location import SAVED_MODEL, Kind, glob_files
from bncheck.errors import NotACheckpointError, NotFoundError
from bncheck.graph.graph_def import read_graph_file
from bncheck.graph.meta_graph import read_meta_graph
from bncheck.graph.python_module import is_program, run_program

if TYPE_CHECKING:
    from bncheck.checkpoint.location import Location
    from bncheck.checkpoint.model import Checkpoint
    from bncheck.graph.model import Graph

ESTIMATOR_GRAPH = "graph.pbtxt"
"""What tf.estimator, and tf.train.Supervisor, call the graph of the program in its directory."""


def load_graph(path: str) -> Graph:
    """Load the graph that a path means.

    A prefix means its `.meta`. A file is a MetaGraphDef, a GraphDef, a SavedModel, a checkpoint or
    a list of names, which its content tells; a directory is a SavedModel, or has a checkpoint or an
    Estimator's graph in it. `package.module:function` is a program, which is run.

    Raises BncheckError where there is none, or it is damaged.
    """
    if os.path.isfile(path + ".meta"):  # of a V1 checkpoint the prefix is a file, too
        return read_graph_file(path + ".meta")
    if is_program(path) and not os.path.lexists(path) and not glob_files(path, ".*"):
        return run_program(path)
    if path.endswith(".meta") or (os.path.basename(path) in SAVED_MODEL and os.path.isfile(path)):
        # Among a checkpoint's files these would mean the checkpoint; here they are what they hold.
        if not os.path.lexists(path):
            raise NotFoundError(path, "no such graph")
        return read_graph_file(path)
    found = _found(path)
    return read_graph_file(found) if isinstance(found, str) else _of_location(found)


def _found(path: str) -> Location | str:
    """Return the SavedModel or checkpoint at a path, else the file there that may be a graph."""
    try:
        return locate(path)
    except NotACheckpointError:
        if os.path.isfile(path):
            return path
        raise
    except NotFoundError:
        alone = os.path.join(path, ESTIMATOR_GRAPH)
        if os.path.isfile(alone):
            return alone
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

    That is PREFIX.meta of a Saver, `graph.pbtxt` of the Estimator whose directory it is (nobody
    asked for it, so a text that takes long to read is left alone), or the SavedModel that the
    variables belong to.
    """
    if location.kind is Kind.SAVED_MODEL:
        from bncheck.graph.saved_model import read_saved_model

        return read_saved_model(location.prefix)
    path = location.prefix + ".meta"
    # A broken link is no absent graph: what cannot be read is said.
    if os.path.lexists(path):
        return read_meta_graph(path)
    path = os.path.join(os.path.dirname(location.prefix), ESTIMATOR_GRAPH)
    if os.path.isfile(path) and os.path.getsize(path) <= limits.LARGEST_TEXT_UNASKED:
        return read_graph_file(path)
    return None
