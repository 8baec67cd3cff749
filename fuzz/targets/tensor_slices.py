"""V1 checkpoints: one table file with everything in it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fuzz.audit import audit
from fuzz.seeds import contents
from fuzz.tables import mutate_slices
from fuzz.target import Target
from fuzz.watch import preparing
from tests.writers import write_v1

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzz.target import Depth


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    path = directory / "model.ckpt-60"
    with preparing():
        path.write_bytes(data)
    audit(path, depth)


def _seeds() -> Iterator[bytes]:
    yield from contents("tf1/state-file-v1*/*-of-*", "tf1/*v1*/*.ckpt*", most=12)
    ramp = np.linspace(0.5, 1.5, 6, dtype=np.float32)
    tensors: dict[str | bytes, Any] = {
        "net/bn/gamma": ramp,
        "net/bn/beta": ramp - 1,
        "net/bn/moving_mean": ramp * 0,
        "net/bn/moving_variance": ramp * 0 + 1,
        "strings": np.array([[b"a"], [b"bc"]], dtype=object),
        "complex": ramp.astype(np.complex64),
        "half": ramp.astype(np.float16),
        "table": np.ones((2, 3), np.int8),
        "global_step": np.int64(60),
    }
    rows = [([0, 0], [1, None]), ([1, 0], [1, None])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        for snappy in (False, True):
            write_v1(path, tensors, slices={"table": rows}, packed=not snappy, snappy=snappy)
            yield path.read_bytes()


TARGET = Target("tensor_slices", _read, _seeds, mutate_slices)
