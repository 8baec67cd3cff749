"""GitLab's code quality report, which a merge request compares with that of its target branch.

The fields are those of https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format;
there is no schema of them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from bncheck.report.escape import encodable, escape, escape_name
from bncheck.rules.rule import Level

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bncheck.report.gate_model import Audited, GateReport
    from bncheck.rules.rule import Finding

# An error is a model that predicts wrongly once it serves, which is more than "major", the word for
# what should be mended some time. A note is no defect. "blocker" is left for what nobody looked at.
_SEVERITIES: Final = {Level.ERROR: "critical", Level.WARNING: "minor", Level.NOTE: "info"}
_NOT_AUDITED: Final = "blocker"


def to_gitlab(report: GateReport) -> str:
    """Return the report as a list in JSON, with a line break at its end.

    Suppressed findings are not in it: the format has no word for them. A path is relative to the
    folder that the gate ran in, which GitLab takes for that of the project.
    """
    entries = list(_entries(report))
    return json.dumps(_with_fingerprints(entries), indent=1) + "\n"


def _entries(report: GateReport) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what identifies each entry, and the entry."""
    if not report.checkpoints and not report.empty_allowed:
        text = "no checkpoint was found: there is nothing to audit"
        yield "empty", _entry(text, "not-audited", _NOT_AUDITED, report.config or "")
    for checkpoint in report.checkpoints:
        for each in checkpoint.skipped:
            text = f"{escape_name(each.what)} could not be audited: {escape(each.reason)}"
            entry = _entry(text, "not-audited", _NOT_AUDITED, checkpoint.path)
            yield f"not-audited\0{each.what}", entry
        for finding, fingerprint in checkpoint.by_fingerprint():
            yield fingerprint, _finding(checkpoint, finding)


def _finding(checkpoint: Audited, finding: Finding) -> dict[str, Any]:
    layer = f"{escape_name(finding.layer)}: " if finding.layer else ""
    text = f"{layer}{escape(finding.message).rstrip('.')}. {escape(finding.help)}"
    return _entry(text, finding.rule.code, _SEVERITIES[finding.level], checkpoint.path)


def _entry(text: str, check: str, severity: str, path: str) -> dict[str, Any]:
    return {
        "description": text,
        "check_name": check,
        "severity": severity,
        "location": {"path": _relative(path), "lines": {"begin": 1}},
    }


def _with_fingerprints(entries: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Give each entry a fingerprint of its own; GitLab shows only the first of two that agree."""
    seen: Counter[str] = Counter()
    made = []
    for identity, entry in entries:
        whole = f"{encodable(identity)}\0{entry['location']['path']}"
        again = f"\0{seen[whole]}" if seen[whole] else ""
        seen[whole] += 1
        digest = hashlib.sha256(f"{whole}{again}".encode()).hexdigest()
        made.append({**entry, "fingerprint": digest})
    return made


def _relative(path: str) -> str:
    """Return a path with forward slashes that starts neither with one nor with `./`."""
    pure = PurePath(path)
    return encodable(pure.relative_to(pure.anchor).as_posix())
