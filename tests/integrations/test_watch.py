"""What a finding does to a training that is being watched."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from bncheck.integrations import watch as module
from bncheck.integrations.watch import CheckpointWarning, Watch
from tests.commands import FIXTURES

HEALTHY = str(FIXTURES / "tf1/healthy/model.ckpt-60")
BROKEN = str(FIXTURES / "tf1/no-update-ops/model.ckpt-60")


def test_what_is_healthy_is_silent() -> None:
    watch = Watch("stop", {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert watch.audit(HEALTHY) is False
    assert [report.exit_code for report in watch.reports] == [0]


@pytest.mark.parametrize(("on_finding", "stops"), [("stop", True), ("warn", False)])
def test_a_finding_is_a_warning(on_finding: Any, stops: bool) -> None:
    watch = Watch(on_finding, {})
    with pytest.warns(CheckpointWarning, match="error BN501 update-ops-not-run"):
        assert watch.audit(BROKEN) is stops
    assert [report.exit_code for report in watch.reports] == [1]


def test_a_finding_raises_on_demand() -> None:
    watch = Watch("raise", {})
    with pytest.raises(AssertionError, match="error BN501"):
        watch.audit(BROKEN)
    assert len(watch.reports) == 1


def test_the_policy_holds() -> None:
    assert Watch("raise", {"fail_on": "never"}).audit(BROKEN) is False


@pytest.mark.parametrize("on_finding", ["stop", "warn"])
def test_what_cannot_be_audited_ends_no_training(on_finding: Any, tmp_path: Path) -> None:
    with pytest.warns(CheckpointWarning, match="NOT AUDITED"):
        assert Watch(on_finding, {}).audit(str(tmp_path / "gone")) is False
    with pytest.raises(AssertionError, match="NOT AUDITED"):
        Watch("raise", {}).audit(str(tmp_path / "gone"))


def test_a_defect_of_the_audit_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a\x1bdefect")

    monkeypatch.setattr(module, "gate", broken)
    with pytest.warns(CheckpointWarning, match=r"could not be audited: a\\x1bdefect"):
        assert Watch("stop", {}).audit(HEALTHY) is False
    with pytest.raises(RuntimeError):
        Watch("raise", {}).audit(HEALTHY)


def test_wrong_arguments_raise_before_the_training() -> None:
    with pytest.raises(ValueError, match="on_finding must be one of stop, warn, raise"):
        Watch("halt", {})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="fail_no"):
        Watch("stop", {"fail_no": "error"})  # type: ignore[typeddict-unknown-key]
