"""`--rename REGEX=REPLACEMENT`: where it splits, what it changes, what is refused."""

from __future__ import annotations

import re

import pytest

from bncheck.assignment.edits import apply_all, count_renamed, option_of, parse_rename


@pytest.mark.parametrize(
    ("option", "name", "changed"),
    [
        ("^net/=model/", "net/bn/gamma", "model/bn/gamma"),
        ("^net/=model/", "the/net/gamma", "the/net/gamma"),
        ("=x/", "gamma", None),
        ("^=x/", "gamma", "x/gamma"),
        ("/ExponentialMovingAverage$=", "a/ExponentialMovingAverage", "a"),
        (r"(\w+)/(\w+)$=\2/\1", "bn/gamma", "gamma/bn"),
        ("_v1(?=/|$)=", "net_v1/bn_v1", "net/bn"),  # the lookahead's = splits nothing
        (r"a\=b=c", "xa=b", "xc"),
        (r"c=a\=b", "xc", "xa=b"),
        ("bn((?:_[0-9]+)?)/=bn{1+2}/", "bn/gamma", "bn_2/gamma"),
        ("bn((?:_[0-9]+)?)/=bn{1+2}/", "bn_3/gamma", "bn_5/gamma"),
        ("bn((?:_[0-9]+)?)/=bn{1-3}/", "bn_3/gamma", "bn/gamma"),
        ("bn(_.)/=bn{1+1}/", "bn_x/gamma", "bn_x/gamma"),
        (r"bn(_\d+)/=bn{1+1}/", "bn_9999999999/gamma", "bn_10000000000/gamma"),
        (r"bn(_\d+)/=bn{1+1}/", f"bn_{'9' * 5000}/gamma", f"bn_{'9' * 5000}/gamma"),
    ],
)
def test_a_rename_is_a_substitution(option: str, name: str, changed: str | None) -> None:
    if changed is None:
        with pytest.raises(ValueError, match="form REGEX=REPLACEMENT"):
            parse_rename(option)
    else:
        assert parse_rename(option).apply(name) == changed


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("", "form REGEX"),
        ("net", "form REGEX"),
        (r"a\=b", "form REGEX"),
        ("(=x", "regular expression"),
        (r"a=\1", "invalid group reference"),
        ("a={1+2}", "no group 1"),
        (r"a=\q", "bad escape"),
        ("(a){99999999999999999999}=b", "regular expression"),
    ],
)
def test_what_is_no_rename_is_refused(option: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_rename(option)


def test_renames_apply_in_their_order_and_are_counted_so() -> None:
    edits = [parse_rename("^a/=b/"), parse_rename("^b/=c/")]
    assert apply_all(edits, "a/x") == "c/x"
    assert apply_all(edits[::-1], "a/x") == "b/x"
    assert count_renamed(edits, ["a/x", "b/y", "d/z"]) == [1, 2]


@pytest.mark.parametrize("literal", ["a=b", "a\\", "\\=", "{", "a\\=", "=", "x\ny"])
def test_an_option_that_is_made_is_read_as_it_was_meant(literal: str) -> None:
    pattern, replacement = f"^{re.escape(literal)}/", "b=c/"
    edit = parse_rename(option_of(pattern, replacement))
    assert edit.pattern.pattern == pattern
    assert edit.replacement == replacement
