"""HDF5 files by their bytes: what the library makes of damage, and what bncheck makes of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.audit import audit
from fuzz.hdf5_trees import tree_in
from fuzz.hdf5_trees import written as written_tree
from fuzz.seeds import contents
from fuzz.target import Target
from fuzz.watch import preparing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fuzz.target import Depth


def read_hdf5(data: bytes, directory: Path, depth: Depth) -> None:
    """Audit an HDF5 file."""
    path = directory / "model.h5"
    with preparing():
        path.write_bytes(data)
    audit(path, depth)


def _seeds() -> Iterator[bytes]:
    files = list(contents("*/*/*.h5", "*/*/sharded/*.h5", most=8, longest=1 << 14))
    yield from files
    # The same without what h5py leaves free between them.
    yield from (written_tree(tree_in(each)) for each in files)


_SIGNATURES = ("TREE", "SNOD", "HEAP", "GCOL", "FRHP", "OHDR", "OCHK", "BTHD")

TARGET = Target("hdf5", read_hdf5, _seeds, tokens=_SIGNATURES)
