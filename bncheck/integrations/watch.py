"""Auditing while a training runs: each save is audited, and what is found has consequences."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final, Literal, get_args

from bncheck.gating.pipeline import gate
from bncheck.integrations.auditing import describe, failing, gate_options
from bncheck.report.escape import escape
from bncheck.report.model import Verdict

if TYPE_CHECKING:
    from bncheck.integrations.auditing import PolicyArguments
    from bncheck.report.gate_model import GateReport

OnFinding = Literal["stop", "warn", "raise"]
_STACK: Final = 3  # frames up to whoever called the watch: no line of the training is to blame


class CheckpointWarning(UserWarning):
    """A checkpoint that was just saved has findings, or could not be audited."""


class Watch:
    """Audits the checkpoints of one training by one policy.

    `reports` holds the reports so far. Wrong arguments raise at once, not after the first epoch.
    """

    def __init__(self, on_finding: OnFinding, policy: PolicyArguments) -> None:
        if on_finding not in get_args(OnFinding):
            choices = ", ".join(get_args(OnFinding))
            raise ValueError(f"on_finding must be one of {choices}, not {on_finding!r}")
        self._on_finding = on_finding
        self._options = gate_options(**policy)
        self.reports: list[GateReport] = []

    def audit(self, path: str) -> bool:
        """Audit a checkpoint, and return whether the training should stop.

        With "raise", AssertionError is what findings raise, and what could not be audited. Else
        both are warnings, and no audit ends a training but by what it found.
        """
        try:
            report = gate([path], self._options)
        except Exception as error:
            # A defect of the audit must not cost days of training.
            if self._on_finding == "raise":
                raise
            self._warn(f"bncheck: {escape(path)} could not be audited: {escape(str(error))}")
            return False
        self.reports.append(report)
        if report.verdict is Verdict.PASS:
            return False
        if self._on_finding == "raise":
            raise AssertionError(describe(report))
        self._warn(describe(report))
        found = any(failing(each) for each in report.checkpoints)
        return self._on_finding == "stop" and found

    def miss(self, reason: str) -> None:
        """Say that there was nothing to audit where something should have been."""
        if self._on_finding == "raise":
            raise AssertionError(f"bncheck: {escape(reason)}")
        self._warn(f"bncheck: {escape(reason)}")

    def _warn(self, message: str) -> None:
        warnings.warn(message, CheckpointWarning, stacklevel=_STACK)
