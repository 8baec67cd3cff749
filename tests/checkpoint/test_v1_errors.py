"""One hand-made V1 file for each way to fail: when it is opened, and when it is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.tensor_slices import TensorSlices
from bncheck.errors import BncheckError, DamagedError, NotFoundError, UnsupportedError
from bncheck.proto.tensors_pb2 import SavedSliceMeta, SavedTensorSlices
from tests.writers import slice_key, write_table, write_v1
from tests.writers.tensor_slices import field

Write = Callable[[Path], Any]
TENSORS = {"a": np.ones(2, np.float32), "b": np.arange(3, dtype=np.float32)}
GRID = np.arange(12, dtype=np.float32).reshape(3, 4)
HALVES = [([0, 0], [1, 4]), ([1, 0], [2, 4])]


def v1(**options: Any) -> Write:
    tensors = options.pop("tensors", TENSORS)
    return lambda path: write_v1(path, tensors, **options)


def header(raw: bytes) -> Write:
    return v1(edit_items=lambda _, items: [(b"", raw), *items[1:]])


def described(**fields: Any) -> Write:
    """Write a file whose header lists one more tensor."""

    def edit(_: int, items: list[Any]) -> list[Any]:
        message = SavedTensorSlices.FromString(items[0][1])
        message.meta.tensor.append(SavedSliceMeta(**fields))
        return [(b"", message.SerializeToString()), *items[1:]]

    return v1(edit_items=edit)


OPENING: dict[str, tuple[Write, type[BncheckError], list[str]]] = {
    "no file": (lambda _: None, NotFoundError, ["no such file"]),
    "no table": (
        lambda path: path.write_bytes(b"x" * 99),
        DamagedError,
        ["(byte 91)", "does not end with a table's magic number"],
    ),
    "no entry": (
        lambda path: write_table(path, []),
        DamagedError,
        ["has no header entry, so it is no checkpoint"],
    ),
    "a table of something else": (
        lambda path: write_table(path, [(b"key", b"value")]),
        DamagedError,
        ["has no header entry"],
    ),
    "header no message": (header(b"\x0a\x05ab"), DamagedError, ["its header is no valid protobuf"]),
    "meta no message": (header(b"\x0a\x01\xff"), DamagedError, ["its header is no valid protobuf"]),
    "for later readers": (
        v1(min_consumer=2),
        UnsupportedError,
        ["is for readers of version 2 or later", "newer bncheck"],
    ),
    "this reader is known to be bad": (v1(bad_consumers=[1]), UnsupportedError, ["is for readers"]),
    "unknown rank": (
        described(name=b"c", type=1, shape={"unknown_rank": True}),
        DamagedError,
        ["its header gives 'c' no definite shape"],
    ),
    "negative dimension": (
        described(name=b"c", type=1, shape={"dim": [{"size": -1}]}),
        DamagedError,
        ["its header gives 'c' no definite shape"],
    ),
    "the same tensor in two shapes": (
        described(name=b"b", type=1, shape={"dim": [{"size": 4}]}),
        DamagedError,
        ["'b' has another shape or type than in other shards"],
    ),
    "the same tensor in two types": (
        described(name=b"b", type=2, shape={"dim": [{"size": 3}]}),
        DamagedError,
        ["'b' has another shape or type than in other shards"],
    ),
}


@pytest.mark.parametrize("name", OPENING)
def test_opening(tmp_path: Path, name: str) -> None:
    write, kind, words = OPENING[name]
    path = tmp_path / "model.ckpt-7"
    write(path)
    with pytest.raises(BncheckError) as caught:
        TensorSlices(str(path), [str(path)])
    assert (type(caught.value), caught.value.path) == (kind, str(path))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    with pytest.raises(BncheckError):
        open_checkpoint(str(path))


def test_shards_that_contradict_each_other(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_v1(first, {"w": np.ones(2)})
    write_v1(second, {"w": np.ones(3)})
    with pytest.raises(DamagedError) as caught:
        TensorSlices("both", [str(first), str(second)])
    assert caught.value.path == str(second)
    assert caught.value.what == "'w' has another shape or type than in other shards"


def record(raw: bytes) -> Write:
    """Write a file whose slice of `b` is another message."""
    key = slice_key("b", [(0, -1)])
    return v1(edit_items=lambda _, items: [(k, raw if k == key else v) for k, v in items])


def values(raw: bytes, name: bytes = b"b") -> Write:
    """Write a file whose slice of `b` has another TensorProto, or another name."""
    return record(field(2, field(1, name) + field(2, field(1, b"")) + field(3, raw)))


def sliced(boxes: list[Any], **options: Any) -> Write:
    return v1(tensors={"a": TENSORS["a"], "b": GRID}, slices={"b": boxes}, **options)


def of_type(number: int) -> Write:
    """Write a file whose header gives `b` another type."""

    def edit(_: int, items: list[Any]) -> list[Any]:
        message = SavedTensorSlices.FromString(items[0][1])
        next(t for t in message.meta.tensor if t.name == b"b").type = number
        return [(b"", message.SerializeToString()), *items[1:]]

    return v1(edit_items=edit)


def flipped(part: str, stored: bytes) -> bytes:
    return bytes([stored[0] ^ 1]) + stored[1:] if part == "data 2" else stored


UNREAD: dict[str, tuple[Write, list[str]]] = {
    "no slice": (
        described(name=b"c", type=1, shape={"dim": [{"size": 3}]}),
        ["the header lists no slice of it"],
    ),
    "slice not in the table": (
        v1(edit_items=lambda _, items: items[:-1]),
        ["the header lists a slice that the table does not hold"],
    ),
    "slice of somebody else": (values(b"", b"c"), ["its slice says that it belongs to 'c'"]),
    "slice no message": (
        record(b"\x12\xff"),
        ["model.ckpt-7: its slice is no valid protobuf message. Copy the file again"],
    ),
    "no values": (values(b""), ["a slice holds 0 numbers instead of 3"]),
    "too few values": (values(field(5, bytes(8))), ["a slice holds 2 numbers instead of 3"]),
    "too many values": (values(field(5, bytes(16))), ["a slice holds 4 numbers instead of 3"]),
    "other values": (values(field(7, b"\1\2\3")), ["a slice holds 0 numbers instead of 3"]),
    "complex values": (of_type(8), ["a slice holds 0 numbers instead of 6"]),
    "type of the future": (of_type(77), ["a V1 checkpoint cannot hold the type DataType(77)"]),
    "type that is too new": (of_type(14), ["a V1 checkpoint cannot hold the type bfloat16"]),
    "slices overlap": (sliced([([0, 0], [2, 4]), ([1, 0], [1, 4])]), ["its slices overlap"]),
    "slices leave a hole": (
        sliced([([0, 0], [1, 4]), ([2, 0], [1, 4])]),
        ["its slices hold 8 of 12 elements"],
    ),
    "slice reaches out": (
        sliced([([0, 0], [1, 4]), ([2, 0], [2, 4])]),
        ["a slice 2:4 reaches out of a dimension of 3"],
    ),
    "slice of another rank": (
        described(
            name=b"c",
            type=1,
            shape={"dim": [{"size": 3}]},
            slice=[{"extent": [{"length": 3}, {"length": 1}]}],
        ),
        ["a slice of rank 2 in a tensor of rank 1"],
    ),
    "a block's checksum": (
        v1(block_size=1, edit_stored=flipped),
        ["model.ckpt-7 (byte ", "data block 2 fails its checksum"],
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_unread(tmp_path: Path, name: str) -> None:
    write, words = UNREAD[name]
    path = tmp_path / "model.ckpt-7"
    write(path)
    checkpoint = open_checkpoint(str(path))
    broken = "c" if "c" in checkpoint.variables else "b"
    others = [other for other in checkpoint.variables if other != broken]
    alone = checkpoint.read([broken])
    assert alone.arrays == {}
    assert all(word in alone.unread[broken] for word in words), alone.unread
    healthy = checkpoint.read(others)
    assert healthy.unread == {}
    assert healthy.arrays["a"].tolist() == [1, 1]
    together = checkpoint.read(checkpoint.variables)
    assert together.unread[broken] == alone.unread[broken]


def test_a_shard_that_is_gone_when_values_are_read(tmp_path: Path) -> None:
    """Variables of the other shards stay readable; one that is cut over both does not."""
    tensors = {"a": np.ones(2), "b": np.zeros(2), "w": GRID}
    files = write_v1(tmp_path / "m", tensors, slices={"w": HALVES}, shards=2)
    checkpoint = open_checkpoint(str(tmp_path / "m"))
    os.remove(files[1])
    got = checkpoint.read(["a", "b", "w"])
    assert list(got.arrays) == ["a"]
    assert got.unread == dict.fromkeys(["b", "w"], f"{files[1]}: no such file. Check the path.")
