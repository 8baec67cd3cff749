"""What two arrays of one shape have to do with each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from bncheck.batchnorm.layers import Member

NEAR: Final = 0.3
"""The distance below which two vectors are one, before and after some training."""
_SCALE_SLACK: Final = 1e-5  # relative; float32 rounds a product by 6e-8
_NO_SCALE: Final = 1e-3  # a factor nearer to 1 than this is a small step of training


def is_near(old: NDArray[Any], new: NDArray[Any], tolerance: float) -> bool:
    """Whether no element differs by more than the tolerance, relative to the largest magnitude."""
    if not tolerance or old.dtype.kind in "SUOb" or not old.size:
        return False
    with np.errstate(all="ignore"):  # what overflows or is NaN is not near
        first, second = _wide(old), _wide(new)
        largest = max(np.abs(first).max(), np.abs(second).max())
        return bool(np.abs(first - second).max() <= tolerance * largest)


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def is_copy(old: NDArray[Any], new: NDArray[Any]) -> bool:
    """Whether one of two arrays of different types is the other, rounded to its own type."""
    with np.errstate(all="ignore"):  # what does not fit becomes Inf
        try:
            return (
                old.astype(new.dtype).tobytes() == new.tobytes()
                or new.astype(old.dtype).tobytes() == old.tobytes()
            )
        except (TypeError, ValueError):  # strings and numbers
            return False


def factor_of(old: NDArray[Any], new: NDArray[Any]) -> float | None:
    """Return the one number that every element was multiplied with, None where there is none.

    Arrays that are the same number everywhere have such a factor always, which tells nothing.
    """
    first, second = old.reshape(-1).astype(np.float64), new.reshape(-1).astype(np.float64)
    if first.size < 2 or first.min() == first.max():
        return None
    at = int(np.abs(first).argmax())
    factor = float(second[at] / first[at]) if first[at] else 0.0
    if not np.isfinite(factor) or abs(factor - 1) < _NO_SCALE or factor == 0:
        return None
    slack = _SCALE_SLACK * float(np.abs(second).max())
    return factor if np.abs(second - factor * first).max() <= slack else None


def is_permuted(old: NDArray[Any], new: NDArray[Any]) -> bool:
    """Whether two different arrays hold the same numbers in another order."""
    first, second = np.sort(old, axis=None), np.sort(new, axis=None)
    return first.tobytes() == second.tobytes()


def is_same(old: Member, new: Member) -> bool:
    """Whether two variables hold the same numbers, bit by bit."""
    if old.values is None or new.values is None or old.values.dtype != new.values.dtype:
        return False
    return old.values is new.values or old.values.tobytes() == new.values.tobytes()


def distance(old: Member, new: Member) -> float | None:
    """Return how unlike two variables are, relative to how unlike their elements are.

    |a - b|^2 / (|a - mean a|^2 + |b - mean b|^2): 0 for equal ones, about 1 for unrelated ones of
    one distribution. None where they differ in size, or one is the same number everywhere, or not
    finite.
    """
    mine, theirs = old.summary, new.summary
    if old.values is None or new.values is None or mine is None or theirs is None:
        return None
    if mine.size != theirs.size or mine.nonfinite or theirs.nonfinite:
        return None
    spread = mine.std**2 + theirs.std**2
    if not mine.std or not theirs.std or not math.isfinite(spread):
        return None
    step = np.subtract(old.values.reshape(-1), new.values.reshape(-1), dtype=np.float64)
    return float(step @ step) / mine.size / spread
