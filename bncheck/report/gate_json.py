"""The JSON report of `bncheck gate`, schema version 1: see `gate-schema-v1.json` beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bncheck.report.json_format import dump, finding_to_dict, skipped_to_dicts
from bncheck.report.model import Verdict
from bncheck.rules.rule import Level
from bncheck.version import __version__

if TYPE_CHECKING:
    from bncheck.report.gate_model import Audited, GateReport

SCHEMA_VERSION: Final = 1


def to_json(report: GateReport) -> str:
    """Return the report as JSON text, with a line break at its end.

    The audits must have kept their `content`, the JSON report of each checkpoint.
    """
    return dump(to_dict(report))


def to_dict(report: GateReport) -> dict[str, Any]:
    """Return the report as plain dicts, lists, strings and numbers."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "bncheck", "version": __version__},
        "config": report.config,
        "baseline": report.baseline,
        "reports": [_checkpoint(each) for each in report.checkpoints],
        "warnings": list(report.warnings),
        "gone": list(report.gone),
        "summary": {
            "checkpoints": len(report.checkpoints),
            "passed": report.count_verdict(Verdict.PASS),
            "failed": report.count_verdict(Verdict.FAIL),
            "not_audited": report.count_verdict(Verdict.NOT_AUDITED),
            **{str(level): report.count(level) for level in sorted(Level, reverse=True)},
            "suppressed": report.suppressed,
            "verdict": report.verdict.value,
        },
    }


def _checkpoint(audited: Audited) -> dict[str, Any]:
    """Return a checkpoint's own report, with the findings that the policy leaves."""
    content = dict(audited.content or {})
    content.setdefault("checkpoint", {"path": audited.path})
    summary = dict(content.get("summary") or {"layers": len(audited.layers)})
    summary |= {str(level): audited.count(level) for level in sorted(Level, reverse=True)}
    ignored = summary.get("suppressed", 0)
    summary |= {
        "suppressed": ignored + len(audited.suppressed),
        "verdict": audited.verdict.value,
    }
    return content | {
        "path": audited.path,
        "findings": [finding_to_dict(f, print_) for f, print_ in audited.by_fingerprint()],
        "suppressed": [
            finding_to_dict(each.finding, each.fingerprint)
            | {
                "by": each.by,
                "reason": each.reason,
                "expires": each.expires and each.expires.isoformat(),
            }
            for each in audited.suppressed
        ],
        "skipped": skipped_to_dicts(audited.skipped),
        "summary": summary,
    }
