"""`bncheck diff` as a person and a program see it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.commands import FIXTURES, ROOT, bncheck, bncheck_here

SCHEMA = json.loads((ROOT / "bncheck/report/diff-schema-v1.json").read_text("utf-8"))
RUNS = FIXTURES / "runs"
HEALTHY = [str(RUNS / f"tf1-healthy/model.ckpt-{step}") for step in (20, 120)]
START = str(RUNS / "tf1-updates-never-run/model.ckpt-0")
NEVER = [str(RUNS / f"tf1-updates-never-run/model.ckpt-{step}") for step in (20, 120)]


def _json(*arguments: str) -> dict[str, Any]:
    outcome = bncheck_here("diff", *arguments, "--format", "json")
    content = json.loads(outcome.out)
    jsonschema.validate(content, SCHEMA)
    return content


def test_json_of_every_run_fits_the_schema() -> None:
    runs = json.loads((FIXTURES / "RUNS.json").read_text("utf-8"))
    for run in runs:
        ends = [str(FIXTURES / run["checkpoints"][n]["path"]) for n in (0, -1)]
        content = _json(*ends)
        assert [content[side]["path"] for side in "ab"] == ends
        assert content["summary"]["layers"] == len(content["layers"])


def test_json_of_a_healthy_pair() -> None:
    content = _json(*HEALTHY)
    assert (content["a"]["step"], content["b"]["step"]) == (20, 120)
    assert content["findings"] == []
    assert content["others"]["weights"] == {"identical": 0, "differ": 5}
    layer = content["layers"][0]
    assert (layer["name"], layer["paired_by"], layer["channels"]) == ("net/bn_1", "name", 6)
    assert layer["divergence"] == pytest.approx(0.964, abs=1e-3)
    mean = layer["roles"]["moving_mean"]
    assert (mean["change"], mean["a"]["name"]) == ("moved", "net/bn_1/moving_mean")
    assert mean["shift"] == pytest.approx(1.0, abs=0.05)
    assert layer["roles"]["moving_variance"]["ratio"] == pytest.approx(1.3, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (HEALTHY, 0),
        (NEVER, 1),
        ([*NEVER, "--fail-on", "never"], 0),
        ([*NEVER, "--ignore", "BN601"], 0),  # both sides are BN201, so that it is not new
        ([START, NEVER[1], "--ignore", "BN601"], 1),  # new, and no longer explained
        ([START, NEVER[1], "--ignore", "BN601,BN201"], 0),
        ([*NEVER, "--select", "BN602"], 0),
        ([*NEVER, "--layer", "other*"], 0),
        ([*NEVER, "--layer", "net/bn_2"], 1),
        ([str(RUNS / "tf1-renamed-scope/model.ckpt-100"), HEALTHY[0]], 0),
        ([HEALTHY[0], str(RUNS / "tf1-healthy/model.ckpt-7")], 3),
        ([HEALTHY[0]], 2),
        ([*HEALTHY, "--tolerance", "1"], 2),
        ([*HEALTHY, "--tolerance", "nan"], 2),
        ([*HEALTHY, "--top", "-1"], 2),
        ([*HEALTHY, "--select", "BN999"], 2),
        (["--help"], 0),
    ],
)
def test_exit_codes(arguments: list[str], code: int) -> None:
    outcome = bncheck_here("diff", *arguments)
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err


def test_never_updated_twice_before_is_not_new() -> None:
    """From step 20 to 120 both sides are BN201; what is new is that nothing moved."""
    assert [each["rule"] for each in _json(*NEVER)["findings"]] == ["BN601"] * 3
    assert [each["explains"] for each in _json(*NEVER)["findings"]] == [["BN201"]] * 3


def test_layer_and_top() -> None:
    content = _json(*HEALTHY, "--layer", "*_2")
    assert [each["name"] for each in content["layers"]] == ["net/bn_2"]
    screen = bncheck("diff", *HEALTHY, "--top", "1").out
    assert "net/bn_1" in screen
    assert "net/bn_2" not in screen
    assert "and 2 more that moved less (--top 0 shows them all)" in screen
    assert "net/bn_2" in bncheck("diff", *HEALTHY, "--top", "0").out


def test_tolerance_hides_what_is_small() -> None:
    strict = _json(*HEALTHY)
    assert strict["summary"]["identical"] == 0
    loose = _json(*HEALTHY, "--tolerance", "0.99")
    assert loose["tolerance"] == 0.99
    assert {role["change"] for e in loose["layers"] for role in e["roles"].values()} <= {
        "within-tolerance",
        "moved",
    }
    assert loose["others"]["weights"]["differ"] < 5


def test_the_second_may_be_the_older_one() -> None:
    outcome = bncheck("diff", *reversed(HEALTHY))
    assert "the second is the older one: step 20, and the first is of step 120" in outcome.out


def test_a_half_copied_checkpoint_is_not_audited(tmp_path: Path) -> None:
    for name in ("model.ckpt-120.index", "model.ckpt-120.data-00000-of-00001"):
        shutil.copy(RUNS / "tf1-healthy" / name, tmp_path / name)
    data = tmp_path / "model.ckpt-120.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-40])
    outcome = bncheck("diff", HEALTHY[0], str(tmp_path / "model.ckpt-120"))
    assert outcome.code == 3
    assert "NOT AUDITED" in outcome.out
    assert "ends at byte" in outcome.out.replace("\n  ", " ")
    data.unlink()
    outcome = bncheck("diff", HEALTHY[0], str(tmp_path / "model.ckpt-120"))
    assert outcome.code == 3
    assert "this data file is missing" in outcome.out.replace("\n  ", " ")


def test_a_damaged_weight_that_must_be_read_is_not_audited(tmp_path: Path) -> None:
    """Against a V1 checkpoint, the weights' own bytes are compared with the stored checksums."""
    run = RUNS / "tf1-two-formats"
    v1 = tmp_path / "model.ckpt-100"
    data = bytearray((run / "v1/model.ckpt-100").read_bytes())
    data[len(data) // 2] ^= 1
    v1.write_bytes(bytes(data))
    outcome = bncheck_here("diff", str(run / "checkpoint"), str(v1))
    assert outcome.code == 3


def test_reports_are_written_to_files(tmp_path: Path) -> None:
    target = tmp_path / "diff.json"
    outcome = bncheck("diff", *NEVER, "--format", "json", "-o", str(target))
    assert (outcome.code, outcome.out) == (1, "")
    jsonschema.validate(json.loads(target.read_text("utf-8")), SCHEMA)
    copy = tmp_path / "c.index"
    shutil.copy(f"{NEVER[0]}.index", copy)
    refused = bncheck("diff", NEVER[0], str(tmp_path / "c"), "-o", str(copy))
    assert refused.code == 2
    assert os.path.getsize(copy) == os.path.getsize(f"{NEVER[0]}.index")


def test_a_name_is_data(tmp_path: Path) -> None:
    """Markup and control characters of a path are written out."""
    odd = tmp_path / "[red]\x1b[31m"
    shutil.copytree(RUNS / "tf1-updates-never-run", odd)
    outcome = bncheck("diff", str(odd / "model.ckpt-0"), str(odd / "model.ckpt-20"))
    assert outcome.code == 1
    assert "[red]\\x1b[31m/model.ckpt-0" in outcome.out
    assert "\x1b" not in outcome.out


def test_layers_that_were_not_asked_for_are_no_weights() -> None:
    ends = [str(RUNS / f"tf1-reestimated/{name}.ckpt-100") for name in ("model", "reestimated")]
    whole, part, none = (_json(*ends, *more) for more in ((), ("--layer", "*_1"), ("--layer", "x")))
    assert [len(each["findings"]) for each in (whole, part, none)] == [3, 1, 0]
    same = {"identical": 5, "differ": 0}
    assert [each["others"]["weights"] for each in (whole, part, none)] == [same] * 3


def test_within_the_tolerance_is_not_frozen() -> None:
    """A small step of training moves the statistics less than that, and a small beta more."""
    ends = [str(RUNS / f"tf1-healthy/model.ckpt-{step}") for step in (100, 120)]
    for tolerance in ("0.05", "0.2", "0.5"):
        assert _json(*ends, "--tolerance", tolerance)["findings"] == []
