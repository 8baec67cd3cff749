"""The numbers of many small vectors in one vectorized pass over one buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from bncheck.records import records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray


_BATCH: Final = 1 << 17  # elements, of 8 bytes each


class Summary(NamedTuple):
    """One tensor in a few numbers, over its finite elements; all are NaN where there is none.

    `std` is the population's. `nonfinite` counts NaN and Inf, `zeros` the elements that are 0 with
    either sign, and `negative_zeros` those of them that are -0.0, which no initializer writes.
    """

    size: int
    minimum: float
    maximum: float
    mean: float
    std: float
    nonfinite: int
    zeros: int
    negative_zeros: int

    def is_all(self, value: float) -> bool:
        """Whether every element is bit-exactly that number; false for an empty tensor."""
        return (
            self.size > 0
            and self.nonfinite == 0
            and self.minimum == self.maximum == value
            and self.negative_zeros == 0
        )

    @property
    def is_uniform(self) -> bool:
        """Whether there are two elements or more, all of them the same finite number."""
        return self.size > 1 and self.nonfinite == 0 and self.minimum == self.maximum


_NAN: Final = float("nan")
_EMPTY: Final = Summary(0, _NAN, _NAN, _NAN, _NAN, 0, 0, 0)


def summarise(arrays: Sequence[NDArray[Any]]) -> list[Summary]:
    """Summarise real arrays of any shapes and types.

    All is computed in float64, which holds every float32, bfloat16, half and float8 number exactly,
    so that `is_all` stays bit-exact. Two passes are made over batches that stay in the processor's
    cache: however many or large the arrays are, no more than a batch is held beside them.
    """
    sizes = np.array([array.size for array in arrays], np.int64)
    filled = sizes > 0
    if not filled.any():
        return [_EMPTY for _ in arrays]
    pieces = list(_pieces(arrays))
    per_array = -(-sizes // _BATCH)[filled]
    # The pieces of one array stand together: this is where each array's begin.
    firsts = np.cumsum(per_array) - per_array
    with np.errstate(all="ignore"):  # sums may overflow, 0/0 marks "no finite element"
        low, high, sums, *counts = _of_pieces(pieces)
        finite, zeros, negative_zeros = (np.add.reduceat(count, firsts) for count in counts)
        means = np.add.reduceat(sums, firsts) / finite
        squares = _squares_of_pieces(pieces, np.repeat(means, per_array))
        stds = np.sqrt(np.add.reduceat(squares, firsts) / finite)
        low, high = np.minimum.reduceat(low, firsts), np.maximum.reduceat(high, firsts)
    none = finite == 0
    for column in (low, high, means, stds):
        column[none] = np.nan
    nonfinite = sizes[filled] - finite
    columns = (sizes[filled], low, high, means, stds, nonfinite, zeros, negative_zeros)
    found = records(Summary, *(column.tolist() for column in columns))
    return list(found) if filled.all() else [next(found) if x else _EMPTY for x in filled]


def _pieces(arrays: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Yield what arrays hold as flat ones that fit into a batch."""
    for array in arrays:
        flat = array if array.ndim == 1 else array.reshape(-1)
        if 0 < flat.size <= _BATCH:
            yield flat
        else:
            yield from (flat[start : start + _BATCH] for start in range(0, flat.size, _BATCH))


def _batches(
    pieces: Sequence[NDArray[Any]],
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Yield the values of as many pieces as make a batch, and how many each of them has."""
    sizes = np.array([piece.size for piece in pieces])
    ends = np.cumsum(sizes)
    start = 0
    while start < len(pieces):
        before = ends[start] - sizes[start]
        end = max(start + 1, int(np.searchsorted(ends, before + _BATCH, "right")))
        yield np.concatenate(pieces[start:end], dtype=np.float64), sizes[start:end]
        start = end


def _of_pieces(pieces: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return what each piece has in its finite elements.

    Minimum, maximum, sum, the elements' number, and that of zeros and of negative zeros.
    """
    columns = []
    for values, sizes in _batches(pieces):
        starts = np.cumsum(sizes) - sizes
        low, high, safe, counts = values, values, values, sizes
        if not _is_finite(values):
            finite = np.isfinite(values)
            counts = np.add.reduceat(finite, starts, dtype=np.int64)
            low, high, safe = (np.where(finite, values, x) for x in (np.inf, -np.inf, 0.0))
        zeros = negative = np.zeros(len(sizes), np.int64)
        if np.count_nonzero(values) < len(values):
            zero = values == 0
            zeros = np.add.reduceat(zero, starts, dtype=np.int64)
            negative = np.add.reduceat(zero & np.signbit(values), starts, dtype=np.int64)
        low, high = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
        columns.append((low, high, np.add.reduceat(safe, starts), counts, zeros, negative))
    return [np.concatenate(column) for column in zip(*columns, strict=True)]


def _is_finite(values: NDArray[np.float64]) -> bool:
    """Whether all are finite numbers; a sum that is no such number leaves it to be looked at."""
    return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


def _squares_of_pieces(
    pieces: Sequence[NDArray[Any]], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sum of each piece's squared distances from its array's mean."""
    sums = []
    done = 0
    for values, sizes in _batches(pieces):
        centred = values - np.repeat(means[done : done + len(sizes)], sizes)
        if not _is_finite(values):
            centred[~np.isfinite(values)] = 0.0
        sums.append(np.add.reduceat(centred * centred, np.cumsum(sizes) - sizes))
        done += len(sizes)
    return np.concatenate(sums)
