"""V2 checkpoints: a bundle's index and one data file, which share an input (fuzz/tables.py)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fuzz.audit import audit
from fuzz.seeds import small
from fuzz.tables import joined, mutate_bundle, split
from fuzz.target import Target
from fuzz.watch import preparing
from tests.writers import write_bundle
from tests.writers.objects import Obj, Var, listed, normalization, write_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzz.target import Depth

_INDEX, _DATA = "model.ckpt-60.index", "model.ckpt-60.data-00000-of-00001"


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    index, content = split(data)
    with preparing():
        (directory / _INDEX).write_bytes(index)
        (directory / _DATA).write_bytes(content)
    audit(directory / "model.ckpt-60", depth)


def _seeds() -> Iterator[bytes]:
    for path in small("*/*/*.index", "*/*/checkpoint/*.index", most=30, longest=4096):
        content = path.with_name(path.name.removesuffix("index") + "data-00000-of-00001")
        if content.is_file() and content.stat().st_size < 1 << 14:
            yield joined(path.read_bytes(), content.read_bytes())
    ramp = np.linspace(0.5, 1.5, 6, dtype=np.float32)
    tensors = {
        "net/bn/gamma": ramp,
        "net/bn/beta": ramp - 1,
        "net/bn/moving_mean": ramp,
        "net/bn/moving_variance": ramp,
        "net/bn/gamma/Adam": ramp,
        "half": ramp.astype(np.float16),
        "strings": np.array([b"", b"a", b"bc"], dtype=object),
        "global_step": np.int64(60),
    }
    halves = [([0], [3]), ([3], [3])]
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "m"
        for options in (
            {"partitions": {"net/bn/moving_mean": halves, "net/bn/gamma": halves}},
            {"endianness": "big"},
            {"snappy": True, "block_size": 100},
        ):
            # Options of different types have no type in common that each of them takes.
            write_bundle(prefix, tensors, **options)  # type: ignore[arg-type]
            yield _of(prefix)
        gamma = Var(ramp, "gamma")
        model = Obj({"layers": listed(normalization("bn", trained=False), Obj({"gamma": gamma}))})
        optimizer = Obj({"iter": Var(np.int64(7), "iter")}, [(gamma, "m", Var(ramp, "gamma/m"))])
        write_objects(prefix, Obj({"model": model, "optimizer": optimizer}))
        yield _of(prefix)


def _of(prefix: Path) -> bytes:
    data = prefix.with_name(prefix.name + ".data-00000-of-00001").read_bytes()
    return joined(prefix.with_name(prefix.name + ".index").read_bytes(), data)


TARGET = Target("bundle", _read, _seeds, mutate_bundle)
