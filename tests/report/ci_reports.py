"""Reports of a gate made by hand, and names that want to be more than names."""

from __future__ import annotations

from typing import Any, Final

from bncheck.report.gate_model import Audited, GateReport, LayerLine, Suppressed
from bncheck.report.model import Skipped
from bncheck.rules import find_rule
from bncheck.rules.rule import Finding, Level, Rule

HOSTILE: Final = (
    "",
    " ",
    "a\n::error::injected",
    "a\r\n##[error]injected",
    "::error file=x::injected",
    "%0A::error::injected",
    "]]>",
    "</failure><testcase/>",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\x1b[31mred\x1b[0m",
    "\x00\x08\x0b\x7f\x85",
    "\u202eright to left\u2066",
    "\u2028line\u2029paragraph\ufeff",
    "\ufffe\uffff",
    "\ud800 high \udfff low",
    "not utf-8 \udcff",
    "emoji \U0001f600",
    "a|b\\|c",
    "`` ` ```",
    "ends with a backslash\\",
    "@team and #1 and GH-1 and o/r#2",
    "[text](https://example.com) ![i](x) <https://example.com> www.example.com",
    "# title\n- [ ] task\n***bold***",
    "{0} {placeholder}",
    "file=a,title=b:c",
    "x" * 10_000,
    "\U0001f600|`" * 4_000,
)

PATHS: Final = {
    "models/a b#1%20.ckpt": "models/a%20b%231%2520.ckpt",
    "/abs/with space/#x/50%/model.ckpt-60": "file:///abs/with%20space/%23x/50%25/model.ckpt-60",
    "./runs//a": "runs/a",
    "c:odd/name": "c%3Aodd/name",
    "../up/ü": "../up/%C3%BC",
    "raw-\udcff": "raw-%FF",
    "//host/x": "file:///host/x",
    "/a:b/c": "file:///a:b/c",
}


def rule(code: str) -> Rule:
    found = find_rule(code)
    assert found is not None
    return found


def finding(
    code: str = "BN201",
    layer: str = "block/bn",
    message: str = "both are initial",
    level: Level | None = None,
    advice: str | None = None,
) -> Finding:
    its = rule(code)
    return Finding(
        rule=its,
        level=its.level if level is None else level,
        layer=layer,
        variables=(),
        message=message,
        help=its.fix if advice is None else advice,
    )


def prints(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """Fingerprints that differ, and do not depend on the path."""
    return tuple(f"{number:016x}" for number in range(len(findings)))


def audited(path: str = "models/a", *findings: Finding, **others: Any) -> Audited:
    return Audited(path=path, findings=findings, fingerprints=prints(findings), **others)


def layers(*names: str, status: str = "trained") -> tuple[LayerLine, ...]:
    return tuple(LayerLine(name, 8, status) for name in names)


def gate(*checkpoints: Audited, **others: Any) -> GateReport:
    return GateReport(checkpoints=checkpoints, **others)


def suppressed(code: str = "BN201", layer: str = "block/bn", reason: str = "known") -> Suppressed:
    return Suppressed(finding(code, layer), "f" * 16, "exception", reason)


def hostile_gate() -> GateReport:
    """Every hostile text in every place that can come from a file."""
    checkpoints = [
        audited(
            text or "empty",
            finding(layer=text, message=text or "-", advice=text or "-"),
            finding("BN203", text, text or "-"),
            finding("BN105", text, text or "-"),
            layers=layers(text, status=text),
            suppressed=(suppressed(layer=text, reason=text),),
            skipped=(Skipped(text, text),) if number % 2 else (),
        )
        for number, text in enumerate(HOSTILE)
    ]
    return gate(*checkpoints, warnings=HOSTILE, gone=HOSTILE, config="policy.toml")


def large_gate(number: int = 30_000) -> GateReport:
    """Thousands of findings of all three levels, each with a message of its own."""
    codes = ("BN105", "BN203", "BN201")
    findings = [finding(codes[n % 3], f"layer_{n}", f"message {n}") for n in range(number)]
    return gate(audited("models/large", *findings))
