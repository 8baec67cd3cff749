"""The report of `bncheck map`: what is matched, what the loader makes of it, what would mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.assignment.loaders import Loader
from bncheck.batchnorm.names import STATISTICS, Role
from bncheck.report.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bncheck.assignment.edits import Applied, Suggestion
    from bncheck.assignment.loaders import Outcome
    from bncheck.checkpoint.model import Checkpoint
    from bncheck.graph.model import Graph
    from bncheck.rehearsal import Rehearsal

_SUBJECTS: Final = {
    Loader.ASSIGNMENT_MAP: "a map of",
    Loader.SAVER: "a Saver of",
    Loader.WARM_START: "a warm start of",
    Loader.SLIM: "an assignment of",
    Loader.OBJECT: "a restore of",
    Loader.KERAS_BY_NAME: "loading by name of",
}


class Match(str, Enum):
    """What the two sides have of a variable."""

    MATCHED = "matched"
    SHAPE_DIFFERS = "shape-differs"
    TYPE_DIFFERS = "dtype-differs"
    GRAPH_ONLY = "graph-only"
    CHECKPOINT_ONLY = "checkpoint-only"


class Fate(str, Enum):
    """What the loader does with a variable of the graph."""

    RESTORED = "restored"
    SKIPPED = "skipped"
    REFUSED = "refused"


class Place(NamedTuple):
    """The batch norm that a variable belongs to, and what it is there."""

    layer: str
    role: Role


class Row(NamedTuple):
    """One variable: the checkpoint's key, the graph's name, or both.

    `place` is None outside of batch norm, `fate` where the graph does not have the variable.
    `reason` says why it is skipped or refused.
    """

    key: str | None
    name: str | None
    match: Match
    place: Place | None = None
    fate: Fate | None = None
    reason: str = ""

    @property
    def is_statistic(self) -> bool:
        """Whether the graph asks for it as a moving mean or variance."""
        return self.name is not None and self.place is not None and self.place.role in STATISTICS


@dataclass(frozen=True, slots=True)
class MapReport:
    """The outcome of one mapping; rows of batch norm come first, layer by layer.

    `assignment_map` has the checkpoint's key and the graph's name of all that the loader restores:
    of equal shape and type, so that init_from_checkpoint takes it. In a graph of objects that is
    the variable's full name, where no other variable has the same.
    """

    checkpoint: Checkpoint
    graph: Graph
    outcome: Outcome
    rows: tuple[Row, ...]
    assignment_map: Mapping[str, str]
    applied: tuple[Applied, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    rehearsal: Rehearsal | None = None

    def count(self, kind: Match | Fate) -> int:
        """Return the number of rows of a match, or of a fate."""
        return sum(kind in (row.match, row.fate) for row in self.rows)

    @property
    def statistics(self) -> tuple[int, int]:
        """How many moving means and variances the graph asks for, and how many it would get."""
        asked = [row for row in self.rows if row.is_statistic]
        restored = sum(row.fate is Fate.RESTORED for row in asked)
        return len(asked), 0 if self.outcome.raises else restored

    @property
    def headline(self) -> str:
        """The loss of statistics in one sentence, else that there is none."""
        asked, restored = self.statistics
        lost = asked - restored
        if self.outcome.raises:
            return f"{self.outcome.loader.value} raises and restores nothing: {self._refusal}"
        if not asked:
            return "the graph asks for no statistics of batch normalization"
        if lost:
            dropped = all(
                row.reason == self.outcome.not_given
                for row in self.rows
                if row.is_statistic and row.fate is not Fate.RESTORED
            )
            counts = f"{lost} of {asked} statistics"
            if dropped:
                return f"{_SUBJECTS[self.outcome.loader]} {self.outcome.source} drops {counts}"
            return f"{counts} keep their initializers: nothing in the checkpoint is theirs"
        return f"all {asked} statistics come from the checkpoint"

    @property
    def _refusal(self) -> str:
        if self.outcome.why:
            return self.outcome.why
        refused = [row for row in self.rows if row.fate is Fate.REFUSED]
        told = f"it refuses {len(refused)} variable{'s' if len(refused) != 1 else ''}"
        statistics = sum(row.is_statistic for row in refused)
        return f"{told}, {statistics} of {self.statistics[0]} statistics among them"

    @property
    def verdict(self) -> Verdict:
        """Whether everything of batch norm that the graph asks for would be restored.

        A rehearsal that failed, or that came to another result, leaves nothing to rely on.
        """
        if self.rehearsal is not None and not self.rehearsal.agrees:
            return Verdict.NOT_AUDITED
        lost = any(
            row.place is not None and row.fate not in (None, Fate.RESTORED) for row in self.rows
        )
        return Verdict.FAIL if lost or self.outcome.raises else Verdict.PASS

    @property
    def exit_code(self) -> int:
        """0 all of batch norm is restored, 1 something is not, 3 could not audit."""
        return {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.NOT_AUDITED: 3}[self.verdict]
