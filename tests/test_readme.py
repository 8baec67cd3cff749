"""The README shows what the commands print: run this file with --write to bring it up to date."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from bncheck.rules import all_rules
from tests.commands import ROOT, bncheck

STOPPED = "fixtures/runs/tf1-updates-stopped/model.ckpt"
GATED = [f"fixtures/tf1/{name}" for name in ("healthy", "mean-only", "negative-variance")]
README = ROOT / "README.md"
_BLOCK = re.compile(r"<!-- (screen|help): (.*?) -->\n```text\n(.*?)```\n", re.DOTALL)
_RULES = re.compile(r"<!-- rules -->\n(.*?)\n(?=## )", re.DOTALL)


def _screen(kind: str, arguments: str) -> str:
    return bncheck(*arguments.split(), *(["--help"] if kind == "help" else [])).out


def _rules_table() -> str:
    rows = [f"| {r.code} | {r.name} | {r.level} | {r.summary} |" for r in all_rules()]
    return "\n".join(
        ["", "| code | name | level | holds when |", "| --- | --- | --- | --- |", *rows, ""]
    )


def test_screens_are_what_the_commands_print() -> None:
    blocks = _BLOCK.findall(README.read_text("utf-8"))
    assert [(kind, arguments) for kind, arguments, _ in blocks] == [
        ("screen", "inspect fixtures/tf1/no-update-ops"),
        ("screen", "inspect fixtures/keras3/no-training-argument/model.keras"),
        ("screen", "map fixtures/tf1/healthy --collection trainable"),
        ("screen", f"diff {STOPPED}-60 {STOPPED}-120"),
        ("screen", "history fixtures/runs/tf1-nan"),
        ("screen", f"gate --isolated -q {' '.join(GATED)}"),
        ("screen", "verify fixtures/tf1/healthy"),
        ("help", "inspect"),
    ]
    for kind, arguments, shown in blocks:
        assert shown == _screen(kind, arguments)


def test_rules_are_those_of_the_catalogue() -> None:
    match = _RULES.search(README.read_text("utf-8"))
    assert match is not None
    assert match[1] == _rules_table()


def test_promised_exit_codes_of_the_two_fixtures() -> None:
    assert bncheck("inspect", "fixtures/tf1/no-update-ops").code == 1
    assert bncheck("inspect", "fixtures/tf1/healthy").code == 0


def _write(path: Path) -> None:
    text = path.read_text("utf-8")
    text = _BLOCK.sub(
        lambda m: f"<!-- {m[1]}: {m[2]} -->\n```text\n{_screen(m[1], m[2])}```\n", text
    )
    text = _RULES.sub(lambda _: f"<!-- rules -->\n{_rules_table()}\n", text)
    path.write_text(text, "utf-8")


if __name__ == "__main__" and "--write" in sys.argv:
    _write(README)
