"""Workflow commands, read back as GitHub's runner reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from bncheck.report.github import to_github
from bncheck.report.model import Skipped
from tests.report.ci_reports import HOSTILE, audited, finding, gate, hostile_gate, large_gate

if TYPE_CHECKING:
    from bncheck.report.gate_model import GateReport


class Command(NamedTuple):
    name: str
    properties: dict[str, str]
    message: str


def _unescape(text: str, pairs: dict[str, str]) -> str:
    for token, written in {"\r": "%0D", "\n": "%0A", **pairs, "%": "%25"}.items():
        text = text.replace(written, token)
    return text


def _parse(line: str) -> Command:
    """Read one line as ActionCommand.TryParseV2 of actions/runner does."""
    assert line.startswith("::")
    info, separator, message = line[2:].partition("::")
    assert separator
    name, _, told = info.partition(" ")
    assert name in ("error", "warning", "notice")
    properties = {}
    for pair in filter(None, told.split(",")):
        key, _, value = pair.partition("=")
        assert key not in properties
        properties[key] = _unescape(value, {":": "%3A", ",": "%2C"})
    return Command(name, properties, _unescape(message, {}))


def _github(report: GateReport) -> list[Command]:
    text = to_github(report)
    text.encode()
    # The runner, too, reads lines: whatever ends one for anybody would do.
    lines = text.splitlines()
    assert "".join(f"{line}\n" for line in lines) == text
    commands = [_parse(line) for line in lines]
    for each in commands:
        assert set(each.properties) <= {"file", "title"}
        assert 0 < len(each.message) <= 4096
    names = [each.name for each in commands]
    assert names == sorted(names, key=["error", "warning", "notice"].index)
    assert all(names.count(name) <= 10 for name in set(names))
    return commands


def test_findings_alike_are_one_annotation() -> None:
    report = gate(
        audited(
            "./models/a,b:c%.ckpt",
            finding("BN105", "n", "note", advice="-"),
            finding("BN201", "a", "initial, all: 100%", advice="Do it."),
            finding("BN201", "b", "initial, all: 100%", advice="Do it."),
            finding("BN201", "c", "initial, all: 100%", advice="Do that."),
        )
    )
    file = "models/a,b:c%.ckpt"
    title = "BN201 untrained-statistics"
    assert _github(report) == [
        ("error", {"file": file, "title": title}, "initial, all: 100%\nDo it.\n2 layers: a, b"),
        ("error", {"file": file, "title": title}, "initial, all: 100%\nDo that.\n1 layer: c"),
        ("notice", {"file": file, "title": "BN105 ambiguous-roles"}, "note\n-\n1 layer: n"),
    ]
    first = to_github(report).splitlines()[0]
    assert first == (
        "::error file=models/a%2Cb%3Ac%25.ckpt,title=BN201 untrained-statistics"
        "::initial, all: 100%25%0ADo it.%0A2 layers: a, b"
    )


def test_what_could_not_be_audited_comes_first() -> None:
    report = gate(
        audited("a", finding("BN204", "", "never", advice="-")),
        audited("b", skipped=(Skipped("b.index", "cut\noff"),)),
        warnings=("exception 1 expired",),
        gone=("BN201 on x", "BN201 on y"),
        config="policy.toml",
        baseline="baseline.json",
    )
    assert _github(report) == [
        (
            "error",
            {"file": "b", "title": "bncheck: not audited"},
            r"b.index could not be audited: cut\noff",
        ),
        ("error", {"file": "a", "title": "BN204 never-trained"}, "never\n-"),
        ("warning", {"file": "policy.toml", "title": "bncheck policy"}, "exception 1 expired"),
        (
            "notice",
            {"file": "baseline.json", "title": "bncheck baseline"},
            "2 of the baseline's findings are no more: BN201 on x, BN201 on y",
        ),
    ]


@pytest.mark.parametrize(("allowed", "name"), [(True, "notice"), (False, "error")])
def test_an_empty_gate_says_so(allowed: bool, name: str) -> None:
    (command,) = _github(gate(empty_allowed=allowed))
    assert command.name == name
    assert command.message == "no checkpoint was found: there is nothing to audit"


def test_a_gate_that_passes_says_nothing() -> None:
    assert to_github(gate(audited())) == ""


@pytest.mark.parametrize(("number", "last"), [(10, "message 9"), (11, "2 more of this level")])
def test_the_tenth_counts_the_rest(number: int, last: str) -> None:
    found = [finding(layer=f"l{n}", message=f"message {n}") for n in range(number)]
    commands = _github(gate(audited("a", *found)))
    assert len(commands) == 10
    assert commands[8].message.startswith("message 8\n")
    assert commands[9].message.startswith(last)


def test_the_rest_is_counted_in_findings() -> None:
    commands = _github(large_gate())
    assert len(commands) == 30
    assert [each.message.split(" ")[0] for each in commands if "title" in each.properties][
        9::10
    ] == ["9991"] * 3


def test_many_layers_are_counted_where_they_are_cut() -> None:
    found = [finding(layer=f"a/long/name/of/a/layer_{n}") for n in range(3000)]
    (command,) = _github(gate(audited("a", *found)))
    assert "\n3000 layers: a/long/name/of/a/layer_0, " in command.message
    assert len(command.message) == 4096
    assert command.message.endswith("…")


def test_hostile_names_inject_nothing() -> None:
    commands = _github(hostile_gate())
    assert [each.name for each in commands].count("error") == 10
    for number, text in enumerate(HOSTILE):
        told = _github(
            gate(
                audited(
                    text,
                    finding(layer=text, message=text or "-", advice=text),
                    skipped=(Skipped(text, text),),
                ),
                warnings=(text or "-",),
                gone=(text,),
                config=text,
                baseline=text,
            )
        )
        assert [each.name for each in told] == ["error", "error", "warning", "notice"], number
        assert {each.properties["title"] for each in told} == {
            "bncheck: not audited",
            "BN201 untrained-statistics",
            "bncheck policy",
            "bncheck baseline",
        }
        for each in told:
            assert all(line.isprintable() for line in each.message.split("\n"))
            assert each.properties.get("file", "").isprintable()
