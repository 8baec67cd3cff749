"""BN6xx at its edges: what trips each rule, and what looks alike and must not."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from bncheck.changes.comparison import compare
from bncheck.rules import evidence_of
from bncheck.rules.rule import RULES, Finding, Level
from tests.changes.checkpoints import snapshot

RNG = np.random.default_rng(13)
Arrays = dict[str, NDArray[Any]]
INITIAL = {"moving_mean": np.zeros(6), "moving_variance": np.ones(6)}


def _layer(name: str = "net/bn", dtype: Any = np.float32, **given: Any) -> Arrays:
    values = {
        "gamma": RNG.normal(1, 0.2, 6),
        "beta": RNG.normal(0, 0.2, 6),
        "moving_mean": RNG.normal(0, 2, 6),
        "moving_variance": RNG.uniform(2, 9, 6),
    } | given
    return {f"{name}/{r}": np.asarray(v, dtype) for r, v in values.items() if v is not None}


def _kernel(name: str = "net/dense/kernel") -> Arrays:
    return {name: RNG.normal(size=(4, 6)).astype(np.float32)}


def _found(old: Arrays, new: Arrays, code: str) -> list[Finding]:
    before, after = snapshot(old), snapshot(new)
    return list(RULES[code].check(evidence_of(after, compare(before, after))))


def _all(old: Arrays, new: Arrays) -> dict[str, Level]:
    found = [f for c in ("BN601", "BN602", "BN603", "BN604", "BN605") for f in _found(old, new, c)]
    return {finding.rule.code: finding.level for finding in found}


def _affine(layer: Arrays) -> Arrays:
    return {name: v for name, v in layer.items() if name.endswith(("gamma", "beta"))}


def _statistics(layer: Arrays) -> Arrays:
    return {name: v for name, v in layer.items() if "moving" in name}


def test_training_is_silent() -> None:
    assert _all(_layer() | _kernel(), _layer() | _kernel()) == {}


def test_frozen_and_initial_is_an_error() -> None:
    old, new = _layer(**INITIAL) | _kernel(), _layer(**INITIAL) | _kernel()
    assert _all(old, new) == {"BN601": Level.ERROR}
    (finding,) = _found(old, new, "BN601")
    assert finding.variables == ("net/bn/moving_mean", "net/bn/moving_variance")
    assert finding.evidence["affine_moved"] is True
    assert finding.evidence["weights_moved"] == 1.0


@pytest.mark.parametrize(("left", "value"), [("moving_mean", "0"), ("moving_variance", "1")])
def test_frozen_and_initial_where_the_other_statistic_is_missing(left: str, value: str) -> None:
    lost = dict.fromkeys(INITIAL) | {left: INITIAL[left]}
    (finding,) = _found(_layer(**lost) | _kernel(), _layer(**lost) | _kernel(), "BN601")
    assert finding.level is Level.ERROR
    assert finding.variables == (f"net/bn/{left}",)
    assert f"still initial: {left} is exactly {value} in every channel" in finding.message


def test_without_an_affine_the_weights_beside_it_tell() -> None:
    bare = {"gamma": None, "beta": None}
    still = _layer(**bare, **INITIAL)
    assert _all(still | _kernel(), still | _kernel()) == {"BN601": Level.ERROR}
    # Where its own scope has no weights, those of the scopes around it do.
    far = "other/kernel"
    assert _all(still | _kernel(far), still | _kernel(far)) == {"BN601": Level.ERROR}
    same = _kernel()
    assert _all(still | same, still | same) == {}


def test_a_layer_that_nothing_trains_is_silent() -> None:
    unused = _layer(**INITIAL, gamma=np.ones(6), beta=np.zeros(6))
    assert _all(unused | _kernel(), unused | _kernel()) == {}
    # Trained once, and left out since: its statistics are initial beside a trained affine.
    left = _layer(**INITIAL)
    assert _all(left | _kernel(), left | _kernel()) == {"BN601": Level.ERROR}


def test_frozen_and_trained_is_a_warning() -> None:
    layer = _layer()
    assert _all(layer | _kernel(), layer | _kernel()) == {"BN601": Level.WARNING}
    moved = _statistics(layer) | _affine(_layer())
    assert _all(layer | _kernel(), moved | _kernel()) == {"BN601": Level.WARNING}
    messages = [
        _found(layer | _kernel(), e | _kernel(), "BN601")[0].message for e in (layer, moved)
    ]
    assert "frozen, or left out" in messages[0]
    assert messages[1].startswith("gamma and beta moved")


@pytest.mark.parametrize(("moving", "codes"), [(1, set()), (2, set()), (3, {"BN601"})])
def test_most_of_the_weights_beside_it_must_have_moved(moving: int, codes: set[str]) -> None:
    """A head that is trained on a frozen network moves few of its weights."""
    layer = _layer()
    kernels = {name: v for n in range(4) for name, v in _kernel(f"net/dense{n}/kernel").items()}
    new = dict(kernels)
    for n in range(moving):
        new |= _kernel(f"net/dense{n}/kernel")
    assert set(_all(layer | kernels, layer | new)) == codes


def test_the_innermost_scope_with_weights_counts() -> None:
    layer = _layer("net/block1/bn")
    near, far = _kernel("net/block1/conv/kernel"), _kernel("net/head/kernel")
    assert _all(layer | near | far, layer | near | _kernel("net/head/kernel")) == {}
    new = layer | _kernel("net/block1/conv/kernel") | far
    assert _all(layer | near | far, new) == {"BN601": Level.WARNING}


def test_one_statistic_that_stands_still() -> None:
    layer = _layer()
    moved = layer | _affine(_layer()) | {"net/bn/moving_mean": _layer()["net/bn/moving_mean"]}
    assert _all(layer, moved) == {"BN601": Level.WARNING}
    (finding,) = _found(layer, moved, "BN601")
    assert finding.message == "moving_mean moved, and moving_variance is bit by bit what it was"
    # On standardised inputs a variance of 1 cannot leave it, and a dead layer's mean stays 0.
    ones = {"net/bn/moving_variance": np.ones(6, np.float32)}
    assert _all(layer | ones, moved | ones) == {}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_in_half_precision_updates_may_round_to_nothing(dtype: Any) -> None:
    layer = _layer(dtype=dtype)
    assert _all(layer, layer | _affine(_layer(dtype=dtype))) == {}
    initial = _layer(dtype=dtype, **INITIAL)
    moved = initial | _affine(_layer(dtype=dtype))
    assert _all(initial, moved) == {"BN601": Level.WARNING}


def test_nan_that_stays_is_not_frozen() -> None:
    layer = _layer(moving_mean=np.full(6, np.nan))
    assert _all(layer | _kernel(), layer | _affine(_layer()) | _kernel()) == {}


def test_reset_is_an_error_of_each_role() -> None:
    old = _layer()
    assert _all(old, _affine(old) | _statistics(_layer(**INITIAL))) == {"BN602": Level.ERROR}
    mean = old | {"net/bn/moving_mean": np.zeros(6, np.float32)}
    (finding,) = _found(old, mean, "BN602")
    assert finding.message == "moving_mean went back to the initial values"
    assert finding.variables == ("net/bn/moving_mean",)
    whole = _layer(**INITIAL, gamma=np.ones(6), beta=np.zeros(6))
    assert "nothing was restored" in _found(old, whole, "BN602")[0].message


@pytest.mark.parametrize(("updates", "codes"), [(1, {"BN602"}), (2, {"BN602"}), (200, set())])
def test_a_few_updates_after_a_reset_are_a_warning(updates: int, codes: set[str]) -> None:
    old, left = _layer(), 0.998**updates
    mean = (1 - left) * old["net/bn/moving_mean"]
    variance = left + (1 - left) * old["net/bn/moving_variance"]
    new = _layer(moving_mean=mean, moving_variance=variance)
    found = _all(old, new)
    assert set(found) == codes
    assert set(found.values()) <= {Level.WARNING}


def test_statistics_that_come_near_the_initial_ones_by_training() -> None:
    """From 25 to about 1 while a network settles; single channels are not within 0.05 of 1."""
    old = _layer(moving_mean=RNG.normal(0, 5, 6), moving_variance=np.linspace(20, 30, 6))
    new = _layer(moving_mean=RNG.normal(0, 0.1, 6), moving_variance=np.linspace(0.8, 1.3, 6))
    assert _all(old, new) == {}
    # And what was near before has gone nowhere.
    near = {"moving_mean": np.full(6, 0.01), "moving_variance": np.full(6, 1.01)}
    nearer = {"moving_mean": np.full(6, 0.009), "moving_variance": np.full(6, 1.009)}
    assert _all(_layer(**near), _layer(**nearer)) == {}


def test_moved_alone_needs_weights_that_stood_still() -> None:
    layer, kernel = _layer(), _kernel()
    moved = _affine(layer) | _statistics(_layer())
    assert _all(layer | kernel, moved | kernel) == {"BN603": Level.WARNING}
    assert _all(layer | kernel, moved | _kernel()) == {}
    # Nothing but statistics tells nothing.
    bare = {"gamma": None, "beta": None}
    assert _all(_layer(**bare), _layer(**bare)) == {}
    assert _all(_layer(**bare) | kernel, _layer(**bare) | kernel) == {"BN603": Level.WARNING}


def test_moved_alone_says_what_became_of_them() -> None:
    layer, kernel = _layer(), _kernel()
    rolled = layer | {"net/bn/moving_mean": np.roll(layer["net/bn/moving_mean"], 2)}
    scaled = layer | {"net/bn/moving_variance": layer["net/bn/moving_variance"] * np.float32(500)}
    told = [_found(layer | kernel, e | kernel, "BN603")[0].message for e in (rolled, scaled)]
    assert told[0].endswith("moving_mean has its channels in another order")
    assert told[1].endswith("moving_variance is 500 times what it was")


def test_the_set_of_layers() -> None:
    one, two = _layer("net/bn_a"), _layer("net/other/bn_b")
    (finding,) = _found(one, one | two, "BN604")
    assert finding.evidence["added"] == ["net/other/bn_b"]
    assert _found(one | two, one, "BN604")[0].evidence["removed"] == ["net/other/bn_b"]
    wider = {name: np.concatenate([v, v]) for name, v in one.items()}
    assert _found(one, wider, "BN604")[0].evidence["reshaped"] == ["net/bn_a"]
    assert _found(one | two, one | two, "BN604") == []


def test_another_head_in_the_place_of_the_old_one_was_not_reset() -> None:
    """It has the old one's shapes, and none of its numbers."""
    body, kernel = _layer("net/body/bn"), _kernel("net/body/kernel")
    old = body | kernel | _layer("net/head/bn")
    fresh = _layer("net/new_head/bn", **INITIAL, gamma=np.ones(6), beta=np.zeros(6))
    assert _all(old, body | kernel | fresh) == {"BN604": Level.WARNING}
    # Under another name, but with its affine: it was.
    kept = {n.replace("head", "new_head"): v for n, v in _affine(_layer("net/head/bn")).items()}
    old |= {n.replace("new_head", "head"): v for n, v in kept.items()}
    assert _all(old, body | kernel | fresh | kept) == {
        "BN602": Level.ERROR,
        "BN604": Level.WARNING,
    }
