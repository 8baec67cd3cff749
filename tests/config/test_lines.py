"""Where a key stands: spelled in every way that TOML has, and in time whatever the file is."""

from __future__ import annotations

import time

import pytest

from bncheck.config.lines import line_in, line_of

TEXT = """\
 a = 1
"b c" . 'd=e' = 2
[ t . "x]" ]  # ]
  k\t= 3
[[u]]
k = 4
[[ u ]]
k = 5
"q\\"" = 6
"""


@pytest.mark.parametrize(
    ("path", "number", "line"),
    [
        (["a"], 0, 1),
        (["b c", "d=e"], 0, 2),
        (["t", "x]"], 0, 3),
        (["t", "x]", "k"], 0, 4),
        (["u"], 0, 5),
        (["u"], 1, 7),
        (["u"], 2, 0),
        (["u", "k"], 0, 6),
        (["u", 'q\\"'], 0, 9),
        (["k"], 0, 0),
        (["a"], 1, 0),
    ],
)
def test_the_line_of_a_path(path: list[str], number: int, line: int) -> None:
    assert line_of(TEXT, path, number) == line


def test_the_line_of_a_key_in_one_of_several_tables() -> None:
    assert line_in(TEXT, 7, "k") == 8
    assert line_in(TEXT, 5, "k") == 6
    assert line_in(TEXT, 5, "gone") == 5


@pytest.mark.parametrize(
    "line", [" ", "a", "a ", "[", "[ ", "[a]", "[a] ", "'a'", '"a"', "''", ".", "a.", "[]#", '"']
)
def test_a_line_is_gone_through_once(line: str) -> None:
    for text in (line * 30_000, line + " " * 30_000 + "x", "[" + line * 30_000):
        start = time.perf_counter()
        line_of(text, ["a"])
        line_in(text, 0, "b")
        assert time.perf_counter() - start < 2
