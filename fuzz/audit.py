"""The whole way of bncheck behind a reader: groups, rules, and the reports in every format."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree as Xml

from rich.console import Console

from bncheck.audit import Options, inspect
from bncheck.checkpoint import open_checkpoint
from bncheck.config.policy import Policy
from bncheck.gating.auditing import Request
from bncheck.gating.pipeline import GateOptions, audit_targets
from bncheck.gating.targets import find_targets
from bncheck.report import (
    gate_json,
    github,
    gitlab,
    json_format,
    junit,
    markdown,
    sarif,
    verify_json,
)
from bncheck.report.gate_text import print_gate
from bncheck.report.text import Layout, print_report
from bncheck.report.verify_text import print_verification
from bncheck.verifying import verify
from fuzz.target import Depth

if TYPE_CHECKING:
    from pathlib import Path

    from bncheck.checkpoint.model import Checkpoint

_NO_OPTIONS = Options()


def audit(path: Path, depth: Depth, options: Options = _NO_OPTIONS) -> None:
    """Read every value of a checkpoint, inspect it, report on it; see these for the errors.

    What is to be reported on is verified first, which has an answer where nothing can be read.
    """
    if depth is Depth.REPORT:
        verified = verify(path)
        json.loads(verify_json.to_json(verified))
        print_verification(verified, _console(), quiet=False)
    if depth is not Depth.AUDIT:
        read_all(open_checkpoint(path))
    if depth is Depth.READ:
        return
    report = inspect(path, options)
    if depth is Depth.REPORT:
        json.loads(json_format.to_json(report, everything=True))
        print_report(report, _console(), Layout(everything=True, quiet=False, unicode=True))
        gate(path, options.graph)


def read_all(checkpoint: Checkpoint) -> None:
    """Read every value; each is there or has its reason why not."""
    values = checkpoint.read(checkpoint.variables)
    for name, variable in checkpoint.variables.items():
        if name in values.arrays:
            assert values.arrays[name].shape == variable.shape, name  # noqa: S101
        else:
            assert values.unread[name], name  # noqa: S101
        checkpoint.checksum(name)
    checkpoint.damaged_files()


def gate(path: Path, graph: str | None = None, policy: Policy | None = None) -> None:
    """Audit a checkpoint as `bncheck gate` does, and write its report in every format."""
    request = Request(policy=policy or Policy(), graph=graph, with_content=True)
    targets = find_targets([str(path)], recursive=False)
    report = audit_targets(targets, GateOptions(request=request, jobs=1))
    for to_text in (sarif.to_sarif, gitlab.to_gitlab, gate_json.to_json):
        json.loads(to_text(report))
    Xml.fromstring(junit.to_junit(report).encode("utf-8"))  # noqa: S314  # its own text
    for to_text in (github.to_github, markdown.to_markdown):
        to_text(report)
    print_gate(report, _console(), show_suppressed=True, quiet=False)


def _console() -> Console:
    return Console(
        file=StringIO(), width=100, legacy_windows=False, highlight=False, emoji=False, markup=False
    )
