"""Markdown, read back with a parser: what comes from a file is code, and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt

from bncheck.report.markdown import to_markdown
from bncheck.report.model import FailOn, Skipped
from bncheck.rules import all_rules
from bncheck.rules.rule import Evidence, Finding, Level, Rule
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
    from collections.abc import Iterator

    from markdown_it.token import Token

    from bncheck.report.gate_model import GateReport

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
DETAILS = re.compile(
    r"(<details><summary><b>BN\d{3} [a-z0-9-]+</b> \((error|warning|note)\)(: \d+ layers?)?"
    r"</summary>|</details>)\n?"
)
OURS = {
    "heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "html_block",
    "bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close",
    "table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close",
    "tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close",
    "text", "code_inline", "softbreak",
}  # fmt: skip


def _tokens(text: str) -> Iterator[Token]:
    for token in PARSER.parse(text):
        yield token
        yield from token.children or ()


def _markdown(report: GateReport, limit: int = 65_000) -> str:
    """Return a page that is no longer than it may be, and has no markup but bncheck's own."""
    text = to_markdown(report, limit=limit)
    assert len(text.encode()) <= limit
    assert all(line.isprintable() for line in text.split("\n"))
    tokens = list(_tokens(text))
    assert {token.type for token in tokens} <= OURS
    assert all(DETAILS.fullmatch(t.content) for t in tokens if t.type == "html_block")
    assert text.count("<details>") == text.count("</details>")
    return text


def _rows(text: str) -> list[list[str]]:
    cells = [
        "".join(child.content for child in token.children or ())
        for token in PARSER.parse(text)
        if token.type == "inline" and token.level == 4 and token.map is not None
    ]
    return [cells[start : start + 6] for start in range(0, len(cells), 6)]


def test_page_of_several_checkpoints() -> None:
    report = gate(
        audited("ok", finding("BN203"), layers=layers("block/bn")),
        audited(
            "bad",
            finding("BN201", "a", "both are initial"),
            finding("BN201", "b_c", "both are initial"),
            finding("BN105", "", "a note", advice="look at `x`"),
            layers=(*layers("a", "b_c", status="untrained"), *layers("d")),
            suppressed=(suppressed(),),
        ),
        audited("broken", skipped=(Skipped("broken.index", "cut off"),)),
        warnings=("exception 1 expired",),
        gone=("BN201 on x",),
    )
    text = _markdown(report)
    assert text.startswith(
        "## bncheck: NOT AUDITED\n\n"
        "3 checkpoints (1 NOT AUDITED, 1 FAIL, 1 PASS), 2 errors, 1 warning, 1 note, 1 suppressed\n"
    )
    assert _rows(text) == [
        ["checkpoint", "verdict", "layers", "errors", "warnings", "notes"],
        ["broken", "NOT AUDITED", "none", "0", "0", "0"],
        ["bad", "FAIL", "2 untrained, 1 trained", "2", "0", "1"],
        ["ok", "PASS", "1 trained", "0", "1", "0"],
    ]
    assert (
        "\n### `broken`\n\n- could not be audited: `broken.index`: `cut off`\n\n### `bad`\n\n\n"
        "<details><summary><b>BN201 untrained-statistics</b> (error): 2 layers</summary>\n\n"
        "`both are initial`\n\n- `a`\n- `b_c`\n\n"
    ) in text
    assert (
        "<details><summary><b>BN105 ambiguous-roles</b> (note)</summary>\n\n"
        r"`a note`" + "\n\n"
        r"`look at \x60x\x60`" + "\n\n</details>\n"
    ) in text
    assert "\n### Policy\n\n- `exception 1 expired`\n" in text
    assert text.endswith("\n### No more found, though in the baseline\n\n- `BN201 on x`\n")
    assert "### `ok`" not in text


def test_rules_own_words_are_prose() -> None:
    for rule in all_rules():
        page = _markdown(gate(audited("a", finding(rule.code), fail_on=FailOn.NOTE)))
        paragraphs = {
            "".join(child.content for child in token.children or ()): token.children
            for token in PARSER.parse(page)
            if token.type == "inline"
        }
        children = paragraphs[rule.fix.replace("`", "")]
        assert children is not None
        spans = [child.content for child in children if child.type == "code_inline"]
        assert spans == rule.fix.split("`")[1::2]


def test_rules_own_words_are_no_markup() -> None:
    def check(_: Evidence) -> list[Finding]:
        """Fix: *a* `b_*c*` [d](e) <i> &amp; ~~f~~ _g_ !"""
        return []

    its = Rule("BN999", "own", Level.ERROR, check)
    its_finding = replace(finding(), rule=its, help=its.fix)
    page = _markdown(gate(audited("a", its_finding)))
    texts = [token.content for token in _tokens(page) if token.type == "text"]
    assert "".join(texts).endswith("*a*  [d](e) <i> &amp; ~~f~~ _g_ !")
    assert "b_*c*" in [token.content for token in _tokens(page) if token.type == "code_inline"]


def test_empty_gate() -> None:
    assert _markdown(gate()) == (
        "## bncheck: NOT AUDITED\n\nno checkpoint, 0 errors, 0 warnings, 0 notes\n\n"
    )
    assert _markdown(gate(empty_allowed=True)).startswith("## bncheck: PASS\n\nno checkpoint, ")


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_names_are_code(number: int) -> None:
    text = HOSTILE[number]
    report = gate(
        audited(
            text,
            finding(layer=text or "-", message=text, advice=text),
            layers=layers("x", status=text),
            skipped=(Skipped(text, text),),
        ),
        warnings=(text,),
        gone=(text,),
    )
    page = _markdown(report, 1_000_000)
    assert page.count("<details>") == 1
    assert [len(row) for row in _rows(page)] == [6, 6]
    assert _rows(page)[1][1] == "NOT AUDITED"
    prose = {token.content for token in _tokens(page) if token.type == "text"}
    fixed = {token.content for token in _tokens(_markdown(gate(audited()))) if token.type == "text"}
    fixed |= {
        "1 checkpoint (1 NOT AUDITED), 1 error, 0 warnings, 0 notes", "bncheck: NOT AUDITED",
        "could not be audited: ", ": ", "Policy", "No more found, though in the baseline",
        "NOT AUDITED", "1 ", "1", "", "(empty)", "could not be audited: (empty): (empty)",
        "1 (empty)",
    }  # fmt: skip
    assert prose <= fixed
    assert "Left out" not in page


@pytest.mark.parametrize("limit", [0, 40, 200, 500, 1_000, 5_000, 20_000, 65_000])
def test_no_page_is_too_long(limit: int) -> None:
    for report in (hostile_gate(), large_gate(2_000)):
        text = to_markdown(report, limit=limit)
        assert len(text.encode()) <= limit
        if limit >= 200:
            _markdown(report, limit)
            assert re.match(r"## bncheck: (NOT AUDITED|FAIL)\n\n\d+ checkpoints? \(", text)
        if 500 <= limit <= 20_000:
            assert f"\nLeft out, to stay within {limit} bytes: " in text


def test_what_is_left_out_is_counted() -> None:
    findings = [finding("BN201", f"layer_{n}", f"message {n // 2}") for n in range(2_000)]
    bad = audited("bad", *findings)
    good = [audited(f"models/{n}") for n in range(2_000)]
    warnings = tuple(f"warning {n}" for n in range(2_000))
    text = _markdown(gate(*good, bad, warnings=warnings, gone=warnings))
    told = re.search(
        r"\nLeft out, to stay within 65000 bytes: (\d+) table rows, (\d+) findings, "
        r"(\d+) policy warnings, (\d+) baseline entries\.\n\Z",
        text,
    )
    assert told is not None
    rows, findings_left, policy, gone = map(int, told.groups())
    groups = findings_left // 2  # two findings say the same
    assert len(_rows(text)) - 1 == 2_001 - rows
    assert text.count("<details>") == 1_000 - groups
    assert text.count("- `warning ") == 4_000 - policy - gone
    # No part takes the room of the next.
    assert min(2_001 - rows, 1_000 - groups, 2_000 - policy, 2_000 - gone) > 20
    assert _rows(text)[1][0] == "bad"
    assert len(text.encode()) > 60_000


def test_thousands_of_findings_fit() -> None:
    text = _markdown(large_gate())
    assert "1 checkpoint (1 FAIL), 10000 errors, 10000 warnings, 10000 notes\n" in text
    assert "BN203" not in text  # the errors alone fill the page
    found = [finding(layer=f"layer_{n}") for n in range(30_000)]
    text = _markdown(gate(audited("a", *found)))
    assert "(error): 30000 layers</summary>" in text
    assert "- `layer_49`\n- and 29950 more\n" in text


def test_a_group_of_endless_names_is_told_without_them() -> None:
    found = [finding(layer="\U0001f600" * 490 + str(n)) for n in range(40)]
    text = _markdown(gate(audited("a", *found)))
    assert "(error): 40 layers</summary>\n\n`both are initial`\n\n" in text
    assert "\U0001f600" not in text
    assert "Left out" not in text
