"""`bncheck verify`: every byte of a checkpoint accounted for, whatever it belongs to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.location import SAVED_MODEL, Kind, variables_prefix
from bncheck.checkpoint.unchanged import unchanged
from bncheck.errors import BncheckError
from bncheck.report.verify_model import Found, Problem, Verification, VerifiedFile, Weight
from bncheck.verifying.state import check_state

if TYPE_CHECKING:
    from bncheck.checkpoint.location import Location
    from bncheck.verifying.spans import Advance, Started


def verify(path: str | os.PathLike[str], started: Started | None = None) -> Verification:
    """Verify the checkpoint at a path: all checksums, all files, nothing missing, nothing over.

    `started` is called with the number of bytes that will be read, and returns what is called with
    each number that is done. Raises BncheckError where there is no checkpoint; whatever is wrong
    with one that is there is a problem in the result.
    """
    location = locate(os.fspath(path))
    with unchanged():
        found = _verify(location, started or _silent)
        problems, files = [*found.problems], [*found.files]
        for graph in _graphs(location):
            problem, file = _check_graph(graph)
            problems += problem
            files += file
    problems += check_state(location)
    problems.sort(key=lambda each: (-each.weight, each.path, each.offset or 0))
    return Verification(
        location.prefix,
        found.form or _FORMS[location.kind],
        found.tensors,
        tuple(files),
        tuple(problems),
        location.remarks,
    )


def _silent(_: int) -> Advance:
    return lambda _: None


_FORMS: Final = {
    Kind.BUNDLE: "tensor-bundle",
    Kind.SAVED_MODEL: "saved-model",
    Kind.SLICES: "tensor-slices-v1",
    Kind.KERAS_HDF5: "keras-h5",
    Kind.KERAS_ARCHIVE: "keras-archive",
    Kind.KERAS_DIRECTORY: "keras-archive",
    Kind.KERAS_SHARDS: "keras-weights-h5",
}


def _verify(location: Location, started: Started) -> Found:
    """Verify a checkpoint's own files; what keeps that from going on is a problem, too."""
    kind, prefix = location.kind, location.prefix
    try:
        if kind is Kind.SLICES:
            from bncheck.verifying.slices import verify_slices

            return verify_slices(prefix, location.files, started)
        if kind in (Kind.BUNDLE, Kind.SAVED_MODEL):
            from bncheck.verifying.bundle import verify_bundle

            where = variables_prefix(prefix) if kind is Kind.SAVED_MODEL else prefix
            found = verify_bundle(where, started)
            return found._replace(form="") if kind is Kind.SAVED_MODEL else found
        from bncheck.verifying.keras import verify_keras

        return verify_keras(location, started)
    except BncheckError as error:
        return Found([_problem(error)], [])


def _problem(error: BncheckError) -> Problem:
    return Problem(Weight.DAMAGED, error.path, error.what, error.offset, remedy=error.remedy)


class _Graph(NamedTuple):
    path: str
    saved_model: bool


def _graphs(location: Location) -> list[_Graph]:
    """Return the graph that was saved with a checkpoint."""
    if location.kind is Kind.SAVED_MODEL:
        paths = [os.path.join(location.prefix, name) for name in SAVED_MODEL[:1]]
    elif location.kind in (Kind.BUNDLE, Kind.SLICES):
        paths = [location.prefix + ".meta"]
    else:
        return []
    is_saved_model = location.kind is Kind.SAVED_MODEL
    return [_Graph(path, is_saved_model) for path in paths if os.path.lexists(path)]


def _check_graph(graph: _Graph) -> tuple[list[Problem], list[VerifiedFile]]:
    """Check that a graph is whole as far as its own form tells: protobuf has no checksum."""
    from bncheck.graph.meta_graph import read_message
    from bncheck.proto.graphs_pb2 import MetaGraphDef, SavedModel

    try:
        if graph.saved_model:
            read_message(graph.path, SavedModel(), "SavedModel")
        else:
            read_message(graph.path, MetaGraphDef(), "TensorFlow graph (.meta)")
        with RegularFile(graph.path) as file:
            return [], [VerifiedFile(graph.path, file.size, 0, file.size)]
    except BncheckError as error:
        return [_problem(error)], []
