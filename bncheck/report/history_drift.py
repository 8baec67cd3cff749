"""What the picture of a run shows, in numbers: where checkpoints are, how far layers drifted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bncheck.batchnorm.layers import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bncheck.report.history_model import Point

_CLOSEST: Final = 400  # a step shorter than this part of the run could not be seen


def layer_names(points: Sequence[Point]) -> list[str]:
    """Return the layers of all checkpoints, in the network's order as the last one has it."""
    names: list[str] = []
    for point in reversed(points):
        at = 0
        for name in point.layers if point.layers.keys() - set(names) else ():
            if name not in names:
                names.insert(at, name)
            at = names.index(name) + 1
    return names


def positions(points: Sequence[Point]) -> tuple[NDArray[Any], bool]:
    """Return where each checkpoint is, and whether that is its step.

    Where steps are not known, do not grow, or are too near to each other, it is the number.
    """
    steps = np.array([point.step for point in points if point.step is not None], np.float64)
    gaps = np.diff(steps)
    nearest = gaps.sum() / max(_CLOSEST, 2 * len(points))
    if len(steps) == len(points) and (gaps > 0).all() and (gaps >= nearest).all():
        return steps, True
    return np.arange(len(points), dtype=np.float64), False


def distances(points: Sequence[Point], names: Sequence[str]) -> NDArray[Any]:
    """Return how far each layer's mean and variance are from the last that are finite.

    By mean or variance, checkpoint and layer: the root mean square over channels of (mean - last) /
    sqrt(last variance) or of log(variance / last). NaN where nothing is finite.
    """
    found = np.full((2, len(points), len(names)), np.nan)
    for column, name in enumerate(names):
        spans = {n: point.spans[name] for n, point in enumerate(points) if name in point.spans}
        vectors = {n: points[n].vectors[:, span] for n, span in spans.items()}
        last: NDArray[Any] | None = None
        for number in sorted(vectors, reverse=True):
            mean, variance = values = vectors[number].astype(np.float64)
            if last is None and (np.isfinite(mean) & np.isfinite(variance) & (variance > 0)).any():
                last = values
            if last is not None and values.shape == last.shape:
                with np.errstate(all="ignore"):  # channels without a result are left out
                    shift = (mean - last[0]) / np.sqrt(last[1])
                    ratio = np.log(variance / last[1])
                found[:, number, column] = _root_mean_square(shift), _root_mean_square(ratio)
    return found


def _root_mean_square(values: NDArray[Any]) -> float:
    """Return it of what is finite, NaN where nothing is."""
    finite = values[np.isfinite(values)].clip(-1e100, 1e100)
    return float(np.sqrt((finite**2).mean())) if finite.size else np.nan


def divergences(
    points: Sequence[Point], names: Sequence[str]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return, by layer and step between two checkpoints, the divergence and whether it is NaN."""
    rows = [[point.layers.get(name) for point in points[1:]] for name in names]
    values = [[None if c is None else c.divergence for c in row] for row in rows]
    damaged = [[c is not None and c.status is Status.DAMAGED for c in row] for row in rows]
    return np.array(values, np.float64), np.array(damaged, np.bool_)
