"""The variables outside of batch norm: the same or not, with as little reading as that takes.

Where both sides store checksums, nothing is read; where one does, only the other is. The rest is
read a few at a time, so that memory does not grow with the checkpoint.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np

from bncheck.batchnorm.names import Kind
from bncheck.changes.model import Others
from bncheck.changes.values import is_copy, is_near
from bncheck.checkpoint.checksums import crc32c
from bncheck.checkpoint.dtypes import numpy_dtype
from bncheck.checkpoint.model import element_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from bncheck.checkpoint.model import Checkpoint, Variable
    from bncheck.snapshot import Snapshot

_AT_ONCE: Final = 64 << 20  # bytes of each side that are held at the same time
_WEIGHTS: Final = (Kind.WEIGHT, Kind.SHADOW)


def compare_others(
    before: Snapshot, after: Snapshot, found: Mapping[str, str], tolerance: float
) -> Others:
    """Compare what is in no layer: `found` maps the keys of the weights that both sides have.

    Slots and counters are paired by their keys, duplicates and descriptions are left out.
    """
    old, new = before.others, after.others
    pairs = {
        key: other
        for key, other in found.items()
        if old.get(key) in _WEIGHTS and new.get(other) in _WEIGHTS
    }
    taken = set(pairs.values())
    pairs |= {
        key: key
        for key, kind in old.items()
        if kind not in _WEIGHTS and new.get(key) is kind and key not in taken
    }
    verdicts = _Verdicts(before.checkpoint, after.checkpoint, tolerance)
    verdicts.judge(pairs)
    identical: Counter[Kind] = Counter()
    differ: Counter[Kind] = Counter()
    for key, same in verdicts.same.items():
        (identical if same else differ)[old[key]] += 1
    names = after.naming.names
    return Others(
        identical=identical,
        differ=differ,
        copies=verdicts.copies,
        only_before=tuple(k for k, kind in old.items() if kind in _WEIGHTS and k not in pairs),
        only_after=tuple(k for k, kind in new.items() if kind in _WEIGHTS and k not in taken),
        moved={
            names.get(pairs[key], pairs[key]): not same
            for key, same in verdicts.same.items()
            if old[key] in _WEIGHTS
        },
        unread=verdicts.unread,
    )


def compare_stored(before: Snapshot, after: Snapshot) -> Others | None:
    """Compare the weights of two checkpoints of equal variables by what both store of them alone.

    None where one of them stores no checksum of a weight.
    """
    moved: dict[str, bool] = {}
    counts = (Counter[Kind](), Counter[Kind]())
    names = after.naming.names
    for key, kind in after.others.items():
        if kind not in _WEIGHTS:
            continue
        mine, theirs = before.checkpoint.checksum(key), after.checkpoint.checksum(key)
        if mine is None or theirs is None or mine[0] != theirs[0]:
            return None
        differs = mine != theirs
        moved[names.get(key, key)] = differs
        counts[differs][kind] += 1
    return Others(*counts, moved=moved)


class _Verdicts:
    """Which variables have the same values on both sides, by their keys before."""

    def __init__(self, before: Checkpoint, after: Checkpoint, tolerance: float) -> None:
        self._before = before
        self._after = after
        self._tolerance = tolerance
        self.same: dict[str, bool] = {}
        self.copies = 0
        self.unread: dict[str, str] = {}

    def judge(self, pairs: Mapping[str, str]) -> None:
        open_pairs = {}
        for key, other in pairs.items():
            told = self._told(key, other)
            if told is None:
                open_pairs[key] = other
            else:
                self.same[key] = told
        for batch in in_batches(self._before.variables[key] for key in open_pairs):
            self._read({key: open_pairs[key] for key in batch})

    def _told(self, key: str, other: str) -> bool | None:
        """Say whether two variables are the same, None where only their values can tell."""
        old, new = self._before.variables[key], self._after.variables[other]
        if self._before is self._after and key == other:
            return True
        if old.shape != new.shape:
            return False
        if old.dtype != new.dtype:
            return None
        mine, theirs = self._before.checksum(key), self._after.checksum(other)
        if mine is None or theirs is None or mine.layout != theirs.layout:
            return None
        if mine.native != theirs.native:
            return None
        same = mine.crcs == theirs.crcs
        return same if same or not self._tolerance else None

    def _read(self, batch: dict[str, str]) -> None:
        """Decide by the values; those that the other side stores a checksum of are read once."""
        one_sided = {
            key: crc
            for key, other in batch.items()
            if (crc := self._stored(key, other)) is not None
        }
        theirs = self._fetch(self._after, batch.values())
        mine = self._fetch(self._before, (key for key in batch if key not in one_sided))
        for key, other in batch.items():
            if other not in theirs:
                continue
            if key in one_sided:
                self.same[key] = crc32c(theirs[other].tobytes()) == one_sided[key]
            elif key in mine:
                self.same[key] = self._is_same(mine[key], theirs[other])

    def _stored(self, key: str, other: str) -> int | None:
        """Return the checksum that the first side stores of the second's bytes, if they agree."""
        stored = self._before.checksum(key)
        old, new = self._before.variables[key], self._after.variables[other]
        if stored is None or not stored.native or stored.layout or old.dtype != new.dtype:
            return None
        return None if self._tolerance or old.dtype == "string" else stored.crcs[0]

    def _fetch(self, checkpoint: Checkpoint, keys: Iterable[str]) -> dict[str, NDArray[Any]]:
        values = checkpoint.read(keys)
        self.unread |= values.unread
        return values.arrays

    def _is_same(self, old: NDArray[Any], new: NDArray[Any]) -> bool:
        if old.dtype != new.dtype:
            copy = is_copy(old, new)
            self.copies += copy
            return copy
        if old.dtype.hasobject:
            return bool(np.array_equal(old, new))
        return old.tobytes() == new.tobytes() or is_near(old, new, self._tolerance)


def in_batches(variables: Iterable[Variable]) -> Iterator[list[str]]:
    """Yield the names of variables that are small enough together to be read at once."""
    batch: list[str] = []
    size = 0
    for variable in variables:
        dtype = numpy_dtype(variable.dtype)
        own = element_count(variable.shape) * (dtype.itemsize if dtype is not None else 1)
        if batch and size + own > _AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(variable.name)
        size += own
    if batch:
        yield batch
