"""The files for CI systems: what they run is run here, with the variables that they are given."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.commands import FIXTURES, ROOT

ACTION = (ROOT / "action.yml").read_text("utf-8")
SCRIPT = ROOT / "ci/action.sh"
HOOKS = (ROOT / ".pre-commit-hooks.yaml").read_text("utf-8")
GITLAB = (ROOT / "ci/gitlab.yml").read_text("utf-8")
HEALTHY = str(FIXTURES / "tf1/healthy")
BROKEN = str(FIXTURES / "tf1/no-update-ops")

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")


class Step(NamedTuple):
    """What a step of the action left behind."""

    code: int
    out: str
    err: str
    outputs: dict[str, str]
    summary: str


def _neutral() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GITHUB_", "INPUT_", "BNCHECK_", "RUNNER_"))
    }


def _install(directory: Path) -> None:
    """Put this bncheck where the action's own installation would be."""
    program = directory / "bncheck/bin/bncheck"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m bncheck "$@"\n', "utf-8"
    )
    program.chmod(0o755)


def _gate(tmp_path: Path, **variables: str) -> Step:
    _install(tmp_path)
    output, summary = tmp_path / "output", tmp_path / "summary"
    output.write_text("", "utf-8")
    summary.write_text("", "utf-8")
    done = subprocess.run(
        ["bash", str(SCRIPT), "gate"],
        cwd=tmp_path,
        env=_neutral()
        | {
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
        }
        | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    pairs = [line.split("=", 1) for line in output.read_text("utf-8").splitlines()]
    outputs = dict(pairs)
    return Step(done.returncode, done.stdout, done.stderr, outputs, summary.read_text("utf-8"))


@needs_bash
def test_the_action_passes_what_is_healthy(tmp_path: Path) -> None:
    step = _gate(tmp_path, INPUT_PATHS=f"{HEALTHY}\n")
    assert step.code == 0
    assert step.outputs == {"exit-code": "0", "sarif": str(tmp_path / "bncheck.sarif")}
    assert step.summary.startswith("## bncheck: PASS\n")
    assert "::error" not in step.out


@needs_bash
def test_the_action_keeps_the_exit_code_and_writes_all_reports(tmp_path: Path) -> None:
    step = _gate(tmp_path, INPUT_PATHS=f"{HEALTHY}\r\n\n{BROKEN}\n")
    assert step.code == 1
    assert step.outputs["exit-code"] == "1"
    assert "title=BN501 update-ops-not-run::" in step.out
    assert step.summary.startswith("## bncheck: FAIL\n")
    sarif = json.loads(Path(step.outputs["sarif"]).read_text("utf-8"))
    assert [result["ruleId"] for result in sarif["runs"][0]["results"]] == ["BN501", "BN501"]


@needs_bash
def test_what_cannot_be_audited_fails_the_action(tmp_path: Path) -> None:
    step = _gate(tmp_path, INPUT_PATHS="nothing")
    assert (step.code, step.outputs["exit-code"]) == (3, "3")


@needs_bash
def test_wrong_usage_leaves_no_old_sarif_to_upload(tmp_path: Path) -> None:
    (tmp_path / "bncheck.sarif").write_text("{}", "utf-8")
    step = _gate(tmp_path, INPUT_PATHS=HEALTHY, INPUT_ARGS="--no-such-option")
    assert step.code == 2
    assert step.outputs == {"exit-code": "2"}


@needs_bash
def test_inputs_reach_the_gate_and_are_never_run(tmp_path: Path) -> None:
    (tmp_path / "a policy.toml").write_text('ignore = ["BN501", "BN201"]\n', "utf-8")
    options = {"INPUT_CONFIG": "a policy.toml", "INPUT_SUMMARY": "false"}
    step = _gate(tmp_path, INPUT_PATHS=BROKEN, **options)
    assert (step.code, step.summary) == (0, "")
    assert _gate(tmp_path, INPUT_PATHS=BROKEN, INPUT_FAIL_ON="never").code == 0
    quoted = "--quiet --ignore 'BN501'\n--ignore \"BN201\""
    assert _gate(tmp_path, INPUT_PATHS=BROKEN, INPUT_ARGS=quoted).code == 0
    evil = '$(touch pwned) `touch pwned`; touch pwned "'
    for name in ("INPUT_PATHS", "INPUT_CONFIG", "INPUT_FAIL_ON"):
        assert _gate(tmp_path, **{"INPUT_PATHS": HEALTHY, name: evil}).code in (2, 3)
    step = _gate(tmp_path, INPUT_PATHS=HEALTHY, INPUT_ARGS=evil)
    assert step.code == 2
    assert "a quote that does not end" in step.err
    assert _gate(tmp_path, INPUT_PATHS=HEALTHY, INPUT_ARGS=evil[:-1]).code == 3
    assert not (tmp_path / "pwned").exists()


@needs_bash
def test_the_policy_may_name_the_paths(tmp_path: Path) -> None:
    (tmp_path / "bncheck.toml").write_text(f"paths = [{BROKEN!r}]\n", "utf-8")
    assert _gate(tmp_path).code == 1
    assert _gate(tmp_path, BNCHECK_PATHS=HEALTHY).code == 0


def test_inputs_are_no_part_of_any_script_of_the_action() -> None:
    scripts = re.findall(r"^ +run: (.*)$", ACTION, re.MULTILINE)
    assert scripts == [
        f'bash "$GITHUB_ACTION_PATH/ci/action.sh" {step}' for step in ("install", "gate")
    ]
    given = set(re.findall(r"^ +(INPUT_\w+): \$\{\{ inputs\.", ACTION, re.MULTILINE))
    assert given == set(re.findall(r"INPUT_\w+", SCRIPT.read_text("utf-8")))


def _run_lines(text: str) -> list[str]:
    return re.findall(r"^    - (.*)$", text.partition("script:")[2], re.MULTILINE)


@needs_bash
def test_the_job_of_gitlab_writes_what_it_declares(tmp_path: Path) -> None:
    _install(tmp_path)
    lines = [line.replace("/tmp/", f"{tmp_path}/") for line in _run_lines(GITLAB)]  # noqa: S108
    assert len(lines) == 3
    done = subprocess.run(
        ["bash", "-e", "-c", lines[-1]],
        cwd=tmp_path,
        env=_neutral() | {"BNCHECK_PATHS": f"{HEALTHY} {BROKEN}"},
        timeout=60,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    declared = dict(re.findall(r"(codequality|junit): (\S+)$", GITLAB, re.MULTILINE))
    quality = json.loads((tmp_path / declared["codequality"]).read_text("utf-8"))
    assert {each["check_name"].split()[0] for each in quality} == {"BN501"}
    assert (tmp_path / declared["junit"]).read_text("utf-8").startswith("<?xml")


@pytest.mark.parametrize(
    ("path", "audited"),
    [
        ("models/model.ckpt-60.index", True),
        ("saved_model.pb", True),
        ("models/1/saved_model.pb", True),
        ("a.keras", True),
        ("a.weights.h5", True),
        ("a.h5", True),
        ("models/model.ckpt-60.data-00000-of-00001", False),
        ("models/model.ckpt-60.meta", False),
        ("models/my_saved_model.pb", False),
        ("index", False),
        ("a.keras.py", False),
    ],
)
def test_the_hook_takes_checkpoints(path: str, audited: bool) -> None:
    pattern = re.search(r"^  files: '(.*)'$", HOOKS, re.MULTILINE)
    assert pattern is not None
    assert bool(re.search(pattern[1], path)) is audited


@pytest.mark.skipif(
    importlib.util.find_spec("pre_commit") is None or shutil.which("git") is None,
    reason="pre-commit or git is not installed",
)
def test_pre_commit_runs_the_hook(tmp_path: Path) -> None:
    work = tmp_path / "work"
    for source in ("tf1/healthy", "tf1/no-update-ops", "runs/tf1-two-formats/saved_model"):
        shutil.copytree(FIXTURES / source, work / Path(source).name)
    # The hook as it is, but with this bncheck: its own environment would need an index.
    entry = f"{sys.executable} -m bncheck gate"
    hook = HOOKS.replace("entry: bncheck gate", f"entry: {entry}")
    hook = hook.replace("language: python", "language: system")
    indented = "".join(f"  {line}\n" for line in hook.splitlines())
    config = f"repos:\n- repo: local\n  hooks:\n{indented}"
    (work / ".pre-commit-config.yaml").write_text(config, "utf-8")
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=work, check=True, timeout=60)
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "run", "--all-files"],
        cwd=work,
        env=_neutral() | {"PRE_COMMIT_HOME": str(tmp_path / "home"), "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "- exit code: 1" in done.stdout
    assert "FAIL no-update-ops/model.ckpt-60" in done.stdout
    assert "FAIL: 3 pass, 1 fail of 4; 2 errors, 0 warnings, 0 notes" in done.stdout
