"""The arithmetic: medians, ratios pair by pair, and whether a goal is met."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BATCH_NORM = "batch norm's own bytes"


class Metric(Enum):
    """What is measured: seconds, seconds of all processors, bytes of memory, bytes read."""

    WALL = "wall"
    CPU = "CPU"
    PEAK = "peak memory"
    READ = "read from data files"


@dataclass(frozen=True)
class Sample:
    """One run: seconds, seconds, and the peak memory of its largest process in bytes."""

    wall: float
    cpu: float
    peak: int

    def value(self, metric: Metric) -> float:
        """Return one of the three; bytes read are counted in a run of their own."""
        return {Metric.WALL: self.wall, Metric.CPU: self.cpu, Metric.PEAK: self.peak}[metric]


@dataclass(frozen=True)
class Goal:
    """A limit for one command: absolute (`to` is None), or as a ratio to another command.

    For `Metric.READ`, `to` may be `BATCH_NORM`.
    """

    metric: Metric
    of: str
    at_most: float
    to: str | None = None


@dataclass(frozen=True)
class Measured:
    """All runs of one case: by command, the runs in the order of their rounds, and what was read.

    `batch_norm_bytes` is the size of batch norm's variables in the case's data, where it is known.
    """

    runs: Mapping[str, Sequence[Sample]]
    read: Mapping[str, int | None]
    batch_norm_bytes: int | None = None

    def median(self, command: str, metric: Metric) -> float | None:
        """Return the median of a command's runs; None where its reads could not be counted."""
        if metric is Metric.READ:
            return self.read.get(command)
        return median(sample.value(metric) for sample in self.runs[command])

    def ratio(self, of: str, to: str, metric: Metric) -> float | None:
        """Return the median of the ratios of runs of the same round.

        What slows the machine down for a while slows both runs of a round.
        """
        if metric is Metric.READ:
            part = self.read.get(of)
            whole = self.batch_norm_bytes if to == BATCH_NORM else self.read.get(to)
            return part / whole if part is not None and whole else None
        pairs = zip(self.runs[of], self.runs[to], strict=True)
        return median(a.value(metric) / b.value(metric) for a, b in pairs)

    def against(self, goal: Goal) -> float | None:
        """Return what a goal is about; None where it could not be measured."""
        if goal.to is None:
            return self.median(goal.of, goal.metric)
        return self.ratio(goal.of, goal.to, goal.metric)

    def meets(self, goal: Goal) -> bool | None:
        """Tell whether a goal is met; None where that could not be measured."""
        value = self.against(goal)
        return None if value is None else value <= goal.at_most
