"""Names that cannot be encoded as they are."""

from __future__ import annotations

import pytest

from bncheck.report.escape import encodable, escape
from bncheck.report.model import _bytes


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain", "plain"),
        ("\u00e9\U0001f600", "\u00e9\U0001f600"),
        ("\udcff\u00e9", "\\xff\u00e9"),
        ("\ud800\u00e9\udfff", "\\ud800\u00e9\\udfff"),
    ],
)
def test_half_a_character_is_written_out(text: str, written: str) -> None:
    assert encodable(text) == written
    encodable(text).encode()
    assert "\ud800" not in escape(text)


def test_a_fingerprint_rests_on_the_bytes_of_the_file_where_there_are_some() -> None:
    assert _bytes("\u00e9\udcff") == b"\xc3\xa9\xff"
    assert _bytes("\ud800") == b"\\ud800"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("::error file=x::y", r":\x3aerror file=x::y"),
        ("a ::Set-Output name=x::y", r"a :\x3aSet-Output name=x::y"),
        # Where a line is folded cannot be told, so that no place is safe.
        ("aaa::stop-commands::x", r"aaa:\x3astop-commands::x"),
        (":::warning::x", r"::\x3awarning::x"),
        ("x\n::debug::y", r"x\n:\x3adebug::y"),
        ("##[error]x", r"#\x23[error]x"),
        ("x##vso[task.complete]", r"x#\x23vso[task.complete]"),
        ("###[x", r"##\x23[x"),
        ("std::vector ## x", "std::vector ## x"),
        ("s3://x:1:2", "s3://x:1:2"),
    ],
)
def test_no_name_is_a_command_of_a_ci_system(text: str, written: str) -> None:
    assert escape(text) == written
