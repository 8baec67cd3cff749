"""Bytes to Checkpoint: finding the files of a checkpoint and reading them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.checkpoint.locate import Kind, Location, locate

if TYPE_CHECKING:
    from bncheck.checkpoint.model import Checkpoint


def open_location(location: Location) -> Checkpoint:
    """Open a checkpoint that `locate` found; see TensorBundle and TensorSlices for the errors."""
    if location.kind is Kind.BUNDLE:
        from bncheck.checkpoint.bundle import TensorBundle

        return TensorBundle(location.prefix)
    from bncheck.checkpoint.tensor_slices import TensorSlices

    return TensorSlices(location.prefix, location.files)


def open_checkpoint(path: str) -> Checkpoint:
    """Open the checkpoint at a path: a prefix, one of its files, or a directory.

    Only names, types and shapes are read; `Checkpoint.read` fetches values. Raises BncheckError
    where there is no checkpoint, or none that can be read.
    """
    return open_location(locate(path))
