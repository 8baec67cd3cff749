"""JUnit XML: Jenkins' schema, the counts, and names that XML cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from bncheck.report.junit import to_junit
from bncheck.report.model import FailOn, Skipped, Verdict
from bncheck.rules.rule import Level
from tests.commands import ROOT
from tests.report.ci_reports import (
    HOSTILE,
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

XS = "{http://www.w3.org/2001/XMLSchema}"
# All that is parsed here is bncheck's own.
SCHEMA = ElementTree.parse(ROOT / "tests/schemas/junit-10.xsd").getroot()  # noqa: S314
ELEMENTS = {each.get("name"): each for each in SCHEMA.findall(f"{XS}element")}


def _validate(element: ElementTree.Element) -> None:
    """Check what the schema says of an element: its attributes, its children, its text.

    All that bncheck writes are references without an order of their own, so that no more of XSD is
    needed.
    """
    declared = ELEMENTS[element.tag]
    attributes = {each.get("name"): each for each in declared.iter(f"{XS}attribute")}
    assert set(element.keys()) <= set(attributes)
    required = {name for name, each in attributes.items() if each.get("use") == "required"}
    assert required <= set(element.keys())
    allowed = {each.get("ref") for each in declared.iter(f"{XS}element")} - {None}
    for child in element:
        assert child.tag in allowed
        _validate(child)
    content = declared.find(f"{XS}complexType")
    if content is not None and content.get("mixed") != "true":
        assert not (element.text or "").strip()


def _junit(report: GateReport) -> ElementTree.Element:
    """Return the root of a document that follows the schema and counts right."""
    text = to_junit(report)
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites ')
    root = ElementTree.fromstring(text.encode())  # noqa: S314
    _validate(root)
    for parent in (root, *root):
        for name, tag in (("failures", "failure"), ("errors", "error"), ("tests", "testcase")):
            assert int(parent.get(name, "-1")) == len(list(parent.iter(tag)))
    for suite in root:
        assert suite.get("skipped") == "0"
        for case in suite:
            assert case.get("classname") == suite.get("name")
            assert len(case.findall("failure") + case.findall("error")) <= 1
    return root


def _cases(root: ElementTree.Element) -> dict[str, str]:
    return {
        case.get("name", ""): next((e.tag for e in case if e.tag != "system-out"), "passes")
        for case in root.iter("testcase")
    }


def test_the_schema_would_notice() -> None:
    for text in (
        "<testsuites><testcase name='x'/></testsuites>",
        "<testsuite name='x' tests='0' failures='0'/>",
        "<testcase name='x' file='y'/>",
        "<testsuites>text</testsuites>",
    ):
        with pytest.raises(AssertionError):
            _validate(ElementTree.fromstring(text))  # noqa: S314


def test_findings_fail_their_layers() -> None:
    report = gate(
        audited(
            "models/a",
            finding("BN201", "a", advice="Do it."),
            finding("BN203", "b"),
            finding("BN401", "only/in/graph"),
            layers=layers("a", "b", "c"),
        )
    )
    root = _junit(report)
    assert _cases(root) == {
        "(checkpoint)": "passes",
        "a": "failure",
        "b": "passes",
        "c": "passes",
        "only/in/graph": "failure",
    }
    (suite,) = root
    assert suite.attrib == {
        "name": "models/a",
        "tests": "5",
        "failures": "2",
        "errors": "0",
        "skipped": "0",
    }
    failure = next(root.iter("failure"))
    assert failure.attrib == {"message": "both are initial", "type": "BN201"}
    assert failure.text == "error BN201 untrained-statistics: both are initial\nDo it."
    (out,) = root.iter("system-out")
    assert (out.text or "").startswith("warning BN203 untrained-layer: both are initial\n")


@pytest.mark.parametrize(
    ("fail_on", "failing"),
    [
        (FailOn.ERROR, ["a"]),
        (FailOn.WARNING, ["a", "b"]),
        (FailOn.NOTE, ["a", "b", "c"]),
        (FailOn.NEVER, []),
    ],
)
def test_what_fails_is_for_the_policy_to_say(fail_on: FailOn, failing: list[str]) -> None:
    found = (finding("BN201", "a"), finding("BN203", "b"), finding("BN105", "c"))
    checkpoint = audited("x", *found, layers=layers("a", "b", "c"), fail_on=fail_on)
    root = _junit(gate(checkpoint))
    assert [name for name, tag in _cases(root).items() if tag == "failure"] == failing
    assert len(list(root.iter("system-out"))) == 3 - len(failing)
    assert (checkpoint.verdict is Verdict.FAIL) == bool(failing)


def test_several_findings_on_one_layer_are_one_failure() -> None:
    found = (finding("BN203", "a", "less bad", Level.WARNING), finding("BN201", "a", "worst"))
    root = _junit(gate(audited("x", *found, fail_on=FailOn.WARNING)))
    (failure,) = root.iter("failure")
    assert failure.attrib == {"message": "worst (and 1 more)", "type": "BN201"}
    assert "warning BN203 untrained-layer: less bad\n" in (failure.text or "")


def test_what_could_not_be_audited_is_an_error() -> None:
    skipped = (Skipped("a.index", "cut off"), Skipped("layer b", "a shard is missing"))
    root = _junit(gate(audited("x", finding("BN204", ""), skipped=skipped, layers=layers("b"))))
    assert _cases(root) == {"(checkpoint)": "error", "b": "passes"}
    (error,) = root.iter("error")
    assert error.attrib == {
        "message": "could not be audited: a.index (and 2 more)",
        "type": "not-audited",
    }
    told = (error.text or "").split("\n\n")
    assert told[:2] == ["a.index: cut off", "layer b: a shard is missing"]
    assert told[2].startswith("error BN204 never-trained: ")


def test_suppressed_findings_pass_and_say_why() -> None:
    root = _junit(gate(audited("x", suppressed=(suppressed(layer="a", reason="bug 12"),))))
    assert _cases(root) == {"(checkpoint)": "passes", "a": "passes"}
    (out,) = root.iter("system-out")
    assert (out.text or "").startswith("suppressed by exception: error BN201 ")
    assert (out.text or "").endswith("\nreason: bug 12")


def test_an_empty_gate_is_seen() -> None:
    passes, fails = _junit(gate(empty_allowed=True)), _junit(gate())
    assert _cases(passes) == {"nothing to audit": "passes"}
    assert _cases(fails) == {"nothing to audit": "error"}
    assert [suite.get("name") for suite in passes] == ["bncheck"]


def test_hostile_names_are_text() -> None:
    root = _junit(hostile_gate())
    assert [len(suite) for suite in root] == [1] + [2] * (len(HOSTILE) - 1)
    for element in root.iter():
        told = [element.text or "", *element.attrib.values()]
        assert all(line.isprintable() for text in told for line in text.split("\n"))
    assert "]]>" in {case.get("name") for case in root.iter("testcase")}


def test_thousands_of_findings() -> None:
    root = _junit(large_gate())
    assert (root.get("tests"), root.get("failures")) == ("30001", "10000")
