"""Checkpoints of NumPy arrays in memory: what the comparison sees, without a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bncheck.checkpoint.model import Checkpoint, Values, Variable
from bncheck.snapshot import Snapshot, take_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray


class InMemory(Checkpoint):
    """A checkpoint of named arrays, which counts how often each is read."""

    format = "tensor-bundle"
    shards = 1

    def __init__(self, arrays: Mapping[str, NDArray[Any]], path: str = "memory") -> None:
        self.path = path
        self.arrays = arrays
        self.variables = {
            name: Variable(name, str(array.dtype), array.shape)
            for name, array in sorted(arrays.items())
        }
        self.reads: dict[str, int] = {}

    def read(self, names: Iterable[str]) -> Values:
        values = Values()
        for name in names:
            self.reads[name] = self.reads.get(name, 0) + 1
            values.arrays[name] = self.arrays[name]
        return values


def snapshot(arrays: Mapping[str, NDArray[Any]]) -> Snapshot:
    return take_snapshot(InMemory(arrays))
