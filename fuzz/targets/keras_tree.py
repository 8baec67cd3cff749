"""Keras' HDF5 files by what is in them: groups, attributes, datasets, described by a JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.hdf5_trees import NotWritableError, tree_in, written
from fuzz.json_tree import mutate_json
from fuzz.seeds import contents
from fuzz.target import Target
from fuzz.targets.hdf5 import read_hdf5
from fuzz.watch import preparing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fuzz.target import Depth


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    with preparing():
        try:
            file = written(data)
        except NotWritableError:
            return
    read_hdf5(file, directory, depth)


def _seeds() -> Iterator[bytes]:
    yield from map(tree_in, contents("keras[123]*/*/*.h5", most=10, longest=1 << 16))
    yield from map(tree_in, contents("keras3/*/sharded/*.h5", most=4, longest=1 << 15))


TARGET = Target("keras_tree", _read, _seeds, mutate_json)
