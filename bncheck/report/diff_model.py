"""The report of `bncheck diff`: two checkpoints, what became of each layer, and the findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bncheck.report.model import FailOn, Verdict, verdict_of

if TYPE_CHECKING:
    from bncheck.changes.model import Comparison
    from bncheck.report.model import Skipped
    from bncheck.rules.rule import Finding, Level


@dataclass(frozen=True, slots=True)
class DiffReport:
    """The outcome of one comparison.

    `findings` are those of BN6xx, and what the second checkpoint alone has of the other rules'
    errors and warnings. `glob` is the pattern that layers were chosen by, `remarks` what a person
    should know of how the checkpoints were found.
    """

    comparison: Comparison
    findings: tuple[Finding, ...]
    tolerance: float = 0.0
    glob: str | None = None
    remarks: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    suppressed: int = 0
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
