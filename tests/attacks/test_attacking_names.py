"""Names made to harm whoever reads a report: a terminal, a log, a CI system, a parser."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.attacks.attack import attacked
from tests.writers import write_bundle, write_v1

if TYPE_CHECKING:
    from tests.commands import Outcome

ROLES = ("gamma", "beta", "moving_mean", "moving_variance")
SCOPES: dict[str, bytes] = {
    "escape": b"a\x1b[2J\x1b]0;owned\x07b",
    "C1": "a\u009b31mb\u0085c".encode(),
    "line breaks": b"a\n\r\n\x0b\x0c\xe2\x80\xa8b",
    "workflow command": b"a\n::error file=x,line=1::owned\n::set-output name=x::y",
    "starts like a command": b"::error file=x,line=1::owned",
    "workflow command of old": b"##[error]owned\r\n##vso[task.complete]",
    "backspaces": b"PASS" + b"\x08" * 40 + b"FAIL",
    "direction": "a\u202egnp.exe\u2066b\u200f".encode(),
    "invisible": "a\u200b\u2060\ufeff\u00adb\U000e0041".encode(),
    "markup": b"[red]a[/red][link=http://x]b[/link][/]",
    "markdown": b"a|b`c`<img src=x onerror=y>[d](http://x)\n\n# e",
    "HTML": b"<script>a</script>&lt;]]>--><!--",
    "no UTF-8": b"a\xff\xfe\xc3(\xed\xa0\x80b",
    "zero bytes": b"a\x00b\x00",
    "1 MB": b"n" * 1_000_000,
    "a million scopes": b"a/" * 500_000 + b"a",
    "slashes": b"/" * 10_000,
    "dots": b"../../../etc/passwd",
    "a format": b"{0.__class__}%s%n$(touch x)`touch x`",
    "half a megabyte of accents": "a\u0301".encode() * 100_000,
}
CI_FORMATS = ("json", "github", "gitlab", "junit", "markdown", "sarif")


def untrained(scope: bytes, folder: Path) -> Path:
    """Write a layer that no step has updated, so that a finding names it, and a trained one."""
    ramp, zeros = np.linspace(0.5, 1.4, 4, dtype=np.float32), np.zeros(4, np.float32)
    values = {"gamma": ramp, "beta": -ramp, "moving_mean": zeros, "moving_variance": zeros + 1}
    tensors = {scope + b"/" + role.encode(): value for role, value in values.items()}
    tensors |= {b"sane/" + role.encode(): ramp + number for number, role in enumerate(ROLES)}
    write_bundle(folder / "model.ckpt-1", tensors)
    return folder / "model.ckpt-1"


def parsed(form: str, text: str) -> None:
    """Check that a report is what its reader takes it for, and holds no more than it says."""
    if form in ("json", "sarif", "gitlab"):
        json.loads(text)
    elif form == "junit":
        ET.fromstring(text)  # noqa: S314 - bncheck's own
    elif form == "github":
        # A command is a line of its own, and all of them are bncheck's.
        said = [line for line in text.split("\n") if re.match(r"\s*(::|##\[|##vso)", line)]
        known = re.compile(r"::(error|warning|notice) (file=[^:,]*,)?title=(BN201 |bncheck%3A)")
        assert said
        assert all(known.match(line) for line in said)
    elif form == "markdown":
        assert "<img" not in re.sub(r"`+[^`]*`+", "", text)
        assert "<script" not in re.sub(r"`+[^`]*`+", "", text)


@pytest.mark.parametrize("name", SCOPES)
def test_a_layer_of_that_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "attack").mkdir()
    path = str(untrained(SCOPES[name], tmp_path / "attack"))
    outcome = attacked(tmp_path, "inspect", path, "--all")
    assert "model.ckpt-1" in outcome.out
    assert outcome.code == 1
    assert "BN201" in outcome.out
    check_lines(outcome)
    report = json.loads(attacked(tmp_path, "inspect", path, "--format", "json").out)
    assert any(finding["rule"] == "BN201" for finding in report["findings"])


@pytest.mark.parametrize("form", CI_FORMATS)
def test_all_names_in_each_format(tmp_path: Path, form: str) -> None:
    (tmp_path / "attack").mkdir()
    for number, scope in enumerate(SCOPES.values()):
        (tmp_path / "attack" / str(number)).mkdir()
        untrained(scope, tmp_path / "attack" / str(number))
    outcome = attacked(
        tmp_path, "gate", "-r", str(tmp_path / "attack"), "--format", form, "-j", "1"
    )
    assert outcome.code == 1
    assert "BN201" in outcome.out
    parsed(form, outcome.out)


OFTEN = ("escape", "workflow command of old", "direction", "no UTF-8", "1 MB")
COMMANDS = [
    ("diff", "{}", "{}"),
    ("map", "{}", "--graph", "{}"),
    ("history", "-j", "1", "{}", "{}"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow)
        for name in SCOPES
        if name != "a million scopes"
    ],
)
def test_other_commands(tmp_path: Path, name: str, command: tuple[str, ...]) -> None:
    places = []
    for folder in ("attack", "attack2"):
        (tmp_path / folder).mkdir()
        places.append(str(untrained(SCOPES[name], tmp_path / folder)))
    given = iter(places)
    outcome = attacked(tmp_path, *(next(given) if part == "{}" else part for part in command))
    assert outcome.code in (0, 1)
    check_lines(outcome)


def check_lines(outcome: Outcome) -> None:
    assert outcome.out
    # Each of these would be a command to a CI system that shows the log.
    assert not re.search(r"(?m)^\s*::|##\[|##vso", outcome.out)
    # A name is cut where a person reads it.
    assert len(outcome.out) < 40_000


def test_files_of_such_names(tmp_path: Path) -> None:
    """A path is a name, too: that of a checkpoint that is there, and of one that is not."""
    folder = tmp_path / "attack"
    folder.mkdir()
    for number, scope in enumerate(SCOPES.values()):
        if len(scope) > 200 or b"\0" in scope or b"/" in scope:
            continue
        for make in (write_bundle, write_v1):
            place = folder / f"{make.__name__}{number}" / scope.decode("utf-8", "surrogateescape")
            place.mkdir(parents=True)
            make(place / "m", {f"bn/{role}": np.ones(3, np.float32) for role in ROLES})
        outcome = attacked(tmp_path, "inspect", str(place))
        assert outcome.code == 1
        outcome = attacked(tmp_path, "inspect", str(place / "gone"))
        assert outcome.code == 3
        assert outcome.err.startswith("bncheck: ")
        assert outcome.err.count("\n") == 1
