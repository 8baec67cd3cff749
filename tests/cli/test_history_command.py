"""`bncheck history` as a person and a program see it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bncheck.report.history_json import CSV_COLUMNS
from tests.commands import FIXTURES, ROOT, bncheck, bncheck_here

SCHEMA = json.loads((ROOT / "bncheck/report/history-schema-v1.json").read_text("utf-8"))
RUNS = FIXTURES / "runs"


def _json(*arguments: str) -> dict[str, Any]:
    content = json.loads(bncheck_here("history", *arguments, "--format", "json").out)
    jsonschema.validate(content, SCHEMA)
    return content


def test_json_of_every_run_fits_the_schema() -> None:
    for run in json.loads((FIXTURES / "RUNS.json").read_text("utf-8")):
        paths = [str(FIXTURES / each["path"]) for each in run["checkpoints"]]
        content = _json(*paths)
        assert content["summary"]["checkpoints"] == len(paths)


def test_where_nan_came_from() -> None:
    content = _json(str(RUNS / "tf1-nan"))
    assert [each["step"] for each in content["checkpoints"]] == list(range(0, 121, 20))
    finding = content["findings"][0]
    assert (finding["rule"], finding["level"], finding["layer"]) == ("BN301", "error", "net/bn_1")
    assert finding["span"]["first"] == {"path": str(RUNS / "tf1-nan/model.ckpt-80"), "step": 80}
    assert finding["span"]["last_good"]["step"] == 60
    assert finding["message"].endswith("first in step 80, last good: step 60")
    layer = content["layers"][0]
    assert layer["state"] == "damaged"
    assert [each["moving_mean"]["nonfinite"] for each in layer["points"]] == [0] * 4 + [6] * 3
    assert layer["points"][5]["divergence"] is None


def test_how_much_of_the_initial_values_is_left() -> None:
    by_graph = _json(str(RUNS / "tf1-healthy"))["layers"][0]
    assert by_graph["momentum"] == pytest.approx(0.9)
    assert by_graph["initial_left"] == pytest.approx(0.9**120, rel=1e-3)
    assert by_graph["initial_left_is_bound"] is False
    without = _json(str(RUNS / "tf1-healthy"), "--no-graph")["layers"]
    assert [each["momentum"] for each in without] == [None] * 3
    # A variance of 0.15 leaves no more than 15 % of the initial 1.
    bounds = [each["initial_left"] for each in without]
    assert bounds[0] is None
    assert bounds[1:] == [
        pytest.approx(each["points"][-1]["moving_variance"]["min"]) for each in without[1:]
    ]
    told = _json(str(RUNS / "tf1-healthy"), "--no-graph", "--momentum", "0.99")
    assert told["layers"][1]["initial_left_is_bound"] is False
    assert told["layers"][1]["initial_left"] == pytest.approx(0.99**120)


def test_undertrained_by_the_momentum_that_was_told() -> None:
    """0.999**120 is 89 %, which a variance of 0.2 disproves, but for the first layer."""
    arguments = (str(RUNS / "tf1-healthy"), "--no-graph", "--momentum", "0.999")
    found = {f["layer"]: f["rule"] for f in _json(*arguments)["findings"]}
    assert found == {"net/bn_1": "BN205"}


def test_csv_has_a_row_for_each_layer_of_each_checkpoint() -> None:
    outcome = bncheck_here("history", str(RUNS / "tf1-nan"), "--format", "csv")
    rows = list(csv.DictReader(outcome.out.splitlines()))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == 7 * 3
    assert [row["step"] for row in rows[::3]] == [str(step) for step in range(0, 121, 20)]
    assert (rows[12]["rules"], rows[12]["nonfinite"], rows[12]["status"]) == (
        "BN301",
        "12",
        "damaged",
    )
    assert rows[12]["moving_mean_average"] == ""
    assert rows[15]["rules"] == ""
    assert (rows[0]["moving_variance_average"], rows[0]["divergence"]) == ("1", "")
    assert float(rows[3]["divergence"]) > 0
    assert [row["weights_moved"] for row in rows[::3]] == ["", *["true"] * 6]


def test_a_cell_that_a_spreadsheet_would_compute_is_led_by_a_quote(tmp_path: Path) -> None:
    for path in (RUNS / "tf1-partitioned").iterdir():
        shutil.copy(path, tmp_path / path.name.replace("model", "@sum"))
    outcome = bncheck("history", "@sum.ckpt-100", "--format", "csv", cwd=tmp_path)
    assert outcome.code == 0
    assert [row["path"] for row in csv.DictReader(outcome.out.splitlines())] == [
        "'@sum.ckpt-100"
    ] * 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["tf1-healthy"], 0),
        (["tf1-nan"], 1),
        (["tf1-nan", "--ignore", "BN301"], 0),
        (["tf1-nan", "--fail-on", "never"], 0),
        (["tf1-updates-stopped"], 0),
        (["tf1-updates-stopped", "--fail-on", "warning"], 1),
        (["tf1-updates-never-run", "--layer", "none*"], 0),
        (["tf1-healthy", "tf1-no-such-run"], 3),
        (["tf1-healthy", "--plot", "x.pdf"], 2),
        (["tf1-healthy", "--jobs", "0"], 2),
        (["tf1-healthy", "--momentum", "1"], 2),
        ([], 2),
        (["--help"], 0),
    ],
)
def test_exit_codes(arguments: list[str], code: int) -> None:
    outcome = bncheck_here("history", *arguments, cwd=RUNS)
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err


def test_the_screen() -> None:
    outcome = bncheck("history", "tf1-nan", cwd=RUNS)
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert lines[1].strip() == "7 checkpoints, steps 0 to 120, V2 checkpoint (tensor bundle)"
    assert "×××" in lines[4]
    assert lines[4].endswith("damaged  net/bn_1")
    assert max(map(len, lines)) <= 80


def test_ascii_where_the_terminal_has_no_more() -> None:
    outcome = bncheck("history", "tf1-nan", cwd=RUNS, PYTHONIOENCODING="ascii")
    assert outcome.out.isascii()
    assert "xxx" in outcome.out


def test_layers_and_top() -> None:
    content = _json(str(RUNS / "tf1-healthy"), "--layer", "*_3")
    assert [each["name"] for each in content["layers"]] == ["net/bn_3"]
    screen = bncheck("history", "tf1-healthy", "--top", "1", cwd=RUNS).out
    assert "and 2 more (--top 0 shows them all)" in screen


def test_processes_make_no_difference() -> None:
    run = str(RUNS / "tf1-reset")
    alone, many = (bncheck("history", run, "--format", "json", "-j", n).out for n in ("1", "3"))
    assert json.loads(alone) == json.loads(many)
    assert len(json.loads(many)["checkpoints"]) == 8  # enough that processes are started


def test_no_word_of_progress_where_nobody_looks() -> None:
    assert bncheck("history", "tf1-reset", cwd=RUNS).err == ""
