"""Bytes to Checkpoint: finding the files of a checkpoint and reading them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.location import Kind, Location, variables_prefix

if TYPE_CHECKING:
    from bncheck.checkpoint.bundle import TensorBundle
    from bncheck.checkpoint.model import Checkpoint


def open_location(location: Location) -> Checkpoint:
    """Open a checkpoint that `locate` found; see each format's reader for the errors."""
    kind, prefix = location.kind, location.prefix
    if kind is Kind.BUNDLE:
        return _open_bundle(prefix, prefix)
    if kind is Kind.SAVED_MODEL:
        bundle = _open_bundle(variables_prefix(prefix), prefix)
        bundle.format = "saved-model"
        return bundle
    if kind is Kind.SLICES:
        from bncheck.checkpoint.tensor_slices import TensorSlices

        return TensorSlices(prefix, location.files)
    from bncheck.checkpoint import keras

    openers = {
        Kind.KERAS_HDF5: keras.open_hdf5,
        Kind.KERAS_ARCHIVE: keras.open_archive,
        Kind.KERAS_DIRECTORY: keras.open_directory,
        Kind.KERAS_SHARDS: keras.open_sharded,
    }
    return openers[kind](prefix)


def _open_bundle(prefix: str, path: str) -> TensorBundle:
    from bncheck.checkpoint.bundle import TensorBundle
    from bncheck.checkpoint.object_graph import OBJECT_GRAPH, read_structure

    bundle = TensorBundle(prefix, path)
    if OBJECT_GRAPH in bundle.variables:
        bundle.structure = read_structure(bundle)
        bundle.format = "object-based"
    return bundle


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open the checkpoint at a path: a prefix, one of its files, a directory, a Keras file.

    Only names, types and shapes are read; `Checkpoint.read` fetches values. Raises BncheckError
    where there is no checkpoint, or none that can be read.
    """
    return open_location(locate(os.fspath(path)))
