"""JUnit XML: a suite for each checkpoint, a test case for each of its layers.

It follows Jenkins' schema (junit-10.xsd of its xunit-plugin), which GitLab's, Azure's and
CircleCI's readers accept, too. Nothing in it is made up: no time, no host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

from bncheck.report.escape import escape, escape_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bncheck.report.gate_model import Audited, GateReport, Suppressed
    from bncheck.report.model import FailOn, Skipped
    from bncheck.rules.rule import Finding

_WHOLE: Final = "(checkpoint)"
_COUNTED: Final = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def to_junit(report: GateReport) -> str:
    """Return the report as an XML document, with a line break at its end.

    A finding that fails its checkpoint is a failure of its layer's test case; what could not be
    audited is an error of the test case "(checkpoint)". A test case has one of the two at most,
    since most readers look at no second one.
    """
    root = ElementTree.Element("testsuites", {"name": "bncheck"})
    suites = [_suite(each) for each in report.checkpoints]
    root.extend(suites or [_empty(passes=report.empty_allowed)])
    for name in ("tests", "failures", "errors"):  # the schema knows no "skipped" here
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ElementTree.indent(root, " ")
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(checkpoint: Audited) -> ElementTree.Element:
    path = escape_name(checkpoint.path)
    findings: dict[str, list[Finding]] = {"": []}
    findings |= {layer.name: [] for layer in checkpoint.layers}
    for finding in checkpoint.findings:
        # A finding may be on a layer that only the graph has.
        findings.setdefault(finding.layer, []).append(finding)
    suppressed: dict[str, list[Suppressed]] = {}
    for each in checkpoint.suppressed:
        suppressed.setdefault(each.finding.layer, []).append(each)
    cases = []
    for layer in dict.fromkeys([*findings, *suppressed]):
        failing, others = _split(findings.get(layer, ()), checkpoint.fail_on)
        case = _case(path, escape_name(layer) or _WHOLE)
        _judge(case, failing, () if layer else checkpoint.skipped)
        _tell(case, others, suppressed.get(layer, ()))
        cases.append(case)
    return _counted(path, cases)


def _empty(*, passes: bool) -> ElementTree.Element:
    case = _case("bncheck", "nothing to audit")
    if not passes:
        error = {"message": "no checkpoint was found", "type": "not-audited"}
        ElementTree.SubElement(case, "error", error).text = "there is nothing to audit"
    return _counted("bncheck", [case])


def _case(suite: str, name: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", {"classname": suite, "name": name})


def _counted(name: str, cases: Sequence[ElementTree.Element]) -> ElementTree.Element:
    counts = {
        called: str(sum(case.find(tag) is not None for case in cases))
        for called, tag in _COUNTED.items()
    }
    suite = ElementTree.Element("testsuite", {"name": name, "tests": str(len(cases)), **counts})
    suite.extend(cases)
    return suite


def _split(findings: Iterable[Finding], fail_on: FailOn) -> tuple[list[Finding], list[Finding]]:
    """Part the findings that fail the checkpoint from those that do not, the worst first."""
    ordered = sorted(findings, key=lambda finding: -finding.level)
    threshold = fail_on.value
    if threshold is None:
        return [], ordered
    return [f for f in ordered if f.level >= threshold], [f for f in ordered if f.level < threshold]


def _judge(
    case: ElementTree.Element, failing: Sequence[Finding], skipped: Sequence[Skipped]
) -> None:
    """Say why a test case fails or, what is worse, could not be run."""
    blocks = [f"{escape_name(each.what)}: {escape(each.reason)}" for each in skipped]
    blocks += [_block(finding) for finding in failing]
    if skipped:
        what = f"could not be audited: {escape_name(skipped[0].what)}"
        attributes = {"message": what, "type": "not-audited"}
    elif failing:
        worst = failing[0]
        attributes = {"message": escape(worst.message), "type": worst.rule.code}
    else:
        return
    if len(blocks) > 1:
        attributes["message"] += f" (and {len(blocks) - 1} more)"
    element = ElementTree.SubElement(case, "error" if skipped else "failure", attributes)
    element.text = "\n\n".join(blocks)


def _tell(
    case: ElementTree.Element, others: Iterable[Finding], suppressed: Iterable[Suppressed]
) -> None:
    """Add what does not fail a test case."""
    blocks = [_block(finding) for finding in others]
    blocks += [
        f"suppressed by {each.by}: {_block(each.finding)}\nreason: {escape(each.reason)}"
        for each in suppressed
    ]
    if blocks:
        ElementTree.SubElement(case, "system-out").text = "\n\n".join(blocks)


def _block(finding: Finding) -> str:
    rule = finding.rule
    head = f"{finding.level} {rule.code} {rule.name}: {escape(finding.message)}"
    return f"{head}\n{escape(finding.help)}"
