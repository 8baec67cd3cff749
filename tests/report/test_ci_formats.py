"""SARIF and GitLab's code quality: their schemas, their limits, and names that want to be more."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from bncheck.report.gitlab import to_gitlab
from bncheck.report.model import Skipped
from bncheck.report.sarif import to_sarif
from bncheck.rules import all_rules
from bncheck.version import __version__
from tests.commands import ROOT
from tests.report.ci_reports import (
    HOSTILE,
    PATHS,
    audited,
    finding,
    gate,
    hostile_gate,
    large_gate,
    layers,
    suppressed,
)

if TYPE_CHECKING:
    from bncheck.report.gate_model import GateReport

SCHEMA = json.loads((ROOT / "tests/schemas/sarif-schema-2.1.0.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
# What RFC 3986 lets stand in a reference.
REFERENCE = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-F]{2})+")
# GitLab's page says these are all, and which values they take; there is no schema of it.
ENTRY = {
    "type": "object",
    "additionalProperties": False,
    "required": ["description", "check_name", "fingerprint", "severity", "location"],
    "properties": {
        "description": {"type": "string", "minLength": 1},
        "check_name": {"type": "string", "pattern": "^(BN[0-9]{3}|not-audited)$"},
        "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
        "location": {
            "type": "object",
            "additionalProperties": False,
            "required": ["path", "lines"],
            "properties": {
                "path": {"type": "string", "minLength": 1, "not": {"pattern": r"^(\./|/)"}},
                "lines": {"const": {"begin": 1}},
            },
        },
    },
}


def _sarif(report: GateReport) -> dict[str, Any]:
    """Return the only run of a log that is valid, and can be written as UTF-8."""
    text = to_sarif(report)
    log = json.loads(text)
    VALIDATOR.validate(log)
    json.dumps(log, ensure_ascii=False).encode()
    assert log["version"] == "2.1.0"
    assert text.endswith("}\n")
    (run,) = log["runs"]
    return dict(run)


def _gitlab(report: GateReport) -> list[dict[str, Any]]:
    entries = json.loads(to_gitlab(report))
    jsonschema.Draft202012Validator({"type": "array", "items": ENTRY}).validate(entries)
    json.dumps(entries, ensure_ascii=False).encode()
    prints = [each["fingerprint"] for each in entries]
    assert len(set(prints)) == len(prints)
    return list(entries)


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _strings(each)]
    return [text for each in value for text in _strings(each)] if isinstance(value, list) else []


def test_sarif_has_every_rule_with_its_documentation() -> None:
    driver = _sarif(gate(audited()))["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("bncheck", __version__)
    assert "informationUri" not in driver
    assert [each["id"] for each in driver["rules"]] == [each.code for each in all_rules()]
    (its,) = [each for each in driver["rules"] if each["id"] == "BN203"]
    assert its["name"] == "untrained-layer"
    assert its["defaultConfiguration"] == {"level": "warning"}
    assert its["shortDescription"]["text"].startswith("Everything in this layer is initial")
    assert not its["fullDescription"]["text"].startswith("What:")
    assert [part.partition(":")[0] for part in its["help"]["text"].split("\n\n")[1:]] == [
        "What",
        "Why",
        "Right",
        "Fix",
    ]
    assert "\n\n**Fix:** " in its["help"]["markdown"]
    assert "helpUri" not in its


def test_sarif_result_says_what_and_where() -> None:
    report = gate(audited("models/a", finding(message="{1}: see [x](y).", advice="Do it.")))
    run = _sarif(report)
    (result,) = run["results"]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "BN201"
    assert result["level"] == "error"
    # Braces are doubled and a link is broken, as the standard wants it (3.11.5 and 3.11.6).
    assert result["message"] == {"text": r"block/bn: {{1}}: see [x\](y). Do it."}
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "models/a", "index": 0},
                "region": {"startLine": 1},
            },
            "logicalLocations": [
                {
                    "name": "block/bn",
                    "fullyQualifiedName": "models/a::block/bn",
                    "kind": "module",
                }
            ],
        }
    ]
    assert "suppressions" not in result
    assert run["artifacts"] == [{"location": {"uri": "models/a"}, "roles": ["analysisTarget"]}]
    assert run["invocations"] == [
        {
            "executionSuccessful": True,
            "toolExecutionNotifications": [],
            "toolConfigurationNotifications": [],
        }
    ]


def test_sarif_finding_on_the_whole_checkpoint_has_no_logical_location() -> None:
    (result,) = _sarif(gate(audited("models/a", finding("BN204", ""))))["results"]
    assert list(result["locations"][0]) == ["physicalLocation"]
    assert result["message"]["text"].startswith("both are initial. ")


def test_sarif_fingerprints_do_not_depend_on_paths() -> None:
    first = _sarif(gate(audited("a/model-1", finding()), audited("b", finding())))["results"]
    second = _sarif(gate(audited("/x/model-2", finding()), audited("b", finding())))["results"]
    prints = [each["partialFingerprints"] for each in first]
    assert prints == [each["partialFingerprints"] for each in second]
    assert [each["bncheck/v1"] for each in prints] == ["0" * 16] * 2
    # GitHub would take the same finding in two checkpoints for one alert.
    assert [each["primaryLocationLineHash"] for each in prints] == [
        "0" * 16 + ":1",
        "0" * 16 + ":2",
    ]


@pytest.mark.parametrize(("path", "uri"), PATHS.items())
def test_sarif_paths_are_uri_references(path: str, uri: str) -> None:
    run = _sarif(gate(audited(path, finding())))
    assert [each["location"]["uri"] for each in run["artifacts"]] == [uri]
    physical = run["results"][0]["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"] == {"uri": uri, "index": 0}
    assert REFERENCE.fullmatch(uri)


def test_sarif_suppressed_findings_say_why_and_come_last() -> None:
    report = gate(audited("a", finding("BN105"), suppressed=(suppressed(reason="bug\n12"),)))
    note, quiet = _sarif(report)["results"]
    assert (note["level"], quiet["level"]) == ("note", "error")
    assert quiet["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": r"bug\n12"}
    ]


def test_sarif_skipped_parts_make_the_invocation_fail() -> None:
    report = gate(
        audited("a", finding()),
        audited("b", skipped=(Skipped("b.index", "it is cut off"),)),
        warnings=("exception 1 expired",),
        gone=("BN201 on x",),
    )
    run = _sarif(report)
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    (note,) = invocation["toolExecutionNotifications"]
    assert note["level"] == "error"
    assert note["message"]["text"] == "b.index could not be audited: it is cut off"
    assert note["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "b", "index": 1}
    assert invocation["toolConfigurationNotifications"] == [
        {"level": "warning", "message": {"text": "exception 1 expired"}},
        {"level": "note", "message": {"text": "no more found: BN201 on x"}},
    ]
    assert len(run["results"]) == 1


@pytest.mark.parametrize("allowed", [True, False])
def test_sarif_empty_gate(allowed: bool) -> None:
    run = _sarif(gate(empty_allowed=allowed))
    assert run["results"] == run["artifacts"] == []
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is allowed
    assert len(invocation["toolExecutionNotifications"]) == (0 if allowed else 1)


def test_sarif_keeps_the_worst_that_github_accepts() -> None:
    text = to_sarif(large_gate())
    run = json.loads(text)["runs"][0]
    levels = [each["level"] for each in run["results"]]
    counts = {level: levels.count(level) for level in ("error", "warning", "note")}
    assert counts == {"error": 10_000, "warning": 10_000, "note": 5_000}
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    (told,) = run["invocations"][0]["toolExecutionNotifications"]
    assert told["level"] == "warning"
    assert told["message"]["text"].startswith("5000 results are left out")
    assert run["invocations"][0]["executionSuccessful"] is True
    assert len(gzip.compress(text.encode())) < 10_000_000
    part = {**run, "results": run["results"][:20]}
    VALIDATOR.validate({"version": "2.1.0", "runs": [part]})


def test_sarif_of_hostile_names_is_valid() -> None:
    run = _sarif(hostile_gate())
    assert len(run["results"]) == 4 * len(HOSTILE)
    for text in _strings(run["results"]) + _strings(run["invocations"]):
        assert text.isprintable()
    for result in run["results"]:
        assert "](" not in result["message"]["text"].replace(r"\](", "")
    for artifact in run["artifacts"]:
        assert REFERENCE.fullmatch(artifact["location"]["uri"])


def test_sarif_breaks_a_link_behind_any_number_of_backslashes() -> None:
    texts = ["[a](b)", r"[a\](b)", r"[a\\](b)"]
    report = gate(audited("a", *(finding(layer="", message=each, advice="-") for each in texts)))
    told = [each["message"]["text"] for each in _sarif(report)["results"]]
    assert told == [r"[a\](b). -", r"[a\\\](b). -", r"[a\\\\\](b). -"]


def test_gitlab_entries_say_what_and_where() -> None:
    report = gate(
        audited(
            "./runs/a",
            finding(message="Initial.", advice="Do it."),
            finding("BN203", ""),
            finding("BN105"),
        ),
        audited("/abs/b", skipped=(Skipped("b.index", "cut\noff"),), layers=layers("x")),
    )
    entries = _gitlab(report)
    assert [(each["severity"], each["check_name"]) for each in entries] == [
        ("critical", "BN201"),
        ("minor", "BN203"),
        ("info", "BN105"),
        ("blocker", "not-audited"),
    ]
    assert entries[0]["description"] == "block/bn: Initial. Do it."
    assert entries[1]["description"].startswith("both are initial. ")
    assert entries[3]["description"] == r"b.index could not be audited: cut\noff"
    assert [each["location"]["path"] for each in entries] == ["runs/a"] * 3 + ["abs/b"]


def test_gitlab_fingerprints_are_stable_and_each_its_own() -> None:
    same = finding()
    one = gate(audited("a", same), audited("b", same))
    two = gate(audited("b", same), audited("a", same))
    assert [e["fingerprint"] for e in _gitlab(one)] == [
        e["fingerprint"] for e in reversed(_gitlab(two))
    ]
    both = audited("a", same, same)
    object.__setattr__(both, "fingerprints", ("0" * 16, "0" * 16))
    assert len(_gitlab(gate(both))) == 2


def test_gitlab_leaves_out_what_is_suppressed() -> None:
    assert _gitlab(gate(audited("a", suppressed=(suppressed(),)))) == []


def test_gitlab_empty_gate() -> None:
    assert to_gitlab(gate(empty_allowed=True)) == "[]\n"
    (entry,) = _gitlab(gate())
    assert entry["severity"] == "blocker"
    assert entry["location"]["path"] == "."


def test_gitlab_of_hostile_names_and_thousands_of_findings() -> None:
    entries = _gitlab(hostile_gate())
    assert len(entries) == 3 * len(HOSTILE) + len(HOSTILE) // 2
    assert all(each["description"].isprintable() for each in entries)
    assert len(json.loads(to_gitlab(large_gate()))) == 30_000
