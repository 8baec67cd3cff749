"""Every recorded run gets the verdict that its story calls for, from diff and from history."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from bncheck.diffing import DiffOptions, diff
from bncheck.history.pipeline import history
from bncheck.report.model import Verdict
from bncheck.rules.rule import Level
from tests.commands import FIXTURES

RUNS = json.loads((FIXTURES / "RUNS.json").read_text("utf-8"))
BY_NAME = {run["name"]: run for run in RUNS}


class Expected(NamedTuple):
    """The codes of a run's findings: step by step, from the first to the last, over the whole.

    `since` is the step in which the history's findings began, and the last good one.
    """

    steps: tuple[str, ...]
    whole: str = ""
    history: str = ""
    level: Level | None = None
    since: tuple[int, int | None] | None = None
    states: tuple[str, ...] = ("moving", "settled")


def _quiet(steps: int, *states: str) -> Expected:
    return Expected(("",) * steps, states=states or ("moving", "settled"))


_FROZEN = Expected(("BN601",) * 4, "BN601", "BN601", Level.WARNING, (120, 100), ("stopped",))
_NEVER = Expected(("BN601",) * 6, "BN601", "BN601", Level.ERROR, (20, 0), ("initial",))
_STOPPED = Expected(
    ("", "", "", *("BN601",) * 3), "", "BN601", Level.WARNING, (80, 60), ("stopped",)
)
_NAN = Expected(
    ("", "", "", "BN301", "", ""), "BN301", "BN301", Level.ERROR, (80, 60), ("damaged",)
)
_RESET = Expected(
    ("", "", "", "BN602", *("BN601",) * 3), "BN601", "BN602", Level.ERROR, (60, 60), ("initial",)
)
_SHIFTED = Expected(("BN605",), "BN605", "BN605", Level.WARNING, (105, 100), ("",))
_RENAMED = Expected(("BN604",), "BN604", "BN604", Level.WARNING, (110, 100), ("",))
_ALONE = Expected(("BN603",), "BN603", "BN603", Level.WARNING, (100, 100), ("",))

EXPECTED = {
    "tf1-healthy": _quiet(6),
    "tf1-updates-never-run": _NEVER,
    "tf1-updates-stopped": _STOPPED,
    "tf1-reset": _RESET,
    "tf1-reset-retrained": Expected(
        ("", "", "BN602", "", "", "", ""), "", "BN602", Level.WARNING, (60, 40)
    ),
    "tf1-frozen-finetune": _FROZEN,
    "tf1-frozen-statistics-trained-affine": _FROZEN,
    "tf1-head-only": _quiet(4, "unchanged"),
    "tf1-other-network-alone": _quiet(5, "unchanged", "moving", "settled"),
    "tf1-nan": _NAN,
    "tf1-dead-layer": Expected(("",) * 6, "", "BN206", Level.NOTE, (20, 0)),
    "tf1-unused-layer": Expected(
        ("",) * 6, "", "BN203", Level.WARNING, (0, None), ("moving", "settled", "initial")
    ),
    "tf1-inserted-layer": _SHIFTED,
    "tf1-inserted-in-the-middle": _SHIFTED,
    "tf1-renamed-scope": _RENAMED,
    "tf1-two-formats": _quiet(2, "unchanged"),
    "tf1-half-precision": _quiet(1, "unchanged"),
    "tf1-partitioned": _quiet(1, ""),
    "tf1-reestimated": _ALONE,
    "tf1-permuted": _ALONE,
    "tf1-scaled": _ALONE,
    "tf1-swapped": Expected(
        ("BN302 BN603",), "BN302 BN603", "BN302 BN603", None, (100, 100), ("damaged",)
    ),
    "tf2-healthy": _quiet(6),
    "tf2-healthy-weights": _quiet(3),
    "tf2-healthy-keras": _quiet(3),
    "tf2-updates-never-run": _NEVER,
    "tf2-updates-stopped": _STOPPED,
    "tf2-reset": _RESET,
    "tf2-frozen-finetune": _FROZEN,
    "tf2-nan": _NAN,
    "tf2-inserted-layer": _SHIFTED,
    "tf2-renamed-scope": _RENAMED,
    "tf2-two-formats": _quiet(4, "unchanged"),
    "tf215-two-formats": _quiet(4, "unchanged"),
}

# For each rule of two checkpoints, runs that look much like those that trip it, and are right.
LOOK_ALIKES = {
    "BN601": ["tf1-head-only", "tf1-other-network-alone", "tf1-unused-layer", "tf1-dead-layer"],
    "BN602": ["tf1-reestimated", "tf1-healthy", "tf1-dead-layer", "tf1-updates-never-run"],
    "BN603": ["tf1-half-precision", "tf1-two-formats", "tf1-nan", "tf1-reset"],
    "BN604": ["tf2-two-formats", "tf215-two-formats", "tf1-inserted-layer", "tf1-partitioned"],
    "BN605": ["tf1-permuted", "tf1-swapped", "tf1-renamed-scope", "tf1-reset-retrained"],
}
_OF_ALL_LAYERS = ("BN601", "BN602", "BN603", "BN301", "BN302")


def _paths(run: dict[str, Any]) -> list[str]:
    return [str(FIXTURES / each["path"]) for each in run["checkpoints"]]


def _layers(run: dict[str, Any]) -> list[str]:
    return sorted(run["facts"].get("layers_after") or run["facts"]["layers"])


def _codes(findings: Any, run: dict[str, Any]) -> str:
    """Return the codes of findings; those that a whole network gets are of every layer."""
    found = defaultdict(list)
    for finding in findings:
        found[finding.rule.code].append(finding.layer)
    for code in _OF_ALL_LAYERS:
        if code in found:
            assert sorted(found[code]) == _layers(run), code
    return " ".join(sorted(found))


def test_every_run_has_its_verdict() -> None:
    assert sorted(EXPECTED) == sorted(BY_NAME)


@pytest.mark.parametrize("name", BY_NAME)
def test_diff_of_neighbours_and_ends(name: str) -> None:
    run, expected = BY_NAME[name], EXPECTED[name]
    paths = _paths(run)
    steps = []
    for before, after in pairwise(paths):
        report = diff(before, after)
        steps.append(_codes(report.findings, run))
        assert report.skipped == ()
        worst = max((finding.level for finding in report.findings), default=Level.NOTE)
        assert report.exit_code == int(worst is Level.ERROR)
    assert tuple(steps) == expected.steps
    assert _codes(diff(paths[0], paths[-1]).findings, run) == expected.whole


@pytest.mark.parametrize("name", BY_NAME)
def test_diff_with_itself_is_clean(name: str) -> None:
    for path in _paths(BY_NAME[name]):
        report = diff(path, path)
        assert report.findings == ()
        assert report.verdict is Verdict.PASS
        assert {c.change.value for e in report.comparison.layers for c in e.roles.values()} <= {
            "identical"
        }
        assert not report.comparison.others.differ
        assert {each.divergence for each in report.comparison.layers} <= {0.0}


@pytest.mark.parametrize("name", BY_NAME)
def test_history(name: str) -> None:
    run, expected = BY_NAME[name], EXPECTED[name]
    report = history(_paths(run))
    found = [point.path for point in report.points]
    # Files of one step and of any name have no order.
    assert found == _paths(run) or (
        "same_values" in run["facts"] and len(found) == len(_paths(run))
    )
    assert _codes(report.findings, run) == expected.history
    assert {trend.state for trend in report.layers.values()} <= set(expected.states)
    assert sorted(report.layers) == _layers(run) or "other_names" in run["facts"]
    assert (report.skipped, report.passing) == ((), {})
    for finding in report.findings:
        assert expected.level in (None, finding.level)
        told = (finding.evidence["first_step"], finding.evidence["last_good_step"])
        assert told == expected.since
    errors = any(finding.level is Level.ERROR for finding in report.findings)
    assert report.exit_code == int(errors)


@pytest.mark.parametrize("name", [n for n, r in BY_NAME.items() if "same_values" in r["facts"]])
def test_the_same_values_in_two_formats_differ_in_nothing(name: str) -> None:
    paths = _paths(BY_NAME[name])
    for before in paths:
        for after in paths:
            report = diff(before, after, DiffOptions())
            comparison = report.comparison
            assert report.findings == ()
            assert len(comparison.layers) == len(BY_NAME[name]["facts"]["layers"])
            assert all(c.change.is_none for e in comparison.layers for c in e.roles.values())
            assert not {k: n for k, n in comparison.others.differ.items() if k.name == "WEIGHT"}


def test_steps_are_the_recorded_ones() -> None:
    for run in RUNS:
        steps = [each["step"] for each in run["checkpoints"]]
        if "same_values" in run["facts"]:
            continue
        points = history(_paths(run)).points
        assert [point.step for point in points] == steps, run["name"]


def test_a_directory_means_all_of_its_checkpoints() -> None:
    for name in ("tf1-healthy", "tf1-reset", "tf2-healthy", "tf2-healthy-keras"):
        run = BY_NAME[name]
        report = history(FIXTURES / run["path"])
        assert [point.path for point in report.points] == _paths(run)


def test_every_rule_has_runs_that_look_alike_and_are_right() -> None:
    tripped = {code for each in EXPECTED.values() for step in each.steps for code in step.split()}
    assert set(LOOK_ALIKES) <= tripped
    for code, names in LOOK_ALIKES.items():
        for name in names:
            assert code not in " ".join((*EXPECTED[name].steps, EXPECTED[name].whole))
