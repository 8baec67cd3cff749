"""Keras' weights in several files: the JSON that maps groups to them, beside two of these."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fuzz.audit import audit
from fuzz.hdf5_trees import written
from fuzz.json_tree import mutate_json
from fuzz.target import Target
from fuzz.watch import preparing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fuzz.target import Depth

_MAP = """{"metadata": {"total_size": 1.0}, "weight_map": {
"/layers/batch_normalization/vars": ["m_00000.weights.h5", "m_00001.weights.h5"],
"/layers/dense/vars": ["m_00001.weights.h5"], "/optimizer/vars": "m_00001.weights.h5"}}"""


def _vars(*numbers: int) -> dict[str, Any]:
    variable = {"dtype": "<f4", "shape": [3], "value": 1.0}
    return {"groups": {"vars": {"datasets": {str(number): variable for number in numbers}}}}


_SHARDS = (
    {"groups": {"layers": {"groups": {"batch_normalization": _vars(0, 1)}}}},
    {
        "groups": {
            "layers": {"groups": {"batch_normalization": _vars(2, 3), "dense": _vars(0, 1)}},
            "optimizer": _vars(0, 1, 2),
        }
    },
)


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    path = directory / "m.weights.json"
    with preparing():
        for number, tree in enumerate(_SHARDS):
            shard = directory / f"m_{number:05d}.weights.h5"
            if not shard.exists():
                shard.write_bytes(written(json.dumps(tree).encode()))
        path.write_bytes(data)
    audit(path, depth)


def _seeds() -> Iterator[bytes]:
    yield _MAP.encode()
    yield _MAP.replace('["m_00001.weights.h5"]', '"m_00001.weights.h5"').encode()


TARGET = Target("weights_map", _read, _seeds, mutate_json, longest=1 << 13)
