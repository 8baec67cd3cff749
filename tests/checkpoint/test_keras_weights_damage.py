"""Keras' newer weights, damaged where nothing guards them: no layer goes without a word."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from bncheck.checkpoint.keras import open_hdf5
from bncheck.checkpoint.keras_config import read_config
from bncheck.checkpoint.keras_weights import build_structure
from bncheck.checkpoint.model import Variable
from tests.checkpoint.test_keras_weights import (
    BATCH,
    NUMBERS,
    ROLES,
    layer,
    model,
    only,
    structure,
    write,
)


@pytest.mark.parametrize("strange", [Variable("bn/vars/2", "float32", (5,)), None])
@pytest.mark.parametrize("group", ["layers/batch_normalization_3", "sync_batch_normalization"])
def test_a_batch_normalization_stays_one_whatever_is_stored(
    group: str, strange: Variable | None
) -> None:
    """That its variables disagree, or are no numbers, is for the audit to say."""
    odd = Variable("", "DataType(|V3)", (4,)) if strange is None else strange
    keys = [f"{group}/vars/{number}" for number in range(4)]
    variables = {key: Variable(key, "float32", (4,)) for key in keys}
    variables[keys[2]] = odd._replace(name=keys[2])
    found, problem = only(build_structure(variables, {group: None}, {}, None))
    assert found.attributes == dict(zip(ROLES, keys, strict=True))
    assert problem == ""
    other = {key.replace(group, "layers/bn_block"): each for key, each in variables.items()}
    other = {key: each._replace(name=key) for key, each in other.items()}
    found, problem = only(build_structure(other, {"layers/bn_block": None}, {}, None))
    assert set(found.attributes) == {"0", "1", "2", "3"}


def test_a_batch_normalization_by_its_configuration_stays_one() -> None:
    config = model(layer("BatchNormalization", "bn"))
    group = "layers/batch_normalization"
    keys = [f"{group}/vars/{number}" for number in range(4)]
    variables = {key: Variable(key, "float32", (4,)) for key in keys}
    variables[keys[0]] = Variable(keys[0], "float32", (3, 4))
    read = read_config(json.dumps(config), "f", "config")
    found, problem = only(build_structure(variables, {group: None, "layers": None}, {}, read))
    assert found.attributes == dict(zip(ROLES, keys, strict=True))
    assert problem == ""


@pytest.mark.parametrize(("group", "said"), [*zip(BATCH, (True, True, False, False), strict=True)])
@pytest.mark.parametrize("count", [1, 8])
def test_a_batch_normalization_of_too_few_or_too_many(group: str, said: bool, count: int) -> None:
    """It is none, and where the class is Keras' own, that is said."""
    found, problem = only(structure({group: count}))
    assert tuple(found.attributes) == NUMBERS[:count]
    assert problem == (f"a batch normalization of {count} variables" if said else "")


def test_datasets_in_other_groups_are_said(tmp_path: Path) -> None:
    path = write(tmp_path / "m.weights.h5", {"layers/dense": 1})
    assert open_hdf5(path).remarks == ()
    with h5py.File(path, "a") as file:
        for number in range(4):
            file[f"layers/batch_normalization/wars/{number}"] = np.ones(3)
    (said,) = open_hdf5(path).remarks
    assert said == (
        "4 datasets are in no group 'vars', and were not judged: "
        "'layers/batch_normalization/wars/0', 'layers/batch_normalization/wars/1', "
        "'layers/batch_normalization/wars/2', ..."
    )
