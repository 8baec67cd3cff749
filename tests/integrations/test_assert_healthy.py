"""assert_healthy: what passes, what fails, and what a person reads in a test's failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bncheck.config.keys import ConfigError
from bncheck.integrations.assertions import assert_healthy
from bncheck.report.model import FailOn, Verdict
from tests.commands import FIXTURES, ROOT

HEALTHY = FIXTURES / "tf1/healthy"
BROKEN = FIXTURES / "tf1/no-update-ops"
UNDERTRAINED = FIXTURES / "tf1/undertrained"


def _message(*arguments: Any, **keywords: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assert_healthy(*arguments, **keywords)
    return str(caught.value)


def test_what_is_healthy_returns_its_report() -> None:
    report = assert_healthy(HEALTHY)
    assert report.verdict is Verdict.PASS
    assert [(e.path, e.step, len(e.layers)) for e in report.checkpoints] == [(str(HEALTHY), 60, 2)]


def test_a_failure_says_what_is_wrong_where_and_what_helps() -> None:
    lines = _message(BROKEN).splitlines()
    assert lines[:5] == [
        "bncheck: FAIL",
        "",
        f"{BROKEN}: FAIL, step 60",
        "  error BN501 update-ops-not-run",
        "    layers: net/bn_in, net/bn_out",
    ]
    assert "    help: The graph has 4 ops in UPDATE_OPS. Make the training step depend" in lines[7]
    assert "        with tf.control_dependencies(update_ops):" in lines


def test_several_paths_and_only_the_bad_are_named() -> None:
    message = _message([HEALTHY, str(BROKEN)])
    assert str(BROKEN) in message
    assert str(HEALTHY) not in message


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ([], "no checkpoint was found: there is nothing to audit"),
        ("nothing/*.index", "no checkpoint was found: there is nothing to audit"),
        ("nothing", "could not be audited: nothing: no such file, directory or checkpoint"),
    ],
)
def test_what_could_not_be_audited_does_not_pass(paths: Any, told: str) -> None:
    message = _message(paths)
    assert message.startswith("bncheck: NOT AUDITED\n")
    assert told in message


def test_findings_below_the_level_pass() -> None:
    report = assert_healthy(UNDERTRAINED)
    assert {f.rule.code for f in report.checkpoints[0].findings} == {"BN205"}
    assert "warning BN205" in _message(UNDERTRAINED, fail_on="warning")
    assert assert_healthy(BROKEN, fail_on="never").verdict is Verdict.PASS


def test_rules_are_chosen_by_code_or_name() -> None:
    assert assert_healthy(BROKEN, select=["BN301"]).verdict is Verdict.PASS
    assert assert_healthy(BROKEN, ignore=["update-ops-not-run", "BN201"]).verdict is Verdict.PASS
    assert assert_healthy(BROKEN, select="BN301").verdict is Verdict.PASS


def test_without_the_graph_the_values_alone_are_judged() -> None:
    assert "error BN201" in _message(BROKEN, use_graph=False)


def test_batch_norm_can_be_required() -> None:
    none = FIXTURES / "tf1/no-batch-norm"
    assert assert_healthy(none).verdict is Verdict.PASS
    assert "bncheck: FAIL" in _message(none, require_batch_norm=True)


def test_no_policy_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bncheck.toml").write_text('fail-on = "never"\n', "utf-8")
    monkeypatch.chdir(tmp_path)
    assert "error BN501" in _message(BROKEN)
    assert assert_healthy(BROKEN, config="bncheck.toml").checkpoints[0].fail_on is FailOn.NEVER
    assert "error BN501" in _message(BROKEN, config="bncheck.toml", fail_on="error")


def test_a_policy_says_how_to_audit(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'no-graph = true\n[[exceptions]]\nrule = "BN201"\nreason = "known"\n'
        '[[exceptions]]\nrule = "BN206"\nreason = "never there"\n',
        "utf-8",
    )
    report = assert_healthy(BROKEN, config=policy)
    assert [s.finding.rule.code for s in report.checkpoints[0].suppressed] == ["BN201", "BN201"]
    assert report.checkpoints[0].graph is None
    assert len(report.warnings) == 1
    given = assert_healthy(HEALTHY, config=policy, graph=HEALTHY / "model.ckpt-60.meta")
    assert given.checkpoints[0].graph is not None


def test_a_policy_with_a_mistake_is_no_finding(tmp_path: Path) -> None:
    (tmp_path / "bncheck.toml").write_text('fail-no = "never"\n', "utf-8")
    with pytest.raises(ConfigError, match="fail-on"):
        assert_healthy(HEALTHY, config=tmp_path / "bncheck.toml")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"fail_on": "eror"}, "fail_on must be one of error"),
        ({"select": ["BN999"]}, "there is no rule 'BN999'"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"step": -1}, "step must not be negative"),
        ({"graph": "a.meta", "use_graph": False}, "exclude each other"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        assert_healthy(HEALTHY, **wrong)


def test_names_are_escaped(tmp_path: Path) -> None:
    bad = tmp_path / "a\nmodel \x1b[31m"
    shutil.copytree(BROKEN, bad)
    message = _message(bad)
    assert "a\\nmodel \\x1b[31m: FAIL" in message
    assert "\x1b" not in message


def test_pytest_shows_the_message_and_the_line_of_the_test(tmp_path: Path) -> None:
    (tmp_path / "test_model.py").write_text(
        "from bncheck.integrations.assertions import assert_healthy\n\n"
        f"def test_model():\n    assert_healthy({str(BROKEN)!r})\n",
        "utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "E       AssertionError: bncheck: FAIL" in done.stdout
    assert "error BN501 update-ops-not-run" in done.stdout
    assert "test_model.py:4: AssertionError" in done.stdout
    assert "raise AssertionError" not in done.stdout


def test_importing_the_integrations_imports_no_tensorflow() -> None:
    code = (
        "import sys, bncheck.integrations.keras, bncheck.integrations.estimator\n"
        "import bncheck.integrations.assertions\n"
        "print({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "set()"
