"""Older Keras files with so much of one thing that its square would take minutes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from bncheck.checkpoint.keras import open_hdf5
from bncheck.checkpoint.keras_config import read_config
from bncheck.checkpoint.keras_h5 import _below, _find, _Objects, _Owners, _Weight
from tests.checkpoint.test_keras_h5 import full, keys, layer, listed, model, write_h5

if TYPE_CHECKING:
    from bncheck.checkpoint.structure import Structure


def quick(path: str) -> Structure:
    start = time.perf_counter()
    structure = open_hdf5(path).structure
    assert time.perf_counter() - start < 10
    return structure


def test_a_layer_that_is_listed_twice_is_one(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", {"bn": full("bn")})
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = np.array([b"bn"] * 1000)
    assert listed(path) == {"bn": ("bn", keys("bn", full("bn")))}


def test_many_layers_without_a_list_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["layer_names"] = np.array([b"a"] * 20_000)
        file.create_group("a")
        for index in range(2000):
            file["a"][f"w{index}"] = np.float32(1)
    (found,) = quick(str(path)).objects
    assert len(found.attributes) == 2000


def test_weights_of_a_group_without_a_list_are_its_own(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"a", b"a.b", b"a0"])
        for name in ("a", "a.b", "a0"):
            file[f"{name}/{name}/gamma"] = np.ones(1)
    found = {each.path: list(each.attributes.values()) for each in quick(str(path)).objects}
    assert found == {name: [f"{name}/{name}/gamma"] for name in ("a", "a.b", "a0")}


def test_many_objects_of_one_path() -> None:
    scopes = [f"x{index}/bn" for index in range(10_000)]
    objects = _Objects(None, [])
    weights = [_Weight(scope, f"{scope}/gamma", scope, "gamma") for scope in scopes]
    start = time.perf_counter()
    objects.add_group("bn", weights)
    assert time.perf_counter() - start < 5
    assert [each.path for each in objects.found[:3]] == ["bn", "bn#2", "bn#3"]
    assert len({each.path for each in objects.found}) == len(scopes)


def test_many_layers_of_one_name() -> None:
    inner = [layer("BatchNormalization", "bn", momentum=0.9)]
    for count, found in ((1000, True), (1001, False)):
        nested = read_config(json.dumps(model(*inner * count)), "file", "it")
        assert nested is not None
        start = time.perf_counter()
        assert (_find(_below(nested), "bn") is not None) is found
        assert time.perf_counter() - start < 0.5


def test_the_owner_of_a_slot_is_looked_for_where_optimizers_put_it() -> None:
    owners = _Owners({"key": "bn/gamma"})
    for slot in ("Adam/m/bn/gamma", "training/Adam/bn/gamma/m", "adam/bn_gamma_first_moment"):
        assert owners.of(slot) == "key"
    start = time.perf_counter()
    for slot in ("a/" * 30_000 + "x", "adam/" + "_" * 60_000):
        assert owners.of(slot) == ""
    assert time.perf_counter() - start < 0.1
