"""V1 checkpoints made to harm: what a header may list, and what a slice may hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bncheck.proto.tensors_pb2 import SavedTensorSlices
from tests.attacks.attack import Attack, Make, run
from tests.writers import slice_key, varint, write_table, write_v1
from tests.writers.tensor_slices import field

ROLES = ("gamma", "beta", "moving_mean", "moving_variance")
LAYER = {f"net/bn/{role}": np.linspace(0.5, 1.5, 4, dtype=np.float32) for role in ROLES}
MEAN = b"net/bn/moving_mean"

Change = Callable[[SavedTensorSlices], None]


def header(change: Change) -> Make:
    """Write a layer with a changed header."""

    def make(folder: Path) -> Path:
        def edit(_: int, items: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
            message = SavedTensorSlices.FromString(items[0][1])
            change(message)
            return [(b"", message.SerializeToString()), *items[1:]]

        return write_v1(folder / "model.ckpt-1", LAYER, edit_items=edit)[0]

    return make


def shape(*sizes: int) -> Change:
    def change(message: SavedTensorSlices) -> None:
        tensor = next(each for each in message.meta.tensor if each.name == MEAN)
        del tensor.shape.dim[:]
        for size in sizes:
            tensor.shape.dim.add(size=size)

    return change


def slices(*extents: tuple[int, int]) -> Change:
    def change(message: SavedTensorSlices) -> None:
        tensor = next(each for each in message.meta.tensor if each.name == MEAN)
        del tensor.slice[:]
        for start, length in extents:
            tensor.slice.add().extent.add(start=start, length=length)

    return change


def record(raw: bytes) -> Make:
    """Write a layer whose mean's slice is another message."""
    key = slice_key(MEAN, [(0, -1)])

    def make(folder: Path) -> Path:
        def edit(_: int, items: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
            return [(k, raw if k == key else v) for k, v in items]

        return write_v1(folder / "model.ckpt-1", LAYER, edit_items=edit)[0]

    return make


def values(raw: bytes) -> Make:
    return record(field(2, field(1, MEAN) + field(2, field(1, b"")) + field(3, raw)))


def head(raw: bytes) -> Make:
    """Write a table whose header is this."""

    def make(folder: Path) -> Path:
        return write_table(folder / "model.ckpt-1", [(b"", raw), (b"\0x", b"")])

    return make


def nested(depth: int) -> bytes:
    """Return a message in a message in a message, each of them of a field nobody knows."""
    message = b""
    for _ in range(depth):
        message = field(9, message)
    return message


def groups(depth: int) -> bytes:
    """Return as many starts of protobuf's old groups, which take a byte each."""
    return bytes([9 << 3 | 3]) * depth + bytes([9 << 3 | 4]) * depth


def many_tensors(folder: Path) -> Path:
    """A header of 20,000 variables of no slice."""

    def change(message: SavedTensorSlices) -> None:
        for number in range(20_000):
            added = message.meta.tensor.add(name=b"n/bn_%06d/moving_mean" % number, type=1)
            added.shape.dim.add(size=4)

    return Path(header(change)(folder))


ATTACKS = {
    "no harm": Attack(header(lambda _: None), ("PASS",), code=0),
    "2^63-1 elements": Attack(header(shape(2**63 - 1)), ("more than any model's",)),
    "2^126 elements": Attack(header(shape(2**63 - 1, 2**63 - 1)), ("more than any model's",)),
    "negative dimension": Attack(header(shape(-1)), ("no definite shape",)),
    "100,000 dimensions": Attack(header(shape(*[1] * 100_000)), ("moving_mean",)),
    "100,000 slices": Attack(
        header(slices(*[(number, 1) for number in range(100_000)])), ("moving_mean",)
    ),
    "100,000 slices of 2^62": Attack(
        header(slices(*[(number, 1 << 62) for number in range(100_000)])), ("moving_mean",)
    ),
    "the same slice twice": Attack(header(slices((0, 4), (0, 4))), ("a second time",)),
    "slices overlap": Attack(header(slices((0, 3), (1, 1))), ("moving_mean",)),
    "negative start": Attack(header(slices((-4, 4))), ("reaches out of a dimension",)),
    "slice of 2^63-1": Attack(header(slices((2**62, 2**63 - 1))), ("reaches out",)),
    "slice that wraps around": Attack(header(slices((2**63 - 1, 2**63 - 1))), ("reaches out",)),
    "20,000 variables": Attack(many_tensors, ("moving_mean",)),
    "header is nested 20,000 deep": Attack(head(field(1, nested(20_000)))),
    "header is a million groups": Attack(head(field(1, groups(1_000_000)))),
    "header declares 2^63 bytes": Attack(head(b"\x0a" + varint(2**63))),
    "slice declares 2^31 bytes": Attack(record(b"\x12" + varint(2**31 - 1)), ("moving_mean",)),
    "slice is nested": Attack(record(field(2, nested(20_000))), ("moving_mean",)),
    "slice is a million groups": Attack(record(field(2, groups(1_000_000))), ("moving_mean",)),
    # Two bytes each: a packed list takes no more than eight times what is stored.
    "8 million numbers": Attack(values(field(5, bytes(1 << 25))), ("8388608 numbers instead",)),
    "a million numbers of another type": Attack(values(field(10, bytes(1 << 20)))),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(tmp_path: Path, name: str) -> None:
    run(ATTACKS[name], tmp_path)
