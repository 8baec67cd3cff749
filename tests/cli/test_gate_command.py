"""`bncheck gate` as a person, a policy, an environment and a CI system see it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from tests.commands import FIXTURES, ROOT, bncheck

SCHEMA = json.loads((ROOT / "bncheck/report/gate-schema-v1.json").read_text("utf-8"))
TF1 = FIXTURES / "tf1"
HEALTHY, BROKEN, NAN = (str(TF1 / name) for name in ("healthy", "no-update-ops", "nan"))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory outside of any project, so that no policy is above it."""
    return tmp_path


def _json(*arguments: str, cwd: Path, **environment: str) -> dict[str, Any]:
    outcome = bncheck("gate", *arguments, "--format", "json", cwd=cwd, **environment)
    content = json.loads(outcome.out)
    jsonschema.validate(content, SCHEMA)
    return content


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([HEALTHY], 0),
        ([HEALTHY, BROKEN], 1),
        ([HEALTHY, BROKEN, "--fail-on", "never"], 0),
        ([HEALTHY, BROKEN, "--ignore", "BN501,BN201"], 0),
        ([HEALTHY, "nowhere"], 3),
        ([BROKEN, "nowhere"], 3),
        (["nothing/*"], 3),
        (["nothing/*", "--allow-empty"], 0),
        ([str(TF1 / "no-batch-norm")], 0),
        ([str(TF1 / "no-batch-norm"), "--require-batch-norm"], 1),
        ([], 2),
        ([HEALTHY, "--report", "serif=x"], 2),
        ([HEALTHY, "--report", "sarif="], 2),
        ([HEALTHY, "--config", "nowhere.toml"], 2),
        ([HEALTHY, "--config", "x.toml", "--isolated"], 2),
        ([HEALTHY, "--isolated", "--config", "x.toml"], 2),
        ([HEALTHY, "--baseline", "nowhere.json"], 3),
        ([HEALTHY, "--graph", "x", "--no-graph"], 2),
        ([HEALTHY, "--select", "BN2O1"], 2),
        (["--help"], 0),
    ],
)
def test_exit_codes(here: Path, arguments: list[str], code: int) -> None:
    outcome = bncheck("gate", *arguments, cwd=here)
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err


def test_the_screen(here: Path) -> None:
    outcome = bncheck("gate", HEALTHY, BROKEN, cwd=here)
    lines = outcome.out.splitlines()
    assert lines[1].split() == ["PASS", "2", "0", "0", "0", HEALTHY]
    assert lines[2].split() == ["FAIL", "2", "2", "0", "0", BROKEN]
    assert lines[-1] == "FAIL: 1 pass, 1 fail of 2; 2 errors, 0 warnings, 0 notes"
    assert outcome.err == ""


def test_json_wraps_the_reports_of_inspect(here: Path) -> None:
    content = _json(HEALTHY, BROKEN, "nowhere", cwd=here)
    assert content["summary"] == {
        "checkpoints": 3,
        "passed": 1,
        "failed": 1,
        "not_audited": 1,
        "error": 2,
        "warning": 0,
        "note": 0,
        "suppressed": 0,
        "verdict": "not-audited",
    }
    alone = json.loads(bncheck("inspect", BROKEN, "--format", "json").out)
    ours = content["reports"][1]
    assert ours["layers"] == alone["layers"]
    assert ours["findings"] == alone["findings"]
    assert content["reports"][2]["skipped"][0]["what"] == "nowhere"


POLICY = """\
fail-on = "never"
[[exceptions]]
rule = "BN501"
layer = "net/bn_in"
reason = "on purpose"
"""


def test_command_line_then_environment_then_file(here: Path) -> None:
    assert bncheck("gate", BROKEN, cwd=here).code == 1
    (here / "bncheck.toml").write_text(POLICY)
    assert bncheck("gate", BROKEN, cwd=here).code == 0
    assert bncheck("gate", BROKEN, cwd=here, BNCHECK_FAIL_ON="error").code == 1
    assert (
        bncheck("gate", BROKEN, "--fail-on", "never", cwd=here, BNCHECK_FAIL_ON="error").code == 0
    )
    assert bncheck("gate", BROKEN, "--isolated", cwd=here).code == 1
    assert bncheck("gate", BROKEN, cwd=here, BNCHECK_ISOLATED="1").code == 1
    below = here / "deep" / "er"
    below.mkdir(parents=True)
    assert bncheck("gate", BROKEN, cwd=below).code == 0
    (below / "own.toml").write_text("fail-on = 'error'")
    assert bncheck("gate", BROKEN, "--config", "own.toml", cwd=below).code == 1
    assert bncheck("gate", BROKEN, cwd=below, BNCHECK_CONFIG="own.toml").code == 1


def test_options_of_the_policy_are_those_of_the_command_line(here: Path) -> None:
    shutil.copytree(BROKEN, here / "models" / "x")
    (here / "bncheck.toml").write_text(
        "paths = ['models']\nrecursive = true\nreport = ['junit=out.xml']\nformat = 'json'\n"
    )
    content = json.loads(bncheck("gate", cwd=here).out)
    assert [each["path"] for each in content["reports"]] == ["models/x/model.ckpt-60"]
    assert ElementTree.parse(here / "out.xml").getroot().tag == "testsuites"  # noqa: S314
    # From below, the policy's paths are those beside it.
    (here / "deep").mkdir()
    content = json.loads(bncheck("gate", cwd=here / "deep").out)
    assert len(content["reports"]) == 1
    given = json.loads(bncheck("gate", HEALTHY, cwd=here).out)
    assert [each["path"] for each in given["reports"]] == [f"{HEALTHY}/model.ckpt-60"] or (
        len(given["reports"]) >= 1
    )


def test_a_policy_may_say_where_reports_go(here: Path) -> None:
    (here / "deep").mkdir()
    (here / "bncheck.toml").write_text(
        "output = 'gate.txt'\nwrite-baseline = 'known.json'\nbaseline = 'known.json'\n"
    )
    (here / "known.json").write_text('{"schema_version": 1, "findings": []}')
    outcome = bncheck("gate", BROKEN, cwd=here / "deep")
    assert (outcome.code, outcome.out) == (1, "")
    assert (here / "gate.txt").read_text("utf-8").splitlines()[-1].startswith("FAIL: ")
    assert bncheck("gate", BROKEN, cwd=here / "deep").code == 0
    assert sorted(os.listdir(here)) == ["bncheck.toml", "deep", "gate.txt", "known.json"]


@pytest.mark.parametrize("command", ["inspect", "gate"])
def test_the_environment_has_every_option(here: Path, command: str) -> None:
    assert bncheck(command, BROKEN, cwd=here, BNCHECK_IGNORE="BN501 BN201").code == 0
    assert bncheck(command, BROKEN, cwd=here, BNCHECK_FORMAT="json").out.startswith("{")
    assert bncheck(command, BROKEN, cwd=here, BNCHECK_FAIL_ON="eror").code == 2


def test_exceptions_on_the_screen(here: Path) -> None:
    (here / "bncheck.toml").write_text(POLICY.replace("never", "error"))
    outcome = bncheck("gate", BROKEN, "--show-suppressed", cwd=here, columns=200)
    assert outcome.code == 1
    told = " ".join(outcome.out.split())
    assert "BN501 update-ops-not-run in net/bn_in: on purpose (exception)" in told
    assert outcome.out.splitlines()[-1].endswith("1 error, 0 warnings, 0 notes, 1 suppressed")


def test_a_wrong_policy_is_wrong_usage(here: Path) -> None:
    (here / "bncheck.toml").write_text("\nfial-on = 'never'\n")
    outcome = bncheck("gate", HEALTHY, cwd=here)
    assert outcome.code == 2
    assert "bncheck.toml:2: fial-on: there is no such key; did you mean 'fail-on'?" in outcome.err


def test_baseline_from_end_to_end(here: Path) -> None:
    first = bncheck("gate", BROKEN, "--write-baseline", "known.json", cwd=here)
    assert first.code == 1  # what is written down still counts this time
    assert bncheck("gate", BROKEN, "--baseline", "known.json", cwd=here).code == 0
    both = bncheck("gate", BROKEN, NAN, "--baseline", "known.json", cwd=here)
    assert both.code == 1
    shutil.copytree(BROKEN, here / "x")
    assert bncheck("gate", "x", "--write-baseline", "x.json", cwd=here).code == 1
    shutil.rmtree(here / "x")
    shutil.copytree(HEALTHY, here / "x")
    gone = bncheck("gate", "x", "--baseline", "x.json", cwd=here, columns=200)
    assert gone.code == 0
    assert "gone: BN501 in net/bn_in" in gone.out


def test_several_reports_at_once_also_when_it_fails(here: Path) -> None:
    forms = {"sarif": "a.sarif", "junit": "b.xml", "gitlab": "c.json", "markdown": "d.md"}
    forms |= {"json": "e.json", "github": "f.txt", "text": "g.txt"}
    options = [part for form, name in forms.items() for part in ("--report", f"{form}={name}")]
    outcome = bncheck("gate", HEALTHY, BROKEN, *options, cwd=here)
    assert outcome.code == 1
    sarif = json.loads((here / "a.sarif").read_text("utf-8"))
    assert {each["ruleId"] for each in sarif["runs"][0]["results"]} == {"BN501"}
    root = ElementTree.parse(here / "b.xml").getroot()  # noqa: S314 - bncheck's own
    assert (root.get("failures"), len(root)) == ("2", 2)
    assert len(json.loads((here / "c.json").read_text("utf-8"))) == 2
    assert "BN501" in (here / "d.md").read_text("utf-8")
    jsonschema.validate(json.loads((here / "e.json").read_text("utf-8")), SCHEMA)
    assert "::error " in (here / "f.txt").read_text("utf-8")
    assert (here / "g.txt").read_text("utf-8").endswith(outcome.out.splitlines()[-1] + "\n")
    assert sorted(os.listdir(here)) == sorted(forms.values())


def test_on_github_annotations_and_a_summary_come_by_themselves(here: Path) -> None:
    summary = here / "summary.md"
    summary.write_text("before\n")
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    outcome = bncheck("gate", BROKEN, cwd=here, **environment)
    assert outcome.code == 1
    assert "\n::error " in outcome.out
    assert summary.read_text("utf-8").startswith("before\n")
    assert "BN501" in summary.read_text("utf-8")
    plain = bncheck("gate", BROKEN, "--format", "json", cwd=here, **environment)
    assert "::error" not in plain.out.splitlines()[0]
    json.loads(plain.out)


def test_no_rule_left_is_wrong_usage(here: Path) -> None:
    assert bncheck("gate", BROKEN, "--select", "BN101", "--ignore", "BN101", cwd=here).code == 2
    (here / "bncheck.toml").write_text("ignore = ['BN501', 'BN201']")
    assert bncheck("gate", BROKEN, cwd=here).code == 0
    assert bncheck("gate", BROKEN, "--select", "BN501", cwd=here).code == 1


def test_names_are_no_commands_of_the_runner(here: Path) -> None:
    outcome = bncheck("gate", BROKEN, cwd=here, GITHUB_ACTIONS="true")
    lines = outcome.out.splitlines()
    token = lines[0].removeprefix("::stop-commands::")
    assert len(token) == 32
    end = lines.index(f"::{token}::")
    assert lines[end - 1].startswith("FAIL: ")
    assert lines[end + 1].startswith("::error ")


def test_what_stands_higher_wins_between_graph_and_no_graph(here: Path) -> None:
    (here / "bncheck.toml").write_text("graph = 'nowhere.meta'")
    assert bncheck("gate", HEALTHY, cwd=here).code == 3
    assert bncheck("gate", HEALTHY, "--no-graph", cwd=here).code == 0
    assert bncheck("gate", HEALTHY, cwd=here, BNCHECK_NO_GRAPH="1").code == 0


def test_a_report_that_cannot_be_written_is_told_first(here: Path) -> None:
    outcome = bncheck("gate", BROKEN, "--report", "json=no/x.json", "-o", "y", cwd=here)
    assert (outcome.code, outcome.out) == (2, "")
    assert "there is no directory no" in outcome.err
    twice = bncheck("gate", BROKEN, "--report", "json=x", "--report", "sarif=x", cwd=here)
    assert twice.code == 2


def test_the_policy_that_judged_is_told(here: Path) -> None:
    (here / "bncheck.toml").write_text("fail-on = 'never'")
    assert bncheck("gate", BROKEN, cwd=here).out.splitlines()[0] == (
        f"policy      {here}/bncheck.toml (fails on never)"
    )


def test_nothing_that_is_audited_is_replaced(here: Path) -> None:
    shutil.copytree(BROKEN, here / "x")
    index = here / "x" / "model.ckpt-60.index"
    before = index.read_bytes()
    for option in (
        ["-o", str(index)],
        ["--report", f"json={index}"],
        ["--write-baseline", str(index)],
    ):
        assert bncheck("gate", str(here / "x"), *option, cwd=here).code == 2
    for path in ("x/*", "**/*.index", "x/checkpoint", "x/model.ckpt-60.meta"):
        assert bncheck("gate", path, "-o", str(index), cwd=here).code == 2, path
    (here / "bncheck.toml").write_text("")
    assert bncheck("gate", HEALTHY, "-o", "bncheck.toml", cwd=here).code == 2
    assert index.read_bytes() == before
