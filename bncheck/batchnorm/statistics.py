"""The numbers of many small vectors in one vectorized pass over one buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray


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


def summarise(arrays: Sequence[NDArray[Any]]) -> list[Summary]:
    """Summarise real arrays of any shapes and types.

    The sums are in float64, as are minimum and maximum.

    float64 holds every float32, bfloat16, half and float8 number exactly, so `is_all` stays
    bit-exact.
    """
    with np.errstate(invalid="ignore"):  # a signaling NaN becomes a quiet one
        filled = [array.reshape(-1).astype(np.float64) for array in arrays if array.size]
    if not filled:
        return [_empty() for _ in arrays]
    values = np.concatenate(filled)
    sizes = np.array([array.size for array in filled])
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    finite = np.isfinite(values)
    counts = np.add.reduceat(finite, starts, dtype=np.int64)
    zeros = values == 0
    with np.errstate(
        all="ignore"
    ):  # sums of huge numbers may overflow, and 0/0 marks "no finite element"
        safe = np.where(finite, values, 0.0)
        means = np.add.reduceat(safe, starts) / counts
        centred = np.where(finite, values - np.repeat(means, sizes), 0.0)
        stds = np.sqrt(np.add.reduceat(centred * centred, starts) / counts)
    columns = zip(
        sizes.tolist(),
        np.minimum.reduceat(np.where(finite, values, np.inf), starts).tolist(),
        np.maximum.reduceat(np.where(finite, values, -np.inf), starts).tolist(),
        means.tolist(),
        stds.tolist(),
        (sizes - counts).tolist(),
        np.add.reduceat(zeros, starts, dtype=np.int64).tolist(),
        np.add.reduceat(zeros & np.signbit(values), starts, dtype=np.int64).tolist(),
        strict=True,
    )
    summaries = iter([_summary(*column) for column in columns])
    return [next(summaries) if array.size else _empty() for array in arrays]


def _summary(
    size: int, low: float, high: float, mean: float, std: float, nonfinite: int, *zeros: int
) -> Summary:
    if nonfinite == size:
        low = high = mean = std = float("nan")
    return Summary(size, low, high, mean, std, nonfinite, *zeros)


def _empty() -> Summary:
    nan = float("nan")
    return Summary(0, nan, nan, nan, nan, 0, 0, 0)
