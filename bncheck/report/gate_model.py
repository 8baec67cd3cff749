"""The report of `bncheck gate`: what became of each checkpoint, and of the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bncheck.report.model import FailOn, Skipped, Verdict, verdict_of

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Iterator
    from typing import Any

    from bncheck.rules.rule import Finding, Level


class LayerLine(NamedTuple):
    """One layer of a checkpoint, as far as a list of many checkpoints shows it."""

    name: str
    channels: int | None
    status: str


class Suppressed(NamedTuple):
    """A finding that does not count, and why.

    `by` is "exception" or "baseline"; `expires` is the last day on which an exception holds.
    """

    finding: Finding
    fingerprint: str
    by: str
    reason: str
    expires: datetime.date | None = None


class Known(NamedTuple):
    """One finding of a baseline; `level` is how bad it was."""

    fingerprint: str
    rule: str
    layer: str
    checkpoint: str
    level: str

    @property
    def text(self) -> str:
        """What a person is told of it."""
        about = f" in {self.layer}" if self.layer else ""
        return f"{self.rule}{about} ({self.checkpoint})"


@dataclass(frozen=True, slots=True)
class Audited:
    """One checkpoint of a gate.

    `path` is how it was found, `prefix` what TensorFlow calls its place. `fingerprints` are of
    `findings`, in their order; `fail_on` is what the policy says for its path. `skipped` holds what
    could not be audited: the whole checkpoint, where nothing of it could. `content` is the JSON
    report of `inspect`, kept only where a report in JSON was asked for.
    """

    path: str
    format: str = ""
    step: int | None = None
    variables: int = 0
    graph: str | None = None
    layers: tuple[LayerLine, ...] = ()
    findings: tuple[Finding, ...] = ()
    fingerprints: tuple[str, ...] = ()
    suppressed: tuple[Suppressed, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()
    fail_on: FailOn = FailOn.ERROR
    content: dict[str, Any] | None = None
    prefix: str = ""

    @property
    def verdict(self) -> Verdict:
        """As of an audit: see Report."""
        return verdict_of(self.skipped, self.findings, self.fail_on)

    def count(self, level: Level) -> int:
        """Return the number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)

    def by_fingerprint(self) -> Iterator[tuple[Finding, str]]:
        """Yield the findings that count, each with its fingerprint."""
        yield from zip(self.findings, self.fingerprints, strict=True)


@dataclass(frozen=True, slots=True)
class GateReport:
    """The outcome of a gate over any number of checkpoints.

    `warnings` is what is wrong with the policy itself: an exception that expired, or matches
    nothing; `gone` names findings of the baseline that are no more. `config` is the file that the
    policy came from. `kept` are findings of the baseline that nothing speaks against.
    `empty_allowed` says that a gate over nothing passes.
    """

    checkpoints: tuple[Audited, ...]
    warnings: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    config: str | None = None
    kept: tuple[Known, ...] = ()
    baseline: str | None = None
    empty_allowed: bool = False

    def count(self, level: Level) -> int:
        """Return the number of findings of a level in all checkpoints."""
        return sum(each.count(level) for each in self.checkpoints)

    def count_verdict(self, verdict: Verdict) -> int:
        """Return the number of checkpoints of a verdict."""
        return sum(each.verdict is verdict for each in self.checkpoints)

    @property
    def suppressed(self) -> int:
        """The number of findings that do not count."""
        return sum(len(each.suppressed) for each in self.checkpoints)

    @property
    def verdict(self) -> Verdict:
        """Not audited where any checkpoint was not, or none was found; else the worst of them."""
        if not self.checkpoints and not self.empty_allowed:
            return Verdict.NOT_AUDITED
        return worst(each.verdict for each in self.checkpoints)

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings, 3 could not audit."""
        return self.verdict.exit_code


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on all of several."""
    found = set(verdicts)
    for verdict in (Verdict.NOT_AUDITED, Verdict.FAIL):
        if verdict in found:
            return verdict
    return Verdict.PASS
