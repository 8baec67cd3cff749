"""Objects to names: what layers and variables of structured checkpoints are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bncheck import inspect
from bncheck.batchnorm.objects import is_other_class, name_variables
from bncheck.checkpoint.structure import LayerConfig, StoredObject, Structure
from tests.writers.objects import Obj, Var, listed, normalization, write_objects

ONE = np.ones(3, np.float32)
RAMP = np.array([0.5, 1, 2], np.float32)
ROLES = ("gamma", "beta", "moving_mean", "moving_variance")


def object_of(path: str, name: str = "", **options: LayerConfig) -> StoredObject:
    return StoredObject(path, {role: f"{path}|{role}" for role in ROLES}, name, **options)


def names_of(*objects: StoredObject, full_names: dict[str, str] | None = None) -> set[str]:
    keys = [key for each in objects for key in each.attributes.values()]
    structure = Structure(objects=objects, full_names=full_names or {})
    return {name.rpartition("/")[0] for name in name_variables(keys, structure).names.values()}


def test_full_names_scope_goes_before_the_path() -> None:
    full_names = {f"model/layer-3|{role}": f"net/bn/{role}" for role in ROLES}
    assert names_of(object_of("model/layer-3"), full_names=full_names) == {"net/bn"}


def test_without_full_names_it_is_the_path() -> None:
    assert names_of(object_of("net/blocks/0/bn")) == {"net/blocks/0/bn"}
    scoped = {f"net/bn|{role}": "model/norm/Variable" for role in ROLES}
    assert names_of(object_of("net/bn"), full_names=scoped) == {"model/norm"}
    nameless = {f"net/bn|{role}": "Variable" for role in ROLES}
    assert names_of(object_of("net/bn"), full_names=nameless) == {"net/bn"}
    scopeless = {f"net/bn|{role}": role for role in ROLES}
    assert names_of(object_of("net/bn"), full_names=scopeless) == {"net/bn"}


def test_the_programs_own_name_goes_before_both() -> None:
    assert names_of(object_of("inner/layer", "bn_inner")) == {"bn_inner"}


def test_two_of_one_name_go_by_their_paths() -> None:
    assert names_of(object_of("inner/bn", "bn"), object_of("outer/bn", "bn")) == {
        "inner/bn",
        "outer/bn",
    }
    full_names = {f"{place}/bn|{role}": f"bn/{role}" for place in ("g", "d") for role in ROLES}
    assert names_of(object_of("g/bn"), object_of("d/bn"), full_names=full_names) == {"g/bn", "d/bn"}


def test_an_alias_is_no_second_layer() -> None:
    """One variable that two objects hold is claimed once."""
    bn = object_of("bn", "bn")
    alias = StoredObject("model", {"gamma": bn.attributes["gamma"]}, "bn")
    assert names_of(bn, alias) == {"bn"}


def test_two_objects_of_one_layer() -> None:
    """Affine and statistics may hang on objects of their own, in one scope."""
    affine = StoredObject("net/affine", {"gamma": "g", "beta": "b"})
    statistics = StoredObject("net/stats", {"moving_mean": "m", "moving_variance": "v"})
    full_names = {"g": "bn/gamma", "b": "bn/beta", "m": "bn/moving_mean", "v": "bn/moving_variance"}
    assert names_of(affine, statistics, full_names=full_names) == {"bn"}


def test_the_full_names_end_tells_a_role_that_the_attribute_hides() -> None:
    structure = Structure(
        objects=(StoredObject("bn", {"_a": "1", "_moving_mean": "2", "w": "3"}),),
        full_names={"1": "x/moving_variance", "2": "x/Variable", "3": "x/kernel"},
    )
    assert name_variables(["1", "2", "3"], structure).names == {
        "1": "x/moving_variance",
        "2": "x/moving_mean",
        "3": "x/w",
    }


def test_what_no_object_owns_goes_by_its_full_name_once() -> None:
    structure = Structure(
        objects=(object_of("bn", "bn"),),
        full_names={"0": "bn/gamma", "1": "bn/gamma", "2": "", "3": "lone"},
    )
    keys = [*(f"bn|{role}" for role in ROLES), "0", "1", "2", "3"]
    names = name_variables(keys, structure).names
    assert names["bn|gamma"] == "bn/gamma"
    assert [names[key] for key in "0123"] == ["bn (2)/gamma", "bn (3)/gamma", "2", "lone"]


def test_slots_counters_and_copies_have_no_names() -> None:
    structure = Structure(
        objects=(object_of("bn", "bn"),),
        slots={"s": ""},
        counters=frozenset("c"),
        copies=frozenset("k"),
    )
    keys = ["s", "c", "k", "bn|gamma"]
    assert name_variables(keys, structure).names == {"bn|gamma": "bn/gamma"}


def test_another_normalizations_class() -> None:
    for name in ("LayerNormalization", "GroupNormalization", "Normalization", "RMSNormalization"):
        assert is_other_class(LayerConfig(name)), name
    for name in ("BatchNormalization", "SyncBatchNormalization", "Dense", "MyBatchNorm"):
        assert not is_other_class(LayerConfig(name)), name
    # A class that keeps running averages is batch norm's kin, whatever it is called.
    assert not is_other_class(LayerConfig("SwitchableNormalization", momentum=0.9))


def test_sonnets_averages_hang_below_the_layer(tmp_path: Path) -> None:
    def average(value: np.ndarray) -> Obj:
        return Obj(
            {
                "average": Var(value, "average"),
                "_hidden": Var(value, "hidden"),
                "_counter": Var(np.int64(60), "counter"),
            }
        )

    norm = Obj(
        {
            "scale": Var(RAMP, "norm/scale"),
            "offset": Var(RAMP, "norm/offset"),
            "moving_mean": average(RAMP),
            "moving_variance": average(RAMP),
        }
    )
    report = inspect(write_objects(tmp_path / "ckpt", Obj({"net": Obj({"norm": norm})})))
    assert [(each.name, each.status.value) for each in report.layers] == [("norm", "trained")]
    assert set(map(str, report.layers[0].members)) == {f"Role.{role.upper()}" for role in ROLES}
    assert report.findings == ()


def test_sonnets_averages_start_at_zero(tmp_path: Path) -> None:
    def average() -> Obj:
        return Obj({"average": Var(RAMP * 0, "average")})

    norm = Obj({"scale": Var(RAMP), "moving_mean": average(), "moving_variance": average()})
    report = inspect(write_objects(tmp_path / "ckpt", Obj({"norm": norm})))
    assert [finding.rule.code for finding in report.findings] == ["BN201"]


def test_a_whole_object_without_statistics_is_another_normalization(tmp_path: Path) -> None:
    def affine(scope: str) -> Obj:
        return Obj({role: Var(RAMP, f"{scope}/{role}") for role in ("gamma", "beta")})

    root = Obj({"norm1": affine("norm1"), "bn": normalization("bn")})
    report = inspect(write_objects(tmp_path / "a", root))
    assert [each.name for each in report.layers] == ["bn"]
    assert report.findings == ()
    # A LayerNormalization may be called so: that is worth a note, and no more.
    report = inspect(write_objects(tmp_path / "b", Obj({"bn1": affine("bn1")})))
    assert [finding.rule.code for finding in report.findings] == ["BN103"]
    # In a list, nobody knows whether it is whole.
    loose = listed(*affine("norm1").children.values())
    report = inspect(write_objects(tmp_path / "c", Obj({"_trainable_variables": loose})))
    assert [finding.rule.code for finding in report.findings] == ["BN103"]
