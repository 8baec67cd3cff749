"""Keras' HDF5 files by what is in them: groups, attributes, datasets, described by a JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fuzz.hdf5_trees import NotWritableError, tree_in, written
from fuzz.json_tree import mutate_json
from fuzz.seeds import contents
from fuzz.target import Target
from fuzz.targets.hdf5 import read_hdf5
from fuzz.watch import preparing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fuzz.target import Depth


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    with preparing():
        try:
            file = written(data)
        except NotWritableError:
            return
    read_hdf5(file, directory, depth)


def _vector(value: float) -> dict[str, Any]:
    return {"dtype": "<f4", "shape": [3], "value": value}


def _small() -> Iterator[dict[str, Any]]:
    """Yield a layer in each of Keras' two layouts, smaller than any model's."""
    names = [f"bn/{role}:0" for role in ("gamma", "beta", "moving_mean", "moving_variance")]
    inner = {"datasets": {name.partition("/")[2]: _vector(0.5) for name in names}}
    config = {
        "class_name": "Sequential",
        "config": {"layers": [{"class_name": "BatchNormalization", "config": {"name": "bn"}}]},
    }
    layer = {"attributes": {"weight_names": names}, "groups": {"bn": inner}}
    yield {"attributes": {"layer_names": ["bn"]}, "groups": {"bn": layer}}
    weights = {"attributes": {"layer_names": ["bn"]}, "groups": {"bn": layer}}
    yield {"attributes": {"model_config": json.dumps(config)}, "groups": {"model_weights": weights}}
    variables = {"vars": {"datasets": {str(number): _vector(number) for number in range(4)}}}
    yield {"groups": {"layers": {"groups": {"batch_normalization": {"groups": variables}}}}}


def _seeds() -> Iterator[bytes]:
    yield from (json.dumps(tree).encode() for tree in _small())
    yield from map(tree_in, contents("keras[123]*/*/*.h5", most=6, longest=1 << 16))
    yield from map(tree_in, contents("keras3/*/sharded/*.h5", most=4, longest=1 << 15))


TARGET = Target("keras_tree", _read, _seeds, mutate_json)
