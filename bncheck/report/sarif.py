"""SARIF 2.1.0, the format of code scanning: one run, with every rule and its documentation.

The standard is https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html, what GitHub makes
of it https://docs.github.com/code-security/code-scanning/integrating-with-code-scanning.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote_from_bytes

from bncheck.report.escape import encodable, escape, escape_name
from bncheck.report.json_format import dump
from bncheck.rules import all_rules
from bncheck.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bncheck.report.gate_model import Audited, GateReport
    from bncheck.rules.rule import Finding, Rule

_SCHEMA: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_MOST_RESULTS: Final = 25_000  # GitHub rejects a run that has more

# What SARIF's message strings would read as the end of a link's text, 3.11.6 of the standard.
_LINK: Final = re.compile(r"(\\*)\](?=\()")
_PART: Final = re.compile(r"^(What|Why|Right|Fix): ")


class _Result(NamedTuple):
    checkpoint: Audited
    finding: Finding
    fingerprint: str
    reason: str | None = None


def to_sarif(report: GateReport) -> str:
    """Return the report as a SARIF log, with a line break at its end.

    Suppressed findings are results that say why they are. What could not be audited is a
    notification of the invocation, which then was not successful. Of more results than GitHub
    accepts the worst stay, and a notification counts the rest.
    """
    rules = all_rules()
    artifacts = _Artifacts(report.checkpoints)
    results = sorted(
        _results(report), key=lambda each: (each.reason is not None, -each.finding.level)
    )
    kept = results[:_MOST_RESULTS]
    indices = {rule.code: index for index, rule in enumerate(rules)}
    seen: Counter[str] = Counter()
    run = {
        "tool": {
            "driver": {
                "name": "bncheck",
                "version": __version__,
                "rules": [_rule(rule) for rule in rules],
            }
        },
        "invocations": [_invocation(report, artifacts, left_out=len(results) - len(kept))],
        "artifacts": [
            {"location": {"uri": uri}, "roles": ["analysisTarget"]} for uri in artifacts.uris
        ],
        "results": [_result(each, indices, artifacts, seen) for each in kept],
    }
    return dump({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


class _Artifacts:
    """The checkpoints as artifacts: each URI once, for SARIF wants no two that are equal."""

    def __init__(self, checkpoints: Iterable[Audited]) -> None:
        self.uris = list(dict.fromkeys(_uri(each.path) for each in checkpoints))
        self._indices = {uri: index for index, uri in enumerate(self.uris)}

    def location(self, path: str) -> dict[str, Any]:
        """Return the physical location of a checkpoint."""
        uri = _uri(path)
        return {
            "artifactLocation": {"uri": uri, "index": self._indices[uri]},
            # A checkpoint has no lines, but GitHub shows no result without one.
            "region": {"startLine": 1},
        }


def _results(report: GateReport) -> Iterator[_Result]:
    for checkpoint in report.checkpoints:
        for finding, fingerprint in checkpoint.by_fingerprint():
            yield _Result(checkpoint, finding, fingerprint)
        for each in checkpoint.suppressed:
            yield _Result(checkpoint, each.finding, each.fingerprint, each.reason)


def _result(
    result: _Result, indices: dict[str, int], artifacts: _Artifacts, seen: Counter[str]
) -> dict[str, Any]:
    finding, path = result.finding, result.checkpoint.path
    layer = escape_name(finding.layer)
    text = f"{escape(finding.message).rstrip('.')}. {escape(finding.help)}"
    location: dict[str, Any] = {"physicalLocation": artifacts.location(path)}
    if finding.layer:
        text = f"{layer}: {text}"
        location["logicalLocations"] = [
            {"name": layer, "fullyQualifiedName": f"{escape(path)}::{layer}", "kind": "module"}
        ]
    content: dict[str, Any] = {
        "ruleId": finding.rule.code,
        "ruleIndex": indices[finding.rule.code],
        "level": str(finding.level),
        "message": {"text": _message(text)},
        "locations": [location],
        "partialFingerprints": _fingerprints(result.fingerprint, seen),
    }
    if result.reason is not None:
        suppression = {"kind": "external", "status": "accepted"}
        content["suppressions"] = [{**suppression, "justification": escape(result.reason)}]
    return content


def _fingerprints(fingerprint: str, seen: Counter[str]) -> dict[str, str]:
    """Return what identifies a result from run to run: neither paths nor steps, which change.

    GitHub looks at `primaryLocationLineHash` alone. Its number after the colon tells results apart
    that agree in the rest, here the same finding in several checkpoints.
    """
    seen[fingerprint] += 1
    return {
        "bncheck/v1": fingerprint,
        "primaryLocationLineHash": f"{fingerprint}:{seen[fingerprint]}",
    }


def _rule(rule: Rule) -> dict[str, Any]:
    documentation = rule.documentation
    paragraphs = [" ".join(part.split()) for part in documentation.split("\n\n")]
    what = next((p.removeprefix("What: ") for p in paragraphs if p.startswith("What: ")), "")
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": _message(rule.summary)},
        "fullDescription": {"text": _message(what or rule.summary)},
        "help": {
            "text": _message("\n\n".join(paragraphs)),
            "markdown": _message("\n\n".join(_PART.sub(r"**\1:** ", p) for p in paragraphs)),
        },
        "defaultConfiguration": {"level": str(rule.level)},
    }


def _invocation(report: GateReport, artifacts: _Artifacts, *, left_out: int) -> dict[str, Any]:
    skipped = [
        {
            "level": "error",
            "message": {
                "text": _message(
                    f"{escape_name(each.what)} could not be audited: {escape(each.reason)}"
                )
            },
            "locations": [{"physicalLocation": artifacts.location(checkpoint.path)}],
        }
        for checkpoint in report.checkpoints
        for each in checkpoint.skipped
    ]
    empty = not report.checkpoints and not report.empty_allowed
    told = list(skipped)
    if empty:
        told.append(_notification("error", "no checkpoint was found: there is nothing to audit"))
    if left_out:
        text = f"{left_out} results are left out: code scanning takes {_MOST_RESULTS} at most"
        told.append(_notification("warning", text))
    return {
        "executionSuccessful": not skipped and not empty,
        "toolExecutionNotifications": told,
        "toolConfigurationNotifications": [
            *(_notification("warning", each) for each in report.warnings),
            *(_notification("note", f"no more found: {each}") for each in report.gone),
        ],
    }


def _notification(level: str, text: str) -> dict[str, Any]:
    return {"level": level, "message": {"text": _message(escape(text))}}


def _message(text: str) -> str:
    """Return a text as a message string of SARIF, which has placeholders in braces, and links."""
    plain = text.replace("{", "{{").replace("}", "}}")
    return _LINK.sub(lambda match: f"{match[1] * 2}\\]", plain)


def _uri(path: str) -> str:
    """Return a path as a URI reference: relative as it is, absolute with the scheme `file`."""
    pure = PurePath(path)
    try:
        raw = pure.as_posix().encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, which is in no path that there can be
        raw = encodable(pure.as_posix()).encode()
    if not pure.is_absolute():
        return quote_from_bytes(raw, safe="/")
    # A colon is in a drive's name; only in a relative reference it would end a scheme.
    return f"file:///{quote_from_bytes(raw, safe='/:').lstrip('/')}"
