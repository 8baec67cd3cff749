"""How each layer went over a run: settled or not, stopped, and how much is still initial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bncheck.batchnorm.layers import Status
from bncheck.batchnorm.names import STATISTICS
from bncheck.report.history_model import Trend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from bncheck.batchnorm.layers import Layer
    from bncheck.history.visits import Visit
    from bncheck.report.history_model import Point
    from bncheck.snapshot import Snapshot

_FEWEST: Final = 4  # checkpoints of a layer below which nothing tells whether it has settled
_SETTLED_SHIFT: Final = 0.1  # standard deviations, root mean square over channels
_SETTLED_RATIO: Final = 0.1  # of the logarithm of the variances' ratio, likewise
_ROUNDING: Final = (
    0.999  # float32 rounds each update; a thousandth is far more than that adds up to
)
_FROZEN: Final = "BN601"


def trends(
    visits: Sequence[Visit], last: Snapshot, momenta: Mapping[str, tuple[float, int]]
) -> dict[str, Trend]:
    """Return the trend of every layer of the last checkpoint.

    `momenta` are the momentum and the updates in a step of the layers whose graph tells them. A
    layer has settled if, over the last third of the checkpoints, its mean moved by less than a
    tenth of a standard deviation and its variance by less than a tenth, root mean squares over
    channels.
    """
    return {
        layer.name: _Course(layer, visits, momenta.get(layer.name)).trend() for layer in last.layers
    }


class _Course:
    """One layer on its way through the run."""

    def __init__(
        self, layer: Layer, visits: Sequence[Visit], momentum: tuple[float, int] | None
    ) -> None:
        self._layer = layer
        self._visits = visits
        self._points = [visit.point for visit in visits]
        self._momentum = momentum

    def trend(self) -> Trend:
        stopped = self._still_since()
        left, is_bound = self._initial_left(stopped)
        momentum = None if self._momentum is None else self._momentum[0]
        return Trend(self._state(stopped), left, is_bound, momentum, stopped)

    def _state(self, stopped: int | None) -> str:
        name, status = self._layer.name, self._layer.status
        if status in (Status.MISSING, Status.UNREADABLE):
            return ""
        if status in (Status.DAMAGED, Status.UNTRAINED):
            return "damaged" if status is Status.DAMAGED else "initial"
        if stopped is None:
            return _settled(name, self._points)
        link = self._visits[-1].link
        frozen = link is not None and any(
            each.layer == name and each.rule.code == _FROZEN for each in link.findings
        )
        return "stopped" if frozen else "unchanged"

    def _still_since(self) -> int | None:
        """Return since which checkpoint the statistics are bit by bit the same, if they are."""
        at = None
        for number in range(len(self._visits) - 1, 0, -1):
            link = self._visits[number].link
            if link is None or not link.still.get(self._layer.name, False):
                break
            at = number - 1
        return at

    def _initial_left(self, stopped: int | None) -> tuple[float | None, bool]:
        """Return which share of the last values is still the initializer, and if it is a bound.

        It is momentum**updates, counted from the last checkpoint in which the layer was initial to
        where it stopped, if the momentum is known and counters tell the steps; but a variance below
        that proves that the layer started elsewhere. Without that only the bound is told: each
        update's variance is at least 0, so that a moving variance that started at 1 is at least
        what is left of that 1.
        """
        variance = self._layer.members.get(STATISTICS[1])
        if self._layer.status is Status.UNTRAINED:
            return 1.0, False
        if self._layer.status is not Status.TRAINED or variance is None or not variance.summary:
            return None, False
        smallest = variance.summary.minimum if variance.expected == 1 else None
        left = self._by_momentum(stopped)
        if left is not None and (smallest is None or left * _ROUNDING <= smallest):
            return left, False
        return (smallest, True) if smallest is not None and smallest < 1 else (None, False)

    def _by_momentum(self, stopped: int | None) -> float | None:
        name = self._layer.name
        end = self._points[-1 if stopped is None else stopped]
        if self._momentum is None or end.step is None or end.told_by != "counter":
            return None
        start = 0
        for point in self._points:
            layer = point.layers.get(name)
            if layer is not None and layer.status is Status.UNTRAINED:
                start = point.step or 0
        momentum, updates = self._momentum
        return float(momentum ** (max(end.step - start, 0) * updates))


def _settled(name: str, points: Sequence[Point]) -> str:
    having = [point for point in points if name in point.spans]
    if len(having) < _FEWEST:
        return ""
    # The first of the last third, and at least two checkpoints before the last one.
    reference = having[min(len(having) - len(having) // 3 - 1, len(having) - 3)]
    before, after = _vectors(reference, name), _vectors(having[-1], name)
    if before.shape != after.shape:
        return "moving"
    with np.errstate(all="ignore"):  # channels without a result are left out
        shifts = (after[0] - before[0]) / np.sqrt(before[1])
        ratios = np.log(after[1] / before[1])
    shift, ratio = _root_mean_square(shifts), _root_mean_square(ratios)
    if shift is None or ratio is None:
        return ""
    return "settled" if shift < _SETTLED_SHIFT and ratio < _SETTLED_RATIO else "moving"


def _vectors(point: Point, name: str) -> NDArray[np.floating[Any]]:
    return point.vectors[:, point.spans[name]].astype(np.float64)


def _root_mean_square(values: NDArray[np.floating[Any]]) -> float | None:
    """Return the root mean square of what is finite, None where nothing is."""
    finite = values[np.isfinite(values)]
    return float(np.sqrt((finite**2).mean())) if finite.size else None
