"""The JSON report: its schema, its numbers, and names that want to be more than data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from bncheck import inspect, open_checkpoint
from bncheck.audit import Options
from bncheck.report.json_format import to_json
from bncheck.report.model import fingerprints
from tests.commands import FIXTURES, ROOT, bncheck
from tests.writers import write_bundle

SCHEMA = json.loads((ROOT / "bncheck/report/schema-v1.json").read_text("utf-8"))
MANIFEST = json.loads((FIXTURES / "MANIFEST.json").read_text("utf-8"))
AUDITED = sorted({entry["path"] for entry in MANIFEST if entry["exit"] != 3})


def _closed(schema: object) -> object:
    """Return the schema with every object closed: a field that it does not describe is an error."""
    if isinstance(schema, dict):
        closed = {key: _closed(value) for key, value in schema.items()}
        if "properties" in schema:
            closed["additionalProperties"] = False
        return closed
    return [_closed(each) for each in schema] if isinstance(schema, list) else schema


VALIDATOR = jsonschema.Draft202012Validator(_closed(SCHEMA))


def test_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", AUDITED)
def test_every_fixture_follows_the_schema(path: str) -> None:
    VALIDATOR.validate(json.loads(to_json(inspect(str(FIXTURES / path)))))


def test_numbers_are_those_of_the_values() -> None:
    path = str(FIXTURES / "tf1/no-update-ops/model.ckpt-60")
    values = open_checkpoint(path).read(["net/bn_in/gamma"]).arrays["net/bn_in/gamma"]
    report = json.loads(to_json(inspect(path)))
    layer = report["layers"][0]
    assert (layer["name"], layer["channels"], layer["momentum"], layer["epsilon"]) == (
        *("net/bn_in", 6, 0.9, 0.001),
    )
    gamma = layer["gamma"]
    wide = values.astype(np.float64)
    assert (gamma["min"], gamma["max"]) == (float(wide.min()), float(wide.max()))
    assert gamma["mean"] == pytest.approx(float(wide.mean()), rel=1e-15)
    assert gamma["std"] == pytest.approx(float(wide.std()), rel=1e-12)
    assert (gamma["nonfinite"], gamma["initial"], gamma["graph"]) == (0, False, "from-checkpoint")
    assert layer["moving_mean"]["initial"] is True
    assert report["assignment"]["matched"] == 13
    assert report["summary"] == {
        "layers": 2,
        "error": 2,
        "warning": 0,
        "note": 0,
        "suppressed": 0,
        "verdict": "fail",
    }


def test_missing_statistics_are_null() -> None:
    report = json.loads(to_json(inspect(str(FIXTURES / "tf1/trainable-saver/model.ckpt-60"))))
    assert report["layers"][0]["moving_mean"] is None
    assert report["layers"][0]["gamma"]["graph"] == "from-checkpoint"
    assert report["assignment"]["graph_only"] == [
        "net/bn_in/moving_mean",
        "net/bn_in/moving_variance",
        "net/bn_out/moving_mean",
        "net/bn_out/moving_variance",
        "global_step",
    ]
    assert report["findings"][0]["explains"] == ["BN101", "BN102"]


def test_suppressed_findings_are_counted() -> None:
    outcome = bncheck(
        "inspect",
        str(FIXTURES / "tf1/no-update-ops"),
        "--ignore",
        "BN201,BN501",
        "--format",
        "json",
    )
    summary = json.loads(outcome.out)["summary"]
    assert (summary["suppressed"], summary["error"], summary["verdict"]) == (2, 0, "pass")


def test_an_ignored_cause_gives_its_findings_back() -> None:
    arguments = ("inspect", str(FIXTURES / "tf1/trainable-saver"), "--format", "json")
    report = json.loads(bncheck(*arguments, "--ignore", "BN503").out)
    rules = [finding["rule"] for finding in report["findings"]]
    assert rules == ["BN101", "BN101", "BN102", "BN102"]
    assert report["summary"]["suppressed"] == 2


def test_all_variables_are_listed_on_request() -> None:
    arguments = ("inspect", str(FIXTURES / "tf1/healthy"), "--format", "json")
    assert "variables" not in json.loads(bncheck(*arguments).out)
    report = json.loads(bncheck(*arguments, "--all").out)
    VALIDATOR.validate(report)
    assert len(report["variables"]) == report["checkpoint"]["variables"] == 13
    assert report["variables"][0] == {
        "name": "global_step",
        "shape": [],
        "dtype": "int64",
        "full_name": None,
    }


def test_numbers_that_are_not_finite_are_null() -> None:
    report = json.loads(
        to_json(inspect(str(FIXTURES / "tf1/nan"))), parse_constant=lambda name: pytest.fail(name)
    )
    variance = report["layers"][0]["moving_variance"]
    assert variance["nonfinite"] == 6
    assert variance["mean"] is None


def test_fingerprints_hold_when_the_checkpoint_moves_and_its_numbers_change(tmp_path: Path) -> None:
    here = inspect(str(FIXTURES / "tf1/no-update-ops"))
    moved = shutil.copytree(FIXTURES / "tf1/no-update-ops", tmp_path / "elsewhere")
    there = inspect(str(moved))
    prints = fingerprints(here.layers, here.findings)
    assert prints == fingerprints(there.layers, there.findings)
    assert len(set(prints)) == 2

    alone = inspect(str(FIXTURES / "tf1/no-update-ops"), Options(use_graph=False))
    other = inspect(str(FIXTURES / "tf1/no-update-ops-no-meta"))
    assert fingerprints(alone.layers, alone.findings) == fingerprints(other.layers, other.findings)


@pytest.mark.parametrize(
    ("name", "undecided"),
    [
        ("wired-two-fetches", True),
        ("wired-none-restored", True),
        ("wired-control-dependencies", False),
        ("wired-none", False),
        ("no-update-ops", False),
        ("trainable-saver", False),
    ],
)
def test_what_the_graph_does_not_decide_is_said(name: str, undecided: bool) -> None:
    report = inspect(str(FIXTURES / "tf1" / name))
    told = (
        "no training step in it reaches the update ops of 1 layer; their statistics moved, so the "
        "program runs them itself, or has restored them"
    )
    assert json.loads(to_json(report))["graph"]["remarks"] == ([told] if undecided else [])


HOSTILE = {
    "ansi": b"\x1b[31mred/moving_mean",
    "markup": b"[bold red]x[/]/moving_mean",
    "emoji code": b":skull:/moving_mean",
    "newline": b"a\nb/moving_mean",
    "bidi": "\u202egnp.exe/moving_mean".encode(),
    "not UTF-8": b"\xff\xfe/moving_mean",
    "NUL": b"a\x00b/moving_mean",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_are_data(name: bytes, tmp_path: Path) -> None:
    layer = name.rpartition(b"/")[0]
    write_bundle(
        tmp_path / "m",
        {
            name: np.zeros(3, np.float32),
            layer + b"/moving_variance": np.ones(3, np.float32),
            layer + b"/gamma": np.array([1, 2, 3], np.float32),
        },
    )
    outcome = bncheck("inspect", str(tmp_path / "m"), "--color", "never")
    assert outcome.code == 1, outcome
    printable = outcome.out.replace("\n", "")
    assert printable.isprintable()
    shown = layer.decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    assert f"{shown}  untrained" in outcome.out
    report = json.loads(bncheck("inspect", str(tmp_path / "m"), "--format", "json").out)
    VALIDATOR.validate(report)
    assert report["layers"][0]["name"] == layer.decode("utf-8", "backslashreplace")
    json.dumps(report, ensure_ascii=False).encode("utf-8")


def test_very_long_names_are_cut_in_the_text_alone(tmp_path: Path) -> None:
    layer = "x" * 10_000
    write_bundle(
        tmp_path / "m",
        {
            f"{layer}/moving_mean": np.zeros(3, np.float32),
            f"{layer}/moving_variance": np.ones(3, np.float32),
        },
    )
    text = bncheck("inspect", str(tmp_path / "m")).out
    assert "(10000 characters)" in text
    assert max(map(len, text.splitlines())) < 1000
    report = json.loads(bncheck("inspect", str(tmp_path / "m"), "--format", "json").out)
    assert report["layers"][0]["name"] == layer
