"""The numbers of many small vectors in one vectorized pass over one buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
    owners = np.array([at for at, array in enumerate(arrays) if array.size], np.int64)
    if not owners.size:
        return [_EMPTY for _ in arrays]
    pieces = [piece for at in owners.tolist() for piece in _pieces(arrays[at])]
    # The pieces of one array stand together: this is where each array's begin.
    per_array = np.array([-(-arrays[at].size // _BATCH) for at in owners.tolist()])
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
    sizes = np.array([arrays[at].size for at in owners.tolist()])
    columns = (sizes, low, high, means, stds, sizes - finite, zeros, negative_zeros)
    found = map(Summary._make, zip(*(column.tolist() for column in columns), strict=True))
    return [next(found) if array.size else _EMPTY for array in arrays]


def _pieces(array: NDArray[Any]) -> list[NDArray[Any]]:
    """Return an array as flat ones that fit into a batch."""
    flat = array if array.ndim == 1 else array.reshape(-1)
    if flat.size <= _BATCH:
        return [flat]
    return [flat[start : start + _BATCH] for start in range(0, flat.size, _BATCH)]


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
        finite = np.isfinite(values)
        zeros = values == 0
        whole = bool(finite.all())
        columns.append(
            (
                np.minimum.reduceat(values if whole else np.where(finite, values, np.inf), starts),
                np.maximum.reduceat(values if whole else np.where(finite, values, -np.inf), starts),
                np.add.reduceat(values if whole else np.where(finite, values, 0.0), starts),
                sizes if whole else np.add.reduceat(finite, starts, dtype=np.int64),
                np.add.reduceat(zeros, starts, dtype=np.int64),
                np.add.reduceat(zeros & np.signbit(values), starts, dtype=np.int64),
            )
        )
    return [np.concatenate(column) for column in zip(*columns, strict=True)]


def _squares_of_pieces(
    pieces: Sequence[NDArray[Any]], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sum of each piece's squared distances from its array's mean."""
    sums = []
    done = 0
    for values, sizes in _batches(pieces):
        centred = values - np.repeat(means[done : done + len(sizes)], sizes)
        centred[~np.isfinite(values)] = 0.0
        sums.append(np.add.reduceat(centred * centred, np.cumsum(sizes) - sizes))
        done += len(sizes)
    return np.concatenate(sums)
