"""Keras' older HDF5 files of every age, and what each weight's name tells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bncheck.checkpoint.keras import open_hdf5
from bncheck.errors import BncheckError, DamagedError, NotACheckpointError
from tests.checkpoint.oracle import assert_same

Groups = Mapping[str, Sequence[str]]
ROLES = ("gamma", "beta", "moving_mean", "moving_variance")


def write_h5(
    path: Path,
    groups: Groups,
    *,
    whole: bool = False,
    config: Any = None,
    slots: Sequence[str] = (),
    pieces: int = 1,
) -> str:
    """Write layers as Keras does; every weight is a vector of its own number."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        if config is not None:
            file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
        write_names(root, "layer_names", list(groups), pieces)
        for number, (group, names) in enumerate(groups.items()):
            write_group(root.create_group(group), names, number, pieces)
        if slots:
            write_group(file.create_group("optimizer_weights"), slots, 100, pieces)
    return str(path)


def write_group(group: h5py.Group, names: Sequence[str], number: int, pieces: int) -> None:
    write_names(group, "weight_names", names, pieces)
    for index, name in enumerate(names):
        scalar = name.rpartition("/")[2].startswith(("iter", "learning_rate"))
        group[name] = np.int64(3) if scalar else np.full(4, 10 * number + index, np.float32)


def write_names(group: h5py.Group, name: str, values: Sequence[str], pieces: int) -> None:
    encoded = [value.encode() for value in values]
    if pieces == 1:
        group.attrs[name] = np.array(encoded) if encoded else np.zeros(0)
    else:
        for index, piece in enumerate(
            np.array_split(np.array(encoded or [b""])[: len(encoded)], pieces)
        ):
            group.attrs[f"{name}{index}"] = piece


def layer(class_name: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, **config}}


def model(*layers: Any, name: str = "m") -> dict[str, Any]:
    return layer("Functional", name, layers=list(layers))


def listed(path: str) -> dict[str, tuple[str, dict[str, str]]]:
    return {
        found.path: (found.name, dict(found.attributes))
        for found in open_hdf5(path).structure.objects
    }


def full(scope: str, end: str = ":0") -> list[str]:
    return [f"{scope}/{role}{end}" for role in ROLES]


def keys(group: str, names: Sequence[str]) -> dict[str, str]:
    return {role: f"{group}/{name}" for role, name in zip(ROLES, names, strict=True)}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("pieces", [1, 2])
def test_keras_2(tmp_path: Path, pieces: int, whole: bool) -> None:
    groups = {"input": [], "d": ["d/kernel:0", "d/bias:0"], "bn": full("bn")}
    path = write_h5(tmp_path / "m.h5", groups, whole=whole, pieces=pieces)
    opened = open_hdf5(path)
    root = "model_weights/" if whole else ""
    assert (opened.path, opened.format, opened.shards) == (path, "keras-h5", 1)
    assert listed(path) == {
        "d": ("d", {"kernel": f"{root}d/d/kernel:0", "bias": f"{root}d/d/bias:0"}),
        "bn": ("bn", keys(f"{root}bn", full("bn"))),
    }
    assert opened.structure.full_names[f"{root}bn/bn/moving_mean:0"] == "bn/moving_mean"
    assert opened.structure.ambiguous == {}
    assert all(found.config is None for found in opened.structure.objects)
    values = opened.read(opened.variables)
    with h5py.File(path) as file:
        for name, array in values.arrays.items():
            assert_same(array, file[name][()], name)
    assert len(values.arrays) == 6


def test_the_layer_is_called_as_its_group_whatever_scope_tensorflow_made(tmp_path: Path) -> None:
    groups = {
        "batch_normalization_1": full("batch_normalization_1_4"),
        "bn": full("model/bn"),
        "other": full("tower/other_2"),
    }
    path = write_h5(tmp_path / "m.h5", groups)
    assert listed(path) == {name: (name, keys(name, weights)) for name, weights in groups.items()}


def test_keras_3_names_the_whole_way(tmp_path: Path) -> None:
    names = full("net/inner/bn", "")
    block = [*full("net/block/bn", ""), "net/block/scale"]
    path = write_h5(tmp_path / "m.h5", {"inner": names, "block": block}, whole=True)
    assert listed(path) == {
        "inner/bn": ("bn", keys("model_weights/inner", names)),
        "block/bn": ("bn", keys("model_weights/block", block[:4])),
        "block": ("block", {"scale": "model_weights/block/net/block/scale"}),
    }


def test_a_model_within_the_model_is_one_group(tmp_path: Path) -> None:
    names = ["dense/kernel:0", *full("bn_x"), *full("bn_x_1")]
    path = write_h5(tmp_path / "m.h5", {"inner": names})
    assert listed(path) == {
        "inner/dense": ("dense", {"kernel": "inner/dense/kernel:0"}),
        "inner/bn_x": ("bn_x", keys("inner", full("bn_x"))),
        "inner/bn_x_1": ("bn_x_1", keys("inner", full("bn_x_1"))),
    }


def test_a_model_of_one_layer_keeps_that_layers_name(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", {"inner": full("bn_x")})
    assert listed(path) == {"inner/bn_x": ("bn_x", keys("inner", full("bn_x")))}


KERAS_1 = ("gamma", "beta", "running_mean", "running_std")


@pytest.mark.parametrize("end", ["", ":0", "_1:0"])
def test_keras_1_has_flat_names(tmp_path: Path, end: str) -> None:
    """Theano's files lack `:0`; TensorFlow numbers a name that it has seen."""
    group = "batchnormalization_1"
    names = [f"{group}_{role}{end}" for role in KERAS_1]
    path = write_h5(
        tmp_path / "m.h5", {group: names, "dense_1": [f"dense_1_W{end}", f"dense_1_b{end}"]}
    )
    assert listed(path) == {
        group: (group, keys(group, names)),
        "dense_1": ("dense_1", {"W": f"dense_1/dense_1_W{end}", "b": f"dense_1/dense_1_b{end}"}),
    }


def test_keras_1_keeps_several_layers_in_one_group(tmp_path: Path) -> None:
    names = [f"{name}_{role}:0" for name in ("bn_1", "my_bn") for role in KERAS_1]
    path = write_h5(tmp_path / "m.h5", {"model_2": names})
    assert listed(path) == {
        "model_2/bn_1": ("bn_1", keys("model_2", names[:4])),
        "model_2/my_bn": ("my_bn", keys("model_2", names[4:])),
    }


def test_keras_1_tells_layers_apart_by_tensorflows_number(tmp_path: Path) -> None:
    names = [f"bn_{role}{end}:0" for end in ("", "_1") for role in KERAS_1]
    path = write_h5(tmp_path / "m.h5", {"model_2": names})
    assert listed(path) == {
        "model_2/bn": ("bn", keys("model_2", names[:4])),
        "model_2/bn_1": ("bn_1", keys("model_2", names[4:])),
    }


def test_two_weights_of_one_name_are_both_kept(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", {"x": ["x/gamma:0", "x/gamma:1"]})
    assert listed(path) == {"x": ("x", {"gamma": "x/x/gamma:0", "x/x/gamma:1": "x/x/gamma:1"})}


def test_before_keras_1_there_are_no_names(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["nb_layers"] = 2
        for index in range(4):
            file[f"layer_0/param_{index}"] = np.zeros(3, np.float32)
        file["layer_1/param_0"] = np.zeros((3, 3), np.float32)
    path = str(tmp_path / "m.h5")
    assert listed(path)["layer_0"] == (
        "layer_0",
        {f"param_{index}": f"layer_0/param_{index}" for index in range(4)},
    )
    assert list(open_hdf5(path).structure.ambiguous) == ["layer_0"]


BN = {"momentum": 0.9, "epsilon": 0.01, "trainable": False}


def test_the_configuration_is_found_by_name(tmp_path: Path) -> None:
    config = model(
        layer("BatchNormalization", "bn", **BN),
        model(
            model(layer("BatchNormalization", "deep", momentum=0.5), name="two"),
            layer("BatchNormalization", "bn", momentum=0.7),
            name="one",
        ),
        layer("TimeDistributed", "td", layer=layer("BatchNormalization", "within", momentum=0.3)),
        layer("LayerNormalization", "ln"),
    )
    groups = {
        "bn": full("bn"),
        "one": [*full("deep_1"), *full("bn")],
        "td": full("td"),
        "ln": ["ln/gamma:0", "ln/beta:0"],
    }
    found = open_hdf5(
        write_h5(tmp_path / "m.h5", groups, whole=True, config=config)
    ).structure.objects
    told = {each.path: (each.name, each.config and each.config.momentum) for each in found}
    assert told == {
        "bn": ("bn", 0.9),
        "one/deep_1": ("deep", 0.5),
        "one/bn": ("bn", 0.7),
        "td": ("within", 0.3),
        "ln": ("ln", None),
    }
    assert found[0].config is not None
    assert found[0].config.trainable is False
    assert found[0].config.epsilon == 0.01
    assert found[-1].config is not None
    assert found[-1].config.class_name == "LayerNormalization"


def test_what_two_layers_could_mean_is_not_guessed(tmp_path: Path) -> None:
    inner = [
        model(layer("BatchNormalization", "bn", momentum=momentum), name=name)
        for name, momentum in (("a", 0.1), ("b", 0.2))
    ]
    config = model(model(*inner, name="outer"))
    path = write_h5(tmp_path / "m.h5", {"outer": full("bn")}, whole=True, config=config)
    assert open_hdf5(path).structure.objects[0].config is None
    path = write_h5(tmp_path / "n.h5", {"outer": full("b/bn")}, whole=True, config=config)
    found = open_hdf5(path).structure.objects[0].config
    assert found is not None
    assert found.momentum == 0.2


SLOTS = {
    "Adam/m/bn/gamma:0": "bn/bn/gamma:0",
    "training/Adam/bn/gamma/v:0": "bn/bn/gamma:0",
    "SGD/bn/beta/momentum:0": "bn/bn/beta:0",
    "adam/bn_beta_velocity": "bn/bn/beta:0",
    "adam/my_bn_gamma_momentum": "my/my/bn/gamma:0",
    "training/Adam/Variable_3:0": "",
}


def test_slots_name_the_variable_that_they_serve(tmp_path: Path) -> None:
    counters = ["adam/iteration", "iter:0", "learning_rate:0", "Adam/iterations:0"]
    path = write_h5(
        tmp_path / "m.h5",
        {"bn": full("bn"), "my": full("my/bn")},
        slots=[*SLOTS, *counters],
    )
    structure = open_hdf5(path).structure
    assert structure.slots == {f"optimizer_weights/{slot}": owner for slot, owner in SLOTS.items()}
    assert structure.counters == {f"optimizer_weights/{name}" for name in counters}
    assert set(structure.steps) == structure.counters - {"optimizer_weights/learning_rate:0"}


def test_a_layer_in_two_models_is_stored_twice(tmp_path: Path) -> None:
    """Keras 3 tells it by the names, which are whole ways; in Keras 2 they may be two layers."""
    names = full("inner/bn", "")
    path = write_h5(tmp_path / "m.h5", {"inner": names, "bn": names}, whole=True)
    structure = open_hdf5(path).structure
    assert [found.path for found in structure.objects] == ["inner/bn"]
    assert structure.copies == {f"model_weights/bn/{name}" for name in names}
    path = write_h5(tmp_path / "n.h5", {"inner": full("bn"), "bn": full("bn")})
    structure = open_hdf5(path).structure
    assert [found.path for found in structure.objects] == ["inner/bn", "bn"]
    assert structure.copies == set()


def test_the_models_own_weights(tmp_path: Path) -> None:
    with h5py.File(write_h5(tmp_path / "m.h5", {"bn": full("bn")}), "a") as file:
        write_group(file.create_group("top_level_model_weights"), ["w:0", "my/v:0"], 9, 1)
    assert list(listed(str(tmp_path / "m.h5"))) == ["bn", "top_level_model_weights", "my"]


def test_a_list_may_be_missing(tmp_path: Path) -> None:
    with h5py.File(write_h5(tmp_path / "m.h5", {"bn": full("bn")}, whole=True), "a") as file:
        del file["model_weights"].attrs["layer_names"]
        del file["model_weights/bn"].attrs["weight_names"]
    assert listed(str(tmp_path / "m.h5")) == {"bn": ("bn", keys("model_weights/bn", full("bn")))}


def damage(path: str, what: str) -> None:
    with h5py.File(path, "a") as file:
        del file[what]


FAILURES: dict[str, tuple[Any, type[BncheckError], str]] = {
    "a layer is gone": (
        lambda path: damage(path, "model_weights/bn"),
        DamagedError,
        "lists the layer 'bn' and does not hold it",
    ),
    "a weight is gone": (
        lambda path: damage(path, "model_weights/bn/bn/beta:0"),
        DamagedError,
        "'model_weights/bn' lists the weight 'bn/beta:0' and does not hold it",
    ),
    "no JSON": (
        lambda path: h5py.File(path, "a").attrs.update(model_config="{"),
        DamagedError,
        "model_config is no valid JSON",
    ),
    "too deep": (
        lambda path: h5py.File(path, "a").attrs.update(model_config="[" * 100_000),
        DamagedError,
        "model_config nests too deep",
    ),
    "another program's file": (
        lambda path: damage(path, "model_weights"),
        NotACheckpointError,
        "is an HDF5 file, and none of Keras' weights",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures(tmp_path: Path, case: str) -> None:
    change, kind, text = FAILURES[case]
    path = write_h5(tmp_path / "m.h5", {"bn": full("bn")}, whole=True, config=model())
    change(path)
    with pytest.raises(kind) as caught:
        open_hdf5(path)
    assert str(caught.value).startswith(path)
    assert text in str(caught.value)


def test_the_corpus(corpus: Path) -> None:
    path = str(corpus / "connect4-h5-weights/model/model_best_weight.h5")
    names = [name for name, found in listed(path).items() if "moving_mean" in found[1]]
    assert sorted(names) == [f"batch_normalization_{number}" for number in range(1, 8)]
    opened = open_hdf5(str(corpus / "aimen-keras-h5/20200412-0546/model.h5"))
    layers = [found for found in opened.structure.objects if "moving_mean" in found.attributes]
    assert [found.name for found in layers] == [
        f"batch_normalization{end}" for end in ("", "_1", "_2", "_3", "_4")
    ]
    assert {found.config and found.config.momentum for found in layers} == {0.99}
    assert len(opened.structure.slots) == 44
    assert "" not in opened.structure.slots.values()
    assert opened.structure.steps == ("optimizer_weights/training/Adam/iter:0",)


@pytest.mark.parametrize("known", [True, False])
def test_a_sequential_without_a_name_is_told_by_its_place(tmp_path: Path, known: bool) -> None:
    """Before Keras 2.2.3 an inner Sequential is a list, and its name is not in it."""

    def block(momentum: float) -> dict[str, Any]:
        inner = [layer("BatchNormalization", "bn", momentum=momentum)]
        return {"class_name": "Sequential", "config": inner}

    last = layer("BatchNormalization", "last" if known else "other", momentum=0.5)
    config = {"class_name": "Sequential", "config": [block(0.9), block(0.8), last]}
    groups = {"sequential_3": full("bn"), "sequential_4": full("bn_1"), "last": full("last")}
    opened = open_hdf5(write_h5(tmp_path / "m.h5", groups, whole=True, config=config))
    found = {each.path: each.config and each.config.momentum for each in opened.structure.objects}
    assert found == {
        "sequential_3/bn": 0.9 if known else None,
        "sequential_4/bn_1": 0.8 if known else None,
        "last": 0.5 if known else None,
    }
