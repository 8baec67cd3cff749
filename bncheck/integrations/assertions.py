"""Auditing in a test: a checkpoint is healthy, or the test fails and says why."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bncheck.gating.pipeline import gate
from bncheck.integrations.auditing import describe, gate_options
from bncheck.report.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bncheck.report.gate_model import GateReport


def assert_healthy(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    fail_on: str | None = None,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    graph: str | os.PathLike[str] | None = None,
    use_graph: bool = True,
    momentum: float | None = None,
    step: int | None = None,
    require_batch_norm: bool = False,
    config: str | os.PathLike[str] | None = None,
) -> GateReport:
    """Audit the checkpoint at a path, or those at several, and return the gate's report.

    Raises AssertionError where a finding reaches `fail_on` ("error", unless the policy says
    otherwise), where anything could not be audited, and where nothing was found. `config` is the
    policy's file; without one none is looked for, so that a test means the same wherever it runs.
    """
    __tracebackhide__ = True  # pytest then shows the line of the test
    options = gate_options(
        fail_on=fail_on,
        select=select,
        ignore=ignore,
        graph=graph,
        use_graph=use_graph,
        momentum=momentum,
        step=step,
        require_batch_norm=require_batch_norm,
        config=config,
    )
    paths = [path] if isinstance(path, (str, os.PathLike)) else path
    report = gate([os.fspath(each) for each in paths], options)
    if report.verdict is not Verdict.PASS:
        raise AssertionError(describe(report))
    return report
