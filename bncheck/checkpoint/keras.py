"""Keras' own files, each opened as a checkpoint: told apart by content, not by their names."""

from __future__ import annotations

from functools import partial

from bncheck.checkpoint.hdf5 import Hdf5File
from bncheck.checkpoint.hdf5_checkpoint import Hdf5Checkpoint
from bncheck.checkpoint.keras_archive import open_archive, open_directory, open_sharded
from bncheck.checkpoint.keras_h5 import is_keras_h5, read_structure
from bncheck.checkpoint.keras_weights import open_weights

__all__ = ("open_archive", "open_directory", "open_hdf5", "open_sharded")


def open_hdf5(path: str) -> Hdf5Checkpoint:
    """Open an HDF5 file that Keras wrote, in its older layout or the newer one.

    Raises NotACheckpointError where it is another program's; see Hdf5File for the other errors.
    """
    source = partial(Hdf5File, path)
    with source() as file:
        if is_keras_h5(file):
            places = dict.fromkeys(file.variables, 0)
            structure = read_structure(file)
            return Hdf5Checkpoint(path, "keras-h5", [source], places, file.variables, structure)
    return open_weights(path, "keras-weights-h5", [source], None)
