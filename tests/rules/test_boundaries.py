"""Where each rule begins: values on both sides of its bound, in checkpoints of one's own making."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck import Options, inspect
from bncheck.rules.rule import Level
from tests.commands import FIXTURES
from tests.writers import write_bundle

Found = dict[str, dict[str, Level]]
Judge = Callable[..., Found]

TRAINED = {
    "gamma": [0.9, 1.1, 1.2],
    "beta": [0.1, -0.1, 0.2],
    "moving_mean": [0.5, -0.5, 1.0],
    "moving_variance": [0.4, 2.0, 3.0],
}
INITIAL = {
    "gamma": [1, 1, 1],
    "beta": [0, 0, 0],
    "moving_mean": [0, 0, 0],
    "moving_variance": [1, 1, 1],
}


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Return a function that writes layers and returns what was found: layer -> rule -> level."""

    def run(
        layers: dict[str, dict[str, Any]],
        *,
        dtype: Any = np.float32,
        others: dict[str, Any] | None = None,
        **options: Any,
    ) -> Found:
        tensors = {
            f"{layer}/{role}": np.asarray(values, dtype)
            for layer, roles in layers.items()
            for role, values in roles.items()
        }
        write_bundle(tmp_path / "m", tensors | (others or {}))
        found: Found = {}
        for finding in inspect(str(tmp_path / "m"), Options(**options)).findings:
            found.setdefault(finding.layer, {})[finding.rule.code] = finding.level
        return found

    return run


def _step(number: int) -> dict[str, Any]:
    return {"global_step": np.asarray(number, np.int64)}


def _with(**roles: Any) -> dict[str, Any]:
    return TRAINED | roles


def test_trained_is_clean(judge: Judge) -> None:
    assert judge({"a": TRAINED, "b": TRAINED}) == {}


@pytest.mark.parametrize(
    ("layer", "rules"),
    [
        (INITIAL | {"gamma": TRAINED["gamma"], "beta": TRAINED["beta"]}, ["BN201"]),
        (INITIAL | {"beta": TRAINED["beta"]}, ["BN201"]),
        (INITIAL | {"gamma": TRAINED["gamma"]}, ["BN203"]),  # random numbers to begin with
        (INITIAL, ["BN203"]),
        (INITIAL | {"gamma": [0, 0, 0]}, ["BN203"]),  # the last gamma of a residual block
        (INITIAL | {"gamma": [0.7, 0.7, 0.7]}, ["BN203"]),  # weight decay alone keeps it uniform
        ({"moving_mean": [0, 0, 0], "moving_variance": [1, 1, 1]}, ["BN201"]),
        (INITIAL | {"beta": TRAINED["beta"], "moving_mean": [0, 0, 1e-45]}, []),
        (INITIAL | {"beta": TRAINED["beta"], "moving_mean": [0, 0, -0.0]}, []),
    ],
)
def test_untrained_beside_a_trained_layer(
    judge: Judge, layer: dict[str, Any], rules: list[str]
) -> None:
    # One bit off its initial value, the mean was updated: a variance of 1 is standardised input's.
    assert sorted(judge({"a": TRAINED, "b": layer}).get("b", {})) == rules


def test_everything_initial_is_one_finding(judge: Judge) -> None:
    assert judge({"a": INITIAL, "b": INITIAL}) == {"": {"BN204": Level.ERROR}}


def test_step_zero_decides_where_there_is_no_affine(judge: Judge) -> None:
    bare = {role: INITIAL[role] for role in ("moving_mean", "moving_variance")}
    assert judge({"a": bare}, others=_step(0)) == {"": {"BN204": Level.ERROR}}
    assert judge({"a": bare}, others=_step(9)) == {"a": {"BN201": Level.ERROR}}
    assert judge({"a": bare}) == {"a": {"BN201": Level.ERROR}}


def test_half_trained(judge: Judge) -> None:
    assert judge({"a": _with(moving_variance=[1, 1, 1])})["a"] == {"BN202": Level.ERROR}
    assert judge({"a": _with(moving_mean=[0, 0, 0])})["a"] == {"BN202": Level.ERROR}


def test_standardised_input_keeps_its_variance(judge: Judge) -> None:
    assert judge({"a": _with(moving_variance=[1, 1, 1], moving_mean=[1e-8, -1e-5, 0])}) == {}
    assert "BN202" in judge({"a": _with(moving_variance=[1, 1, 1], moving_mean=[0, 2e-5, 0])})["a"]


def test_dead_layer_is_not_half_trained(judge: Judge) -> None:
    dead = _with(moving_mean=[0, 0, 0], moving_variance=[0.3, 0.3, 0.3])
    assert judge({"a": dead}) == {"a": {"BN206": Level.NOTE}}
    uneven = _with(moving_mean=[0, 0, 0], moving_variance=[0.3, 0.4, 0.3])
    assert judge({"a": uneven}) == {"a": {"BN202": Level.ERROR}}


def test_half_precision_is_a_warning(judge: Judge) -> None:
    layer = _with(moving_variance=[1, 1, 1])
    assert judge({"a": layer}, dtype=np.float16) == {"a": {"BN202": Level.WARNING}}
    assert judge({"a": layer}, dtype=np.float64) == {"a": {"BN202": Level.ERROR}}


def test_undertrained_needs_momentum_step_and_a_variance_that_allows_it(judge: Judge) -> None:
    layer = _with(moving_variance=[0.9995, 1.2, 1.3])
    assert judge({"a": layer}, others=_step(29)) == {}
    assert judge({"a": layer}, momentum=0.9) == {}
    slow = judge({"a": layer}, others=_step(10), momentum=0.99)
    assert slow == {"a": {"BN205": Level.WARNING}}
    # 0.9 ** 28 is 5.2 %, 0.9 ** 29 is 4.7 %.
    assert judge({"a": layer}, momentum=0.9, step=28) == {"a": {"BN205": Level.WARNING}}
    assert judge({"a": layer}, momentum=0.9, step=29) == {}
    # A variance below momentum ** n did not start at 1.
    restored = _with(moving_variance=[0.89, 1.2, 1.3])
    assert judge({"a": restored}, momentum=0.99, step=10) == {}
    assert judge({"a": restored}, momentum=0.99, step=13) == {"a": {"BN205": Level.WARNING}}
    helper = {"a/a/moving_variance/biased": np.zeros(3, np.float32)}
    assert judge({"a": layer}, others=helper, momentum=0.99, step=10) == {}


@pytest.mark.parametrize(
    ("variance", "expected"),
    [
        ([1.0, -1e-6, 2.0], Level.WARNING),
        ([1.0, -1e-5, 2.0], Level.WARNING),
        ([1.0, -1.1e-5, 2.0], Level.ERROR),
        ([1.0, -5e-4, 2.0], Level.ERROR),  # no graph says that epsilon is 1e-3
    ],
)
def test_negative_variance(judge: Judge, variance: list[float], expected: Level) -> None:
    assert judge({"a": _with(moving_variance=variance)}) == {"a": {"BN302": expected}}


def test_negative_zero_is_no_negative_variance(judge: Judge) -> None:
    assert judge({"a": _with(moving_variance=[-0.0, 1, 2])}) == {}


def test_exploded(judge: Judge) -> None:
    def found(*variances: float) -> list[str]:
        layers = {f"l{i}": _with(moving_variance=[v, 0.5, 0.2]) for i, v in enumerate(variances)}
        return sorted(name for name, rules in judge(layers).items() if "BN303" in rules)

    assert found(1.1e6) == ["l0"]
    assert found(9e5) == []
    assert found(2e4, 1.0, 1.0) == ["l0"]  # 2e4 times the median
    assert found(9e3, 0.5, 0.5) == []  # raw pixels
    assert found(2e4, 3.0, 3.0) == []
    assert found(2e4, 1.0) == []  # no median of two


def test_zero_variance(judge: Judge) -> None:
    assert judge({"a": _with(moving_variance=[0, 0, 0])}) == {"a": {"BN304": Level.ERROR}}
    assert judge({"a": _with(moving_variance=[0, 0, 1])}) == {}
    dead = _with(moving_mean=[0, 0, 0], moving_variance=[0, 0, 0])
    assert judge({"a": dead}) == {"a": {"BN304": Level.ERROR}}


def test_averages_of_moments_start_at_zero(judge: Judge) -> None:
    def layer(mean: list[float], variance: list[float]) -> dict[str, Any]:
        affine = {role: TRAINED[role] for role in ("gamma", "beta")}
        average = "moments/{}/ExponentialMovingAverage"
        return affine | {average.format("mean"): mean, average.format("variance"): variance}

    assert judge({"a": layer([0, 0, 0], [0, 0, 0])}) == {"a": {"BN201": Level.ERROR}}
    assert judge({"a": layer([1, 2, 3], [0, 0, 0])}) == {"a": {"BN202": Level.ERROR}}
    assert judge({"a": layer([1, 2, 3], [1, 2, 3])}) == {}


def test_half_range(judge: Judge) -> None:
    assert judge({"a": _with(moving_variance=[65505, 1, 1])}) == {"a": {"BN305": Level.NOTE}}
    assert judge({"a": _with(moving_variance=[65504, 1, 1])}) == {}
    assert judge({"a": _with(moving_mean=[-7e4, 1, 1])}) == {"a": {"BN305": Level.NOTE}}
    assert judge({"a": _with(moving_variance=[2e-8, 1, 1])}) == {"a": {"BN305": Level.NOTE}}
    assert judge({"a": _with(moving_variance=[4e-8, 1, 1])}) == {}
    dead = _with(moving_variance=[2e-8, 1, 1], moving_mean=[0, 1, 1])
    assert judge({"a": dead}) == {"a": {"BN206": Level.NOTE}}


def test_not_finite_goes_before_the_other_values(judge: Judge) -> None:
    layer = _with(moving_variance=[np.nan, -1, 1e9])
    assert judge({"a": layer}) == {"a": {"BN301": Level.ERROR}}
    assert judge({"a": _with(gamma=[np.inf, 1, 1])}) == {"a": {"BN301": Level.ERROR}}


def test_a_nan_in_gamma_says_nothing_of_the_variance(judge: Judge) -> None:
    layer = _with(gamma=[np.nan, 1, 1], moving_variance=[-3, 1, 1])
    assert judge({"a": layer}) == {"a": {"BN301": Level.ERROR, "BN302": Level.ERROR}}


def test_shapes(judge: Judge) -> None:
    assert judge({"a": _with(gamma=[[1, 2, 3], [4, 5, 6]])}) == {}  # conditional batch norm
    assert judge({"a": _with(gamma=[[[[1, 2, 3]]]])}) == {}
    assert judge({"a": _with(gamma=[2])}) == {}
    assert judge({"a": _with(gamma=[1, 2])}) == {"a": {"BN104": Level.ERROR}}
    assert judge({"a": _with(moving_mean=[1, 2])}) == {"a": {"BN104": Level.ERROR}}


def test_one_statistic_is_missing(judge: Judge) -> None:
    without_mean = {k: v for k, v in TRAINED.items() if k != "moving_mean"}
    without_variance = {k: v for k, v in TRAINED.items() if k != "moving_variance"}
    assert judge({"a": without_mean}) == {"a": {"BN101": Level.ERROR}}
    assert judge({"a": without_variance}) == {"a": {"BN102": Level.ERROR}}


def test_statistics_that_are_there_were_saved_by_somebody() -> None:
    forgetful = str(FIXTURES / "tf1/trainable-saver/model.ckpt-60.meta")
    whole = str(FIXTURES / "tf1/healthy/model.ckpt-60")
    assert inspect(whole, Options(graph=forgetful)).findings == ()


def test_slots_on_statistics(judge: Judge) -> None:
    slot = np.zeros(3, np.float32)
    slots = ("a/moving_mean/Adam", "opt/a/moving_variance/d_optimizer_1", "a/moving_mean/D_opt")
    keras = ("training/Adam/a/moving_mean/m", "Adam/m/a/moving_mean/part_0")
    for name in (*slots, *keras):
        assert judge({"a": TRAINED}, others={name: slot}) == {"a": {"BN505": Level.WARNING}}
    for name in ("a/moving_mean/ExponentialMovingAverage", "a/moving_mean/biased", "a/gamma/Adam"):
        assert judge({"a": TRAINED}, others={name: slot}) == {}
