"""Values that no memory need hold are refused before they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck import limits
from bncheck.audit import inspect
from bncheck.errors import UnsupportedError
from bncheck.proto.tensors_pb2 import BundleEntryProto
from tests.writers import write_bundle


def test_a_huge_statistic_in_a_sparse_file(tmp_path: Path) -> None:
    size = limits.LARGEST_VALUES

    def huge(items: list[Any]) -> list[Any]:
        entry = BundleEntryProto(dtype=1, shape={"dim": [{"size": size // 4}]}, size=size)
        return [*items, (b"bn/moving_variance", entry.SerializeToString())]

    prefix = tmp_path / "m"
    write_bundle(prefix, {"bn/moving_mean": np.zeros(4, np.float32)}, edit_items=huge)
    os.truncate(f"{prefix}.data-00000-of-00001", size)
    with pytest.raises(UnsupportedError, match=rf"has {size + 16} bytes of what is called like"):
        inspect(prefix)


def test_what_is_not_batch_norm_may_be_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LARGEST_VALUES", 64)
    prefix = tmp_path / "m"
    layer = {f"bn/{r}": np.ones(4, np.float32) for r in ("moving_mean", "moving_variance")}
    write_bundle(prefix, layer | {"embedding": np.zeros(1000, np.float32)})
    assert len(inspect(prefix).layers) == 1
    write_bundle(prefix, layer | {"bn/gamma": np.zeros(9, np.float32)})
    with pytest.raises(UnsupportedError):
        inspect(prefix)
