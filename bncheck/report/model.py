"""The report: what was read, what was found, what could not be audited."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from bncheck.checkpoint.structure import NO_STRUCTURE, Structure
from bncheck.report.escape import encodable
from bncheck.rules.rule import Level

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from bncheck.assignment import Assignment
    from bncheck.batchnorm.layers import Layer
    from bncheck.batchnorm.names import Kind
    from bncheck.checkpoint.model import Variable
    from bncheck.graph.model import Graph
    from bncheck.rules.rule import Finding


class Verdict(str, Enum):
    """What the audit comes to."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_AUDITED = "not-audited"

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings, 3 could not audit."""
        return {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.NOT_AUDITED: 3}[self]


class FailOn(Enum):
    """From which level on a finding fails the audit."""

    ERROR = Level.ERROR
    WARNING = Level.WARNING
    NOTE = Level.NOTE
    NEVER = None


class Skipped(NamedTuple):
    """Something that could not be audited, and why."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one audit.

    `step_source` is the variable that `step` comes from, None where it is none. `remarks` are what
    a person should know of how the checkpoint was found, `graph_remarks` what the graph alone does
    not decide. `others` counts the variables outside of the layers by kind. `graph_used` maps each
    variable of a layer to what the graph does with it.
    """

    path: str
    format: str
    shards: int
    step: int | None
    variables: Mapping[str, Variable]
    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...]
    step_source: str | None = None
    structure: Structure = NO_STRUCTURE
    remarks: tuple[str, ...] = ()
    others: Mapping[Kind, int] = field(default_factory=dict)
    graph: Graph | None = None
    graph_remarks: tuple[str, ...] = ()
    collection: str = "global"
    assignment: Assignment | None = None
    graph_used: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    suppressed: int = 0
    fail_on: FailOn = FailOn.ERROR

    @property
    def saves(self) -> int | None:
        """The number of saves, where nothing counts steps."""
        counted = self.step_source is not None and self.step_source == self.structure.saves
        return self.step if counted else None

    def count(self, level: Level) -> int:
        """Return the number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)

    @property
    def verdict(self) -> Verdict:
        """Not audited wherever anything was skipped.

        Else whether a finding reaches the level that fails.
        """
        return verdict_of(self.skipped, self.findings, self.fail_on)

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings, 3 could not audit."""
        return self.verdict.exit_code


def verdict_of(
    skipped: Collection[Skipped], findings: Iterable[Finding], fail_on: FailOn
) -> Verdict:
    """Return what skipped parts and findings come to."""
    if skipped:
        return Verdict.NOT_AUDITED
    threshold = fail_on.value
    if threshold is not None and any(finding.level >= threshold for finding in findings):
        return Verdict.FAIL
    return Verdict.PASS


def fingerprints(layers: Iterable[Layer], findings: Iterable[Finding]) -> list[str]:
    """Return what identifies each finding from run to run, in 16 hexadecimal digits.

    It rests on the rule, the layer and the roles or names concerned: not on the path, the order or
    the numbers.
    """
    import hashlib  # 5 ms, and only reports for programs need it

    roles = {
        (layer.name, member.name): role.value
        for layer in layers
        for role, member in layer.members.items()
    }
    prints = []
    for finding in findings:
        concerned = sorted(roles.get((finding.layer, name), name) for name in finding.variables)
        identity = "\0".join([finding.rule.code, finding.layer, *concerned])
        digest = hashlib.sha256(_bytes(identity))
        prints.append(digest.hexdigest()[:16])
    return prints


def _bytes(text: str) -> bytes:
    """Return the bytes of a name as a file holds them; half a character is in none."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return encodable(text).encode()
