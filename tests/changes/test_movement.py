"""What became of a layer, in numbers: against the definitions, channel by channel."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from bncheck.batchnorm.names import Role
from bncheck.changes.comparison import compare
from bncheck.changes.model import Change, LayerChange
from bncheck.changes.movement import divergences_between
from tests.changes.checkpoints import snapshot

RNG = np.random.default_rng(5)
Arrays = dict[str, NDArray[Any]]


def _layer(channels: int = 6, dtype: Any = np.float32, **given: Any) -> Arrays:
    values = {
        "gamma": RNG.normal(1, 0.2, channels),
        "beta": RNG.normal(0, 0.2, channels),
        "moving_mean": RNG.normal(0, 2, channels),
        "moving_variance": RNG.uniform(0.1, 9, channels),
    } | given
    return {f"net/bn/{role}": np.asarray(each, dtype) for role, each in values.items()}


def _change(old: Arrays, new: Arrays, tolerance: float = 0.0) -> LayerChange:
    return compare(snapshot(old), snapshot(new), tolerance).layers[0]


def _kinds(change: LayerChange) -> dict[str, str]:
    return {role.value: each.change.value for role, each in change.roles.items()}


def test_divergence_is_the_mean_of_both_directions_over_channels() -> None:
    old, new = _layer(), _layer()
    total = 0.0
    for channel in range(6):
        m, n = (float(each["net/bn/moving_mean"][channel]) for each in (old, new))
        v, w = (float(each["net/bn/moving_variance"][channel]) for each in (old, new))
        forth = 0.5 * (math.log(w / v) + (v + (m - n) ** 2) / w - 1)
        back = 0.5 * (math.log(v / w) + (w + (m - n) ** 2) / v - 1)
        total += forth + back
    change = _change(old, new)
    assert change.divergence == pytest.approx(total / 6, rel=1e-12)
    assert change.undefined == 0
    assert _change(new, old).divergence == pytest.approx(total / 6, rel=1e-12)


def test_shift_ratio_and_relative_change() -> None:
    old, new = _layer(), _layer()
    change = _change(old, new)
    mean, variance = (old[f"net/bn/{r}"].astype(float) for r in ("moving_mean", "moving_variance"))
    z = (new["net/bn/moving_mean"].astype(float) - mean) / np.sqrt(variance)
    ratio = new["net/bn/moving_variance"].astype(float) / variance
    shift = change.roles[Role.MOVING_MEAN].measure
    assert (shift.shift, shift.most) == pytest.approx((np.sqrt((z**2).mean()), np.abs(z).max()))
    factor = change.roles[Role.MOVING_VARIANCE].measure
    assert factor == pytest.approx((np.exp(np.log(ratio).mean()), ratio.min(), ratio.max()))
    gamma = change.roles[Role.GAMMA].measure.shift
    old_gamma, new_gamma = (each["net/bn/gamma"].astype(float) for each in (old, new))
    expected = np.linalg.norm(new_gamma - old_gamma) / np.linalg.norm(old_gamma)
    assert gamma == pytest.approx(expected)


def test_many_layers_are_measured_each_on_its_own() -> None:
    old, new, alone = {}, {}, {}
    for number, channels in enumerate((1, 7, 3, 64)):
        first, second = _layer(channels), _layer(channels)
        old |= {name.replace("bn", f"bn{number}"): each for name, each in first.items()}
        new |= {name.replace("bn", f"bn{number}"): each for name, each in second.items()}
        alone[f"net/bn{number}"] = _change(first, second)
    for change in compare(snapshot(old), snapshot(new)).layers:
        expected = alone[change.pair.after.name]
        assert change.divergence == pytest.approx(expected.divergence, rel=1e-12)
        for role, each in change.roles.items():
            numbers = [value for value in each.measure if value is not None]
            theirs = [v for v in expected.roles[role].measure if v is not None]
            assert numbers == pytest.approx(theirs, rel=1e-12)


def test_channels_without_a_divergence_are_counted_and_left_out() -> None:
    mean, variance = [1.0, 2, 3, 4, 5, 6], [1.0, 1, 1, 1, 1, 1]
    old = _layer(moving_mean=mean, moving_variance=[0, -1, np.nan, 1, 1, 1])
    new = _layer(moving_mean=[1, 2, 3, np.inf, 6, 6], moving_variance=variance)
    change = _change(old, new)
    assert change.undefined == 4
    assert change.divergence == pytest.approx((1.0 + 0.0) / 2)  # (5, 1) to (6, 1): d^2


def test_dead_channels_count_as_unmoved() -> None:
    old = _layer(2, moving_mean=[0, 1], moving_variance=[1e-8, 1])
    new = _layer(2, moving_mean=[0, 1], moving_variance=[1e-12, 1])
    assert (_change(old, new).divergence, _change(old, new).undefined) == (0.0, 0)
    # A channel of a mean other than 0 lives, however small its variance.
    alive = _layer(2, moving_mean=[1e-9, 1], moving_variance=[1e-12, 1])
    assert _change(old, alive).divergence == pytest.approx(2500, rel=1e-3)


def test_nothing_is_defined_where_no_channel_is() -> None:
    old = _layer(2, moving_mean=[np.nan, np.nan], moving_variance=[np.nan, np.nan])
    change = _change(old, _layer(2))
    assert (change.divergence, change.undefined) == (None, 2)
    assert change.roles[Role.MOVING_MEAN].measure.shift is None
    zero = _layer(2, gamma=[0, 0])
    assert _change(zero, _layer(2)).roles[Role.GAMMA].measure.shift is None


def test_identical_is_bit_by_bit() -> None:
    old = _layer(2, moving_mean=[np.nan, 0.0])
    assert set(_kinds(_change(old, dict(old))).values()) == {"identical"}
    new = old | {"net/bn/moving_mean": np.array([np.nan, -0.0], np.float32)}
    assert _kinds(_change(old, new))["moving_mean"] == "moved"


def test_reset_is_exact_and_was_not_before() -> None:
    initial = {"moving_mean": np.zeros(6), "moving_variance": np.ones(6)}
    assert _kinds(_change(_layer(), _layer(**initial))) == {
        "gamma": "moved",
        "beta": "moved",
        "moving_mean": "reset",
        "moving_variance": "reset",
    }
    assert _kinds(_change(_layer(**initial), _layer(**initial)))["moving_mean"] == "identical"
    nearly = initial | {"moving_mean": np.full(6, 1e-30)}
    assert _kinds(_change(_layer(), _layer(**nearly)))["moving_mean"] == "moved"


@pytest.mark.parametrize("factor", [1000.0, -1.0, 0.5, 1.01])
def test_scaled_by_one_number(factor: float) -> None:
    old = _layer()
    new = old | {"net/bn/moving_mean": (old["net/bn/moving_mean"] * factor).astype(np.float32)}
    change = _change(old, new).roles[Role.MOVING_MEAN]
    assert change.change is Change.SCALED
    assert change.factor == pytest.approx(factor, rel=1e-5)


def test_what_is_no_scaling() -> None:
    old = _layer()
    mean = old["net/bn/moving_mean"]
    one_off = mean * np.float32(2)
    one_off[3] *= np.float32(1.01)
    assert _kinds(_change(old, old | {"net/bn/moving_mean": one_off}))["moving_mean"] == "moved"
    tiny = mean * np.float32(1.0001)
    assert _kinds(_change(old, old | {"net/bn/moving_mean": tiny}))["moving_mean"] == "moved"
    # A variance that decays alike everywhere has a factor, which tells nothing.
    uniform = _layer(moving_variance=np.full(6, 0.5))
    halved = uniform | {"net/bn/moving_variance": np.full(6, 0.25, np.float32)}
    assert _kinds(_change(uniform, halved))["moving_variance"] == "moved"


def test_permuted_and_swapped() -> None:
    old = _layer()
    mean, variance = old["net/bn/moving_mean"], old["net/bn/moving_variance"]
    permuted = old | {"net/bn/moving_mean": np.roll(mean, 1)}
    assert _kinds(_change(old, permuted))["moving_mean"] == "permuted"
    swapped = old | {"net/bn/moving_mean": variance, "net/bn/moving_variance": mean}
    change = _change(old, swapped)
    assert change.roles[Role.MOVING_MEAN].change is Change.SWAPPED
    assert change.roles[Role.MOVING_MEAN].source is Role.MOVING_VARIANCE
    assert change.roles[Role.MOVING_VARIANCE].source is Role.MOVING_MEAN


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(np.float16, "half-precision-copy"), (np.float64, "precision-copy")],
)
def test_copies_in_another_precision(dtype: Any, kind: str) -> None:
    old = _layer()
    new = {name: each.astype(dtype) for name, each in old.items()}
    assert set(_kinds(_change(old, new)).values()) == {kind}
    assert set(_kinds(_change(new, old)).values()) == {kind}
    moved = new | {"net/bn/moving_mean": new["net/bn/moving_mean"] + dtype(1)}
    assert _kinds(_change(old, moved))["moving_mean"] == "moved"


def test_a_bfloat16_copy() -> None:
    old = _layer()
    new = {name: each.astype(ml_dtypes.bfloat16) for name, each in old.items()}
    assert set(_kinds(_change(old, new)).values()) == {"half-precision-copy"}


def test_tolerance_is_relative_to_the_largest_magnitude() -> None:
    old = _layer(3, moving_mean=[100.0, 1e-3, 0.0])
    new = old | {"net/bn/moving_mean": np.array([100.0, 2e-3, 1e-3], np.float32)}
    assert _kinds(_change(old, new, 1e-4))["moving_mean"] == "within-tolerance"
    assert _kinds(_change(old, new, 1e-6))["moving_mean"] == "moved"
    nan = old | {"net/bn/moving_mean": np.array([100.0, np.nan, 0.0], np.float32)}
    assert _kinds(_change(old, nan, 1.0))["moving_mean"] == "moved"


def test_shapes_and_roles() -> None:
    old = _layer()
    wide = {name: each.reshape(1, 1, 1, 6) for name, each in old.items()}
    assert set(_kinds(_change(old, wide)).values()) == {"identical"}
    assert _kinds(_change(old, _layer(8))) == dict.fromkeys(
        ("gamma", "beta", "moving_mean", "moving_variance"), "reshaped"
    )
    without = {name: each for name, each in old.items() if not name.endswith("gamma")}
    assert _kinds(_change(old, without))["gamma"] == "removed"
    assert _kinds(_change(without, old))["gamma"] == "added"


def test_a_brief_account_says_what_moved() -> None:
    old, new = _layer(), _layer()
    full = compare(snapshot(old), snapshot(new)).layers[0]
    brief = compare(snapshot(old), snapshot(new), same_run=True).layers[0]
    assert _kinds(brief) == _kinds(full)
    assert brief.divergence is None


def test_divergences_of_many_layers_in_one_pass() -> None:
    old, new = [_layer(channels) for channels in (3, 5)], [_layer(channels) for channels in (3, 5)]
    new[1]["net/bn/moving_variance"][2] = -1
    rows = [
        np.stack(
            [
                np.concatenate([each[f"net/bn/{role}"] for each in side])
                for role in ("moving_mean", "moving_variance")
            ]
        )
        for side in (old, new)
    ]
    spans = {"a": slice(0, 3), "b": slice(3, 8)}
    found = divergences_between(*rows, spans)
    assert found == {
        name: pytest.approx(_change(first, second).divergence)
        for name, first, second in zip("ab", old, new, strict=True)
    }
    nan = np.full_like(rows[0], np.nan)
    assert divergences_between(rows[0], nan, spans) == {"a": None, "b": None}
    assert divergences_between(rows[1], rows[1], spans) == {"a": 0.0, "b": 0.0}
    assert divergences_between(rows[0][:, :0], rows[0][:, :0], {}) == {}
