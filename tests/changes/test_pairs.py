"""Which layer is which: by name, by number, by a rename, by shape."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bncheck.changes.model import PairedBy, Pairs
from bncheck.changes.pairs import _in_order, pair_layers
from bncheck.changes.shifts import without_numbers
from tests.changes.checkpoints import snapshot

RNG = np.random.default_rng(11)
ROLES = ("gamma", "beta", "moving_mean", "moving_variance")
Arrays = dict[str, NDArray[Any]]


def _layer(channels: int = 8) -> list[NDArray[Any]]:
    low, high = (0.8, -0.2, -3.0, 0.2), (1.2, 0.2, 3.0, 9.0)
    return [RNG.uniform(a, b, channels).astype(np.float32) for a, b in zip(low, high, strict=True)]


def _named(layers: dict[str, list[NDArray[Any]]]) -> Arrays:
    return {
        f"{name}/{role}": value
        for name, layer in layers.items()
        for role, value in zip(ROLES, layer, strict=True)
    }


def _numbered(layers: list[list[NDArray[Any]]], stem: str = "batch_normalization") -> Arrays:
    return _named({f"{stem}_{n}" if n else stem: layer for n, layer in enumerate(layers)})


def _later(layer: list[NDArray[Any]], by: float = 0.02) -> list[NDArray[Any]]:
    return [each * (1 + by * RNG.normal(size=each.shape)).astype(np.float32) for each in layer]


def _pairs(old: Arrays, new: Arrays) -> Pairs:
    return pair_layers(snapshot(old), snapshot(new))


def _told(pairs: Pairs) -> dict[str, tuple[str, str]]:
    return {pair.before.name: (pair.after.name, pair.by.value) for pair in pairs.layers}


def test_by_name() -> None:
    layers = [_layer() for _ in range(4)]
    pairs = _pairs(_numbered(layers), _numbered([_later(each) for each in layers]))
    assert {pair.by for pair in pairs.layers} == {PairedBy.NAME}
    assert all(pair.before.name == pair.after.name for pair in pairs.layers)
    assert (pairs.shifts, pairs.renames, pairs.only_before, pairs.only_after) == ((), (), (), ())


@pytest.mark.parametrize("at", [0, 1, 3, 5])
def test_an_inserted_layer_shifts_what_follows(at: int) -> None:
    layers = [_layer() for _ in range(5)]
    later = [_later(each) for each in layers]
    new = [*later[:at], _layer(), *later[at:]]
    pairs = _pairs(_numbered(layers), _numbered(new))
    stem = "batch_normalization"
    names = [f"{stem}_{n}" if n else stem for n in range(6)]
    assert _told(pairs) == {
        names[n]: (names[n + (n >= at)], "index" if n >= at else "name") for n in range(5)
    }
    assert [each.name for each in pairs.only_after] == [names[at]]
    assert [(s.offset, len(s.layers), s.proof) for s in pairs.shifts] == (
        [(1, 5 - at, "values")] if at < 5 else []
    )


def test_a_removed_layer_shifts_the_other_way() -> None:
    layers = [_layer() for _ in range(6)]
    pairs = _pairs(_numbered(layers), _numbered([*layers[:2], *map(_later, layers[3:])]))
    assert [(s.offset, len(s.layers)) for s in pairs.shifts] == [(-1, 3)]
    assert [each.name for each in pairs.only_before] == ["batch_normalization_2"]


def test_two_insertions() -> None:
    layers = [_layer() for _ in range(8)]
    later = list(map(_later, layers))
    new = [later[0], _layer(), *later[1:4], _layer(), *later[4:]]
    pairs = _pairs(_numbered(layers), _numbered(new))
    assert [(s.offset, len(s.layers)) for s in pairs.shifts] == [(1, 3), (2, 4)]
    assert len(pairs.only_after) == 2


def test_one_layer_is_shifted_if_its_numbers_are_the_same_to_the_bit() -> None:
    layer = _layer()
    pairs = _pairs(_numbered([layer]), _numbered([_layer(), layer]))
    assert _told(pairs) == {"batch_normalization": ("batch_normalization_1", "index")}
    # Near alone would be chance.
    near = _pairs(_numbered([layer]), _numbered([_layer(), _later(layer)]))
    assert _told(near) == {"batch_normalization": ("batch_normalization", "name")}


def test_independent_runs_are_no_shift() -> None:
    for channels in (4, 8, 64):
        for _ in range(20):
            old = _numbered([_layer(channels) for _ in range(6)])
            new = _numbered([_layer(channels) for _ in range(7)])
            assert _pairs(old, new).shifts == ()


def test_layers_that_are_all_alike_are_no_shift() -> None:
    layer = _layer()
    old = _numbered([_later(layer, 0.01) for _ in range(5)])
    new = _numbered([_later(layer, 0.01) for _ in range(6)])
    assert _pairs(old, new).shifts == ()
    initial = [np.ones(8, np.float32), *[np.zeros(8, np.float32)] * 2, np.ones(8, np.float32)]
    assert _pairs(_numbered([initial] * 3), _numbered([initial] * 4)).shifts == ()


def test_shapes_tell_a_shift_where_values_cannot() -> None:
    widths = (4, 8, 16, 32)
    old = _numbered([_layer(width) for width in widths])
    new = _numbered([_layer(2), *(_layer(width) for width in widths)])
    pairs = _pairs(old, new)
    assert [(s.offset, len(s.layers), s.proof) for s in pairs.shifts] == [(1, 4, "shapes")]
    assert {pair.by for pair in pairs.layers} == {PairedBy.INDEX}


def test_by_a_rename() -> None:
    layers = {f"net/bn{n}": _layer() for n in range(3)}
    weights = {f"net/dense{n}/kernel": RNG.normal(size=(3, n + 2)) for n in range(3)}
    renamed = {f"model/{name}": _later(layer) for name, layer in layers.items()}
    new = {f"model/{name}": value for name, value in weights.items()}
    pairs = _pairs(_named(layers) | weights, _named(renamed) | new)
    assert _told(pairs) == {name: (f"model/{name}", "rename") for name in layers}
    assert [each.description for each in pairs.renames]
    assert pairs.variables["net/dense1/kernel"] == "model/net/dense1/kernel"


def test_what_is_left_by_shape_in_the_order_of_the_names() -> None:
    old = _named({f"a{n}": _layer(width) for n, width in ((1, 4), (9, 8), (10, 8), (11, 16))})
    new = _named({f"b/c/{n}": _layer(width) for n, width in (("p", 4), ("q", 8), ("r", 16))})
    # No rename gains two variables of more than one layer here: roles have other names, too.
    renamed = {name.replace("gamma", "scale"): each for name, each in new.items()}
    renamed = {name.replace("beta", "offset"): each for name, each in renamed.items()}
    renamed = {name.replace("moving_mean", "mean"): each for name, each in renamed.items()}
    renamed = {name.replace("moving_variance", "variance"): e for name, e in renamed.items()}
    assert _told(_pairs(old, renamed)) == {
        "a1": ("b/c/p", "shape"),
        "a9": ("b/c/q", "shape"),
        "a11": ("b/c/r", "shape"),
    }


def test_shapes_that_do_not_agree_stay_unpaired() -> None:
    pairs = _pairs(_named({"a/one": _layer(4)}), _named({"b/first": _layer(5)}))
    assert pairs.layers == ()
    assert [each.name for each in pairs.only_before] == ["a/one"]
    assert [each.name for each in pairs.only_after] == ["b/first"]


def test_two_thousand_layers_do_not_take_long() -> None:
    layers = [_layer(4) for _ in range(2000)]
    pairs = _pairs(_numbered(layers), _numbered([_layer(4), *map(_later, layers)]))
    (shift,) = pairs.shifts
    # A few of so many layers of four channels look as if they had stayed where they were.
    assert shift.offset == 1
    assert len(shift.layers) > 1980


def test_shapes_do_not_shift_what_is_in_place() -> None:
    """Widths 8, 8, 8, 16 and a layer inserted as the third: the first two stayed."""
    layers = [_layer(width) for width in (8, 8, 8, 16)]
    for later in (layers, [_later(each) for each in layers]):
        pairs = _pairs(_numbered(layers), _numbered([*later[:2], _layer(), *later[2:]]))
        assert [(s.offset, len(s.layers)) for s in pairs.shifts] == [(1, 2)]
        assert [each.name for each in pairs.only_after] == ["batch_normalization_2"]


def test_the_same_numbers_under_other_names() -> None:
    """A person renamed them, and not in the order of the alphabet."""
    layers = [_layer() for _ in range(3)]
    names = ("stem_bn", "mid_bn", "late_bn")
    for later in (layers, [_later(each, 0.005) for each in layers]):
        pairs = _pairs(_numbered(layers), _named(dict(zip(names, later, strict=True))))
        assert [pair.after.name for pair in pairs.layers] == list(names)
        assert {pair.by for pair in pairs.layers} == {PairedBy.VALUES}


def test_layers_are_in_the_order_of_their_numbers() -> None:
    longest = [f"bn_{'9' * 5000}", f"bn_{'9' * 4999}8"]  # more digits than Python reads as one
    layers = snapshot(_named({name: _layer() for name in ["bn_10", "bn_9", *longest]})).layers
    ordered = [each.name for each in _in_order(layers)]
    assert ordered.index("bn_9") < ordered.index("bn_10")
    assert set(ordered) == {"bn_9", "bn_10", *longest}


def test_a_name_that_is_one_long_number_and_a_letter_takes_no_longer() -> None:
    start = time.perf_counter()
    assert without_numbers("1" * 60_000 + "x") == "1" * 60_000 + "x"
    assert without_numbers("a_1/b2") == "a/b"
    assert time.perf_counter() - start < 2
