"""Keras' newer weights: numbered variables, and what tells their roles."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bncheck.checkpoint.keras import open_hdf5, open_sharded
from bncheck.checkpoint.keras_config import AFFINE, RENORM, STATISTICS, read_config
from bncheck.checkpoint.keras_weights import _innermost, build_structure
from bncheck.checkpoint.model import Variable
from bncheck.checkpoint.structure import StoredObject, Structure
from bncheck.errors import DamagedError, NotACheckpointError, NotFoundError, UnsupportedError
from tests.checkpoint.oracle import assert_same

ROLES = (*AFFINE, *STATISTICS)
THREE = ("gamma_or_beta", *STATISTICS)
NUMBERS = tuple(str(number) for number in range(9))


def write(path: Path, groups: Mapping[str, int], names: Mapping[str, str] | None = None) -> str:
    """Write so many vectors for each group, each full of its own number."""
    with h5py.File(path, "w") as file:
        for group, count in groups.items():
            made = file.create_group(f"{group}/vars" if group else "vars")
            for index in range(count):
                made[str(index)] = np.full(4, index, np.float32)
            if names and group in names:
                made.attrs["name"] = names[group]
    return str(path)


def structure(
    groups: Mapping[str, int],
    config: Any = None,
    names: Mapping[str, str] | None = None,
    shape: tuple[int, ...] = (4,),
    dtype: str = "float32",
) -> Structure:
    variables = {
        key: Variable(key, dtype, shape)
        for group, count in groups.items()
        for key in (f"{group}/vars/{index}".lstrip("/") for index in range(count))
    }
    parts = [group.split("/") for group in groups]
    paths = {"/".join(part[: end + 1]): None for part in parts for end in range(len(part))}
    model = read_config(json.dumps(config), "f", "config") if config else None
    return build_structure(variables, paths, names or {}, model)


def only(found: Structure) -> tuple[StoredObject, str]:
    assert len(found.objects) == 1
    return found.objects[0], found.ambiguous.get(found.objects[0].path, "")


def layer(class_name: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, **config}}


def model(*layers: Any, name: str = "m") -> dict[str, Any]:
    return layer("Functional", name, layers=list(layers))


def test_a_file_of_keras_3(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.weights.h5",
        {"layers/batch_normalization_1": 4, "layers/dense": 1, "optimizer": 12},
        {"layers/batch_normalization_1": "bn_b", "layers/dense": "d"},
    )
    opened = open_hdf5(path)
    assert (opened.path, opened.format, opened.shards) == (path, "keras-weights-h5", 1)
    group = "layers/batch_normalization_1/vars"
    attributes = {role: f"{group}/{index}" for index, role in enumerate(ROLES)}
    assert opened.structure.objects == (
        StoredObject("bn_b", attributes, "bn_b"),
        StoredObject("d", {"0": "layers/dense/vars/0"}, "d"),
    )
    values = opened.read(opened.variables)
    with h5py.File(path) as file:
        for name, array in values.arrays.items():
            assert_same(array, file[name][()], name)
    assert len(values.arrays) == 17
    assert list(opened.structure.slots)[8:11] == [f"optimizer/vars/{i}" for i in (8, 9, 10)]


BATCH = ["layers/batch_normalization", "layers/sync_batch_normalization_2", "net/bn1", "a/my_bn"]


@pytest.mark.parametrize("group", BATCH)
@pytest.mark.parametrize(
    ("count", "roles", "certain"),
    [
        (2, STATISTICS, True),
        (3, THREE, False),
        (4, ROLES, True),
        (5, (*STATISTICS, *RENORM), True),
        (6, (*THREE, *RENORM), False),
        (7, (*ROLES, *RENORM), True),
    ],
)
def test_a_batch_normalization_by_its_name(
    group: str, count: int, roles: tuple[str, ...], certain: bool
) -> None:
    found, problem = only(structure({group: count}))
    assert tuple(found.attributes) == roles
    assert list(found.attributes.values()) == [f"{group}/vars/{i}" for i in range(count)]
    assert bool(problem) is not certain


@pytest.mark.parametrize(
    "group", ["norm1", "blk/out_norm", "layers/normalizer", "x/normalization9z"]
)
@pytest.mark.parametrize(("count", "roles"), [(2, NUMBERS[:2]), (3, THREE), (4, ROLES)])
def test_some_normalization(group: str, count: int, roles: tuple[str, ...]) -> None:
    found, problem = only(structure({group: count}))
    assert tuple(found.attributes) == roles
    assert bool(problem) is (count < 4)


@pytest.mark.parametrize(("count", "roles"), [(2, NUMBERS[:2]), (3, NUMBERS[:3]), (4, ROLES)])
def test_anything_else(count: int, roles: tuple[str, ...]) -> None:
    found, problem = only(structure({"blk/thing": count}))
    assert tuple(found.attributes) == roles
    assert problem == (
        ""
        if count == 4
        else f"{count} vectors of one length without names: perhaps a batch normalization"
    )


OTHERS = ["layer_normalization", "instance_norm_1", "group_normalization", "rms_normalization"]
OTHERS += ["auc_1", "p_re_lu", "gn2", "ln_f"]


@pytest.mark.parametrize("group", OTHERS)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_other_layers_are_no_batch_normalization(group: str, count: int) -> None:
    found, problem = only(structure({f"bn_tower/{group}": count}))
    assert tuple(found.attributes) == NUMBERS[:count]
    assert problem == ""


def test_the_name_tells_where_the_attribute_does_not() -> None:
    found, _ = only(structure({"blk/n": 3}, names={"blk/n": "batch_normalization_3"}))
    assert tuple(found.attributes) == THREE
    found, problem = only(structure({"blk/n": 2}, names={"blk/n": "layer_normalization"}))
    assert (tuple(found.attributes), problem) == (NUMBERS[:2], "")


@pytest.mark.parametrize(
    ("shape", "dtype"), [((), "float32"), ((4, 4), "float32"), ((4,), "int32"), ((4,), "string")]
)
def test_only_floating_vectors_are_guessed_at(shape: tuple[int, ...], dtype: str) -> None:
    found, problem = only(structure({"thing": 4}, shape=shape, dtype=dtype))
    assert (tuple(found.attributes), problem) == (NUMBERS[:4], "")


@pytest.mark.parametrize(
    ("switches", "roles"),
    [
        ({}, ROLES),
        ({"scale": False}, ("beta", *STATISTICS)),
        ({"center": False}, ("gamma", *STATISTICS)),
        ({"scale": False, "center": False}, STATISTICS),
        ({"renorm": True, "scale": False}, ("beta", *STATISTICS, *RENORM)),
    ],
)
def test_the_configuration_tells_the_roles(switches: Any, roles: tuple[str, ...]) -> None:
    config = model(layer("BatchNormalization", "bn", momentum=0.9, **switches))
    found, problem = only(structure({"layers/batch_normalization": len(roles)}, config))
    assert (found.name, found.path, problem) == ("bn", "bn", "")
    assert tuple(found.attributes) == roles
    assert found.config is not None
    assert found.config.momentum == 0.9


def test_a_configuration_of_another_count_is_not_believed() -> None:
    config = model(layer("BatchNormalization", "bn"))
    found, problem = only(structure({"layers/batch_normalization": 5}, config))
    assert tuple(found.attributes) == NUMBERS[:5]
    assert problem == "its configuration tells of 4 variables, 5 are stored"


BNS = [layer("BatchNormalization", f"bn{i}", momentum=min(i / 10, 1)) for i in range(12)]


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("container", ["layers", "_layer_checkpoint_dependencies"])
def test_the_order_tells_the_layers(container: str, step: int) -> None:
    """Keras 2.13 counts each layer twice: 0, 2, 4; and 10 comes after 9."""
    names = ["batch_normalization", *(f"batch_normalization_{i * step}" for i in range(1, 12))]
    found = structure({f"{container}/{name}": 4 for name in sorted(names)}, model(*BNS))
    assert [each.name for each in found.objects] == [f"bn{i}" for i in range(12)]
    assert [each.config and each.config.momentum for each in found.objects] == [
        min(i / 10, 1) for i in range(12)
    ]
    keys = [each.attributes["gamma"] for each in found.objects]
    assert keys == [f"{container}/{name}/vars/0" for name in names]


def test_stored_names_go_before_the_order() -> None:
    names = {"layers/batch_normalization": "bn1", "layers/batch_normalization_1": "bn0"}
    found = structure(dict.fromkeys(names, 4), model(*BNS[:2]), names)
    assert [(o.name, o.config and o.config.momentum) for o in found.objects] == [
        ("bn1", 0.1),
        ("bn0", 0.0),
    ]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("group", ["batch_normalization", "batch_normalization_1"])
def test_a_shared_layer_is_stored_where_it_came_first(group: str, first: bool) -> None:
    inner = model(BNS[0], name="inner")
    config = model(BNS[1], inner, BNS[0]) if first else model(inner, *BNS[:2])
    groups = {"layers/functional/layers/batch_normalization": 4, f"layers/{group}": 4}
    found = structure(groups, config)
    assert [(o.path, o.config and o.config.momentum) for o in found.objects] == [
        ("bn1", 0.1),
        ("inner/bn0", 0.0),
    ]


def test_layers_that_cannot_be_told_apart_get_no_configuration() -> None:
    found = structure({"layers/batch_normalization_1": 3}, model(*BNS[:3]))
    assert only(found)[0].config is None
    assert tuple(only(found)[0].attributes) == THREE


def test_wrappers_and_custom_layers_keep_theirs_under_an_attribute() -> None:
    config = model(
        layer("TimeDistributed", "td", layer=BNS[1]),
        layer("Bidirectional", "bi", layer=layer("RNN", "r", cell=BNS[2])),
        layer("Pkg>MyBlock", "mine", parts=[BNS[3], BNS[4]], norm=BNS[5]),
    )
    found = structure(
        {
            "layers/time_distributed/layer": 4,
            "layers/bidirectional/forward_layer/cell": 4,
            "layers/my_block/parts/batch_normalization_1": 4,
            "layers/my_block/norm": 4,
        },
        config,
    )
    assert {each.path: each.config and each.config.momentum for each in found.objects} == {
        "td/bn1": 0.1,
        "bi/r/bn2": 0.2,
        "mine/parts/batch_normalization_1": None,
        "mine/bn5": 0.5,
    }


def test_paths_are_unique() -> None:
    names = {"layers/a": "x", "layers/b": "x", "x": "y"}
    found = structure({**dict.fromkeys(names, 1), "layers/c": 1}, names=names | {"layers/c": "x"})
    paths = [each.path for each in found.objects]
    assert paths == ["x", "layers/b", "layers/c", "y"]
    assert [each.name for each in found.objects] == ["x", "x", "x", "y"]


def test_optimizers_metrics_and_seeds_are_no_layers(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    with h5py.File(
        write(path, {"metrics/auc": 4, "layers/dropout/seed_generator": 1}), "a"
    ) as file:
        for group in ("optimizer", "d_optimizer/inner", "gen"):
            file[f"{group}/vars/0"] = np.int64(7)
            file[f"{group}/vars/1"] = np.float32(0.1)
            file[f"{group}/vars/2"] = np.zeros(4, np.float32)
    found = open_hdf5(str(path)).structure
    groups = ("d_optimizer/inner", "gen", "optimizer")
    assert found.objects == ()
    assert found.steps == tuple(f"{group}/vars/0" for group in groups)
    assert found.slots == {f"{group}/vars/2": "" for group in groups}
    assert found.counters == {
        *(f"metrics/auc/vars/{i}" for i in range(4)),
        "layers/dropout/seed_generator/vars/0",
        *(f"{group}/vars/{i}" for group in groups for i in range(2)),
    }


def write_shards(folder: Path, weight_map: Any = None) -> str:
    write(folder / "m_00000.weights.h5", {"layers/bn": 2, "layers/dense": 0}, {"layers/bn": "b"})
    with h5py.File(folder / "m_00001.weights.h5", "w") as file:
        for index in (2, 3):
            file[f"layers/bn/vars/{index}"] = np.full(4, index, np.float32)
    shards = ["m_00000.weights.h5", "m_00001.weights.h5"]
    default = {"/layers/bn/vars": shards, "/layers/dense/vars": shards[0]}
    text = json.dumps({"metadata": {}, "weight_map": default if weight_map is None else weight_map})
    (folder / "m.weights.json").write_text(text)
    return str(folder / "m.weights.json")


def test_shards_are_put_together(tmp_path: Path) -> None:
    path = write_shards(tmp_path)
    opened = open_sharded(path)
    assert (opened.path, opened.format, opened.shards) == (path, "keras-weights-h5", 2)
    assert [each.name for each in opened.structure.objects] == ["b"]
    assert tuple(opened.structure.objects[0].attributes) == ROLES
    arrays = opened.read(opened.variables).arrays
    assert {name: array[0] for name, array in arrays.items()} == {
        f"layers/bn/vars/{index}": index for index in range(4)
    }
    (tmp_path / "m_00001.weights.h5").write_bytes(b"")
    values = opened.read(opened.variables)
    assert len(values.arrays) == 2
    assert set(values.unread) == {"layers/bn/vars/2", "layers/bn/vars/3"}
    assert values.broken_files == {str(tmp_path / "m_00001.weights.h5")}


@pytest.mark.parametrize(
    ("weight_map", "kind", "text"),
    [
        ({"/a/vars": "../m_00000.weights.h5"}, UnsupportedError, "leads out of its directory"),
        ({"/a/vars": "/etc/x.h5"}, UnsupportedError, "leads out of its directory, to '/etc/x.h5'"),
        ({"/a/vars": ["sub\\x.h5"]}, UnsupportedError, "leads out of its directory"),
        ({"/a/vars": "x\0.h5"}, UnsupportedError, "leads out of its directory"),
        ({"/a/vars": ".."}, DamagedError, "maps '/a/vars' to '..', no HDF5 file"),
        ({"/a/vars": 3}, DamagedError, "maps '/a/vars' to 3, no HDF5 file"),
        ({"/a/vars": "gone.h5"}, NotFoundError, "gone.h5: no such file"),
        ({"/a/vars": "m_00000.weights.h5"}, DamagedError, "lists '/a/vars', which is in none of"),
        ({}, NotACheckpointError, "maps no weights to files"),
        ([], NotACheckpointError, "maps no weights to files"),
    ],
)
def test_maps_that_mislead(tmp_path: Path, weight_map: Any, kind: Any, text: str) -> None:
    with pytest.raises(kind) as caught:
        open_sharded(write_shards(tmp_path, weight_map))
    assert text in str(caught.value)


def test_shards_hold_each_variable_once(tmp_path: Path) -> None:
    path = write_shards(tmp_path)
    with h5py.File(tmp_path / "m_00001.weights.h5", "a") as file:
        file["layers/bn/vars/0"] = np.zeros(4)
    with pytest.raises(DamagedError, match="holds 'layers/bn/vars/0', which another shard holds"):
        open_sharded(path)


def test_another_programs_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["group/data"] = np.zeros(4)
    with pytest.raises(NotACheckpointError, match="is an HDF5 file, and none of Keras' weights"):
        open_hdf5(str(tmp_path / "f.h5"))


def test_many_groups_of_one_name() -> None:
    """Each is called as the others are, and its group as another one."""
    names = {f"a{index}": f"b{index}" for index in range(3000)}
    names |= {f"b{index}": "c" for index in range(3000)}
    found = structure(dict.fromkeys(names, 4), None, names)
    paths = [each.path for each in found.objects]
    assert len(set(paths)) == 6000
    assert {"c", "c#2", "c#3000"} <= set(paths)
    assert max(map(len, paths)) == len("c#3000")


def test_many_optimizers() -> None:
    steps = {f"x/optimizer_{index}": str(index) for index in range(20_000)}
    steps |= {"y/loss_scale": "outer", "y/loss_scale/inner": "inner"}
    start = time.perf_counter()
    found = list(_innermost(steps))
    assert time.perf_counter() - start < 2
    assert found[-1] == "inner"
    assert len(found) == 20_001
