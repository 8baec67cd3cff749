"""The report of `bncheck history`: the checkpoints of a run, oldest first, and how they went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from bncheck.report.model import FailOn, Skipped, Verdict, verdict_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from bncheck.batchnorm.layers import Status
    from bncheck.batchnorm.names import Role
    from bncheck.batchnorm.statistics import Summary
    from bncheck.rules.rule import Finding, Level


class LayerPoint(NamedTuple):
    """One layer in one checkpoint.

    `summaries` are of the statistics, over channels. `divergence` is from the checkpoint before it:
    see LayerChange; None for the first one, and where it does not exist.
    """

    status: Status
    channels: int | None
    summaries: Mapping[Role, Summary]
    divergence: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One checkpoint of the run.

    `step` is what its counters say, else the number in its name, as `told_by` says ("counter",
    "name", or empty where nothing tells). `vectors` holds the statistics of the layers that have
    both: means and variances, a row each, float32 or wider, one after the other; `spans` says which
    columns are a layer's. `weights_moved` says whether any weight outside of batch norm is another
    than in the checkpoint before, None where there is none before or nothing to compare.
    """

    path: str
    format: str
    step: int | None
    told_by: str
    layers: Mapping[str, LayerPoint]
    vectors: NDArray[np.floating[Any]]
    spans: Mapping[str, slice]
    weights_moved: bool | None = None

    @property
    def called(self) -> str:
        """How a sentence calls it: by its step, else by its path."""
        return self.path if self.step is None else f"step {self.step:,}"


class Trend(NamedTuple):
    """How one layer went over the whole run.

    `state` is "settled" or "moving"; "stopped" (bit by bit the same while weights beside it went
    on) or "unchanged" (the same, as they are); "damaged", "initial"; empty where too few
    checkpoints tell. `initial_left` is the share of the last values that is still the initializer:
    momentum**updates where `momentum` is known, else what the smallest variance leaves at most (no
    batch's variance is negative), as `is_bound` says; None where neither tells. `stopped_at` is the
    index of the point since which nothing moved.
    """

    state: str
    initial_left: float | None = None
    is_bound: bool = False
    momentum: float | None = None
    stopped_at: int | None = None


class Span(NamedTuple):
    """A finding of one layer over a stretch of the run, by the indices of points.

    `last_good` is the point before the stretch, None where it starts with the run.
    """

    first: int
    last: int
    last_good: int | None


class Gone(NamedTuple):
    """What was found in an earlier stretch, and in no later checkpoint."""

    rule: str
    name: str
    layer: str
    span: Span


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """The outcome of a whole run.

    `findings` are those that hold in the last checkpoint, and what happened on the way; `spans`
    says since when, in the same order. `passing` are checkpoints that were not read and are no
    defect: they vanished, or were still being written, with the reason each.
    """

    paths: tuple[str, ...]
    points: tuple[Point, ...]
    layers: Mapping[str, Trend]
    findings: tuple[Finding, ...]
    spans: tuple[Span, ...]
    gone: tuple[Gone, ...] = ()
    remarks: tuple[str, ...] = ()
    passing: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    fail_on: FailOn = FailOn.ERROR

    def count(self, level: Level) -> int:
        """Return the number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)

    @property
    def verdict(self) -> Verdict:
        """As of an audit: see Report."""
        return verdict_of(self.skipped, self.findings, self.fail_on)

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings, 3 could not audit."""
        return self.verdict.exit_code
