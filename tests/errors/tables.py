"""V2 and V1 checkpoints: tables that are wrong, and messages and values in tables that are not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bncheck.proto.tensors_pb2 import (
    BundleEntryProto,
    SavedSliceMeta,
    SavedTensorSlices,
)
from tests.checkpoint.test_bundle_errors import OPENING as OF_BUNDLES
from tests.checkpoint.test_index_errors import CASES as OF_TABLES
from tests.checkpoint.test_v1_errors import OPENING as OF_SLICES
from tests.errors.case import Case, Write
from tests.writers import Raw, masked_crc, slice_key, write_bundle, write_table, write_v1
from tests.writers.bundle import string_tensor_bytes
from tests.writers.tensor_slices import field

MEAN, VARIANCE = "bn/moving_mean", "bn/moving_variance"
GRID = np.arange(12, dtype=np.float32).reshape(3, 4)
HALVES = [([0, 0], [1, 4]), ([1, 0], [2, 4])]
DATA = "m.data-00000-of-00001"
Edit = Callable[[list[Any]], list[Any]]


def variance(value: Any, **options: Any) -> Write:
    """Write a bundle with this moving variance beside a mean that is right."""
    return lambda path: write_bundle(path, {MEAN: np.ones(3), VARIANCE: value}, **options)


def strings(count: int, data: bytes, crc: int | None = None) -> Write:
    """Write a list of objects of which the object graph is one: what it says, and its checksum."""
    return lambda path: write_bundle(
        path, {MEAN: np.ones(3), "_CHECKPOINTABLE_OBJECT_GRAPH": Raw(7, [count], data, crc)}
    )


def entry(**fields: Any) -> Write:
    """Write a bundle whose entry of the variance says something else."""
    raw = BundleEntryProto(**fields).SerializeToString()
    return variance(np.ones(3), edit_items=lambda items: [*items[:-1], (items[-1][0], raw)])


def sliced(boxes: list[Any], edit: Edit | None = None) -> Write:
    return variance(GRID, partitions={VARIANCE: boxes}, edit_items=edit)


def of_rank_1(items: list[Any]) -> list[Any]:
    message = BundleEntryProto.FromString(items[-1][1])
    del message.slices[0].extent[1:]
    return [*items[:-1], (items[-1][0], message.SerializeToString())]


def without_second_half(items: list[Any]) -> list[Any]:
    return [item for item in items if item[0] != slice_key(VARIANCE, [(1, 2), (0, 4)])]


def other_second_half(items: list[Any]) -> list[Any]:
    key = slice_key(VARIANCE, [(1, 2), (0, 4)])
    message = BundleEntryProto.FromString(dict(items)[key])
    message.dtype = 3
    return [(k, message.SerializeToString() if k == key else value) for k, value in items]


def without_data(path: Path) -> None:
    variance(np.ones(3))(path)
    (path.parent / DATA).unlink()


def shared(path: Path) -> None:
    """Both variables are the same bytes."""
    raw = BundleEntryProto(
        dtype=1, shape={"dim": [{"size": 3}]}, size=12, crc32c=masked_crc(bytes(12))
    ).SerializeToString()
    write_bundle(
        path,
        {MEAN: np.zeros(3, np.float32)},
        edit_items=lambda items: [*items[:-1], (MEAN.encode(), raw), (VARIANCE.encode(), raw)],
    )


WORDS, CRC = string_tensor_bytes([b"abc", b""], "little")
LENGTHS_CRC = struct.pack("<I", masked_crc(struct.pack("<II", 3, 0)))

VALUES: dict[str, Write] = {
    "checksum": variance(Raw(1, [3], bytes(12), 5)),
    "too few bytes": variance(Raw(1, [3], bytes(11))),
    "a rank beyond NumPy": variance(Raw(1, [1] * 70, bytes(4))),
    "behind the data": entry(dtype=1, shape={"dim": [{"size": 3}]}, size=12, offset=1 << 40),
    "in a shard that is not": entry(dtype=1, shape={"dim": [{"size": 3}]}, size=12, shard_id=4),
    "bytes of another one": shared,
    "no data file": without_data,
    "data file cut off": variance(np.ones(3), edit_data=lambda _, data: data[:-1]),
    "data file is a Git LFS pointer": variance(
        np.ones(300), edit_data=lambda *_: b"version https://git-lfs.github.com/spec/v1\n"
    ),
    "slices overlap": sliced([([0, 0], [2, 4]), ([1, 0], [1, 4])]),
    "slices leave a hole": sliced([([0, 0], [1, 4]), ([2, 0], [1, 4])]),
    "slice reaches out": sliced([HALVES[0], ([2, 0], [2, 4])]),
    "slice of another rank": sliced(HALVES, of_rank_1),
    "slice not in the index": sliced(HALVES, without_second_half),
    "slice of another type": sliced(HALVES, other_second_half),
    "strings: more than bytes": strings(9, b"abcd"),
    "strings: a length cut off": strings(3, b"\xff" * 3),
    "strings: the lengths' checksum": strings(2, b"\x03\x01" + LENGTHS_CRC + b"abc"),
    "strings: too long": strings(2, WORDS + b"d"),
    "strings: checksum": strings(2, WORDS, CRC ^ 1),
    "object graph: no string": strings(2, WORDS, CRC),
    "object graph: of something else": lambda path: write_bundle(
        path,
        {
            "bn/moving_mean/.ATTRIBUTES/VARIABLE_VALUE": np.ones(3),
            "_CHECKPOINTABLE_OBJECT_GRAPH": b"",
        },
    ),
    "object graph: no message": lambda path: write_bundle(
        path, {MEAN: np.ones(3), "_CHECKPOINTABLE_OBJECT_GRAPH": b"\xff"}
    ),
}


def v1(*more: Any, edit: Edit | None = None, dtype: int = 1, **options: Any) -> Write:
    """Write a V1 checkpoint, with another header where it lists more or another type."""

    def change(_: int, items: list[Any]) -> list[Any]:
        message = SavedTensorSlices.FromString(items[0][1])
        message.meta.tensor.extend(more)
        message.meta.tensor[1].type = dtype
        items = [(b"", message.SerializeToString()), *items[1:]]
        return edit(items) if edit else items

    ones = np.ones(3, np.float32)
    return lambda path: write_v1(path, {MEAN: ones, VARIANCE: ones}, edit_items=change, **options)


def header(path: Path) -> None:
    """The second of two files is a table of something else."""
    write_v1(path, {MEAN: np.ones(2), VARIANCE: np.ones(2)}, shards=2)
    write_table(f"{path}-00001-of-00002", [(b"key", b"value")])


def unlisted(path: Path) -> None:
    """The header lists no slice of the variance."""

    def change(_: int, items: list[Any]) -> list[Any]:
        message = SavedTensorSlices.FromString(items[0][1])
        del message.meta.tensor[1].slice[:]
        return [(b"", message.SerializeToString()), *items[1:]]

    write_v1(path, {MEAN: np.ones(2), VARIANCE: np.ones(2)}, edit_items=change)


def record(raw: bytes) -> Write:
    """Write a file whose slice of the variance is another message."""
    key = slice_key(VARIANCE, [(0, -1)])
    return v1(edit=lambda items: [(k, raw if k == key else value) for k, value in items])


def tensor(raw: bytes, name: bytes = VARIANCE.encode()) -> Write:
    return record(field(2, field(1, name) + field(2, field(1, b"")) + field(3, raw)))


def whole(name: bytes, *sizes: int) -> SavedSliceMeta:
    extent = [{} for _ in sizes]
    return SavedSliceMeta(
        name=name, type=1, shape={"dim": [{"size": s} for s in sizes]}, slice=[{"extent": extent}]
    )


def contradicting(path: Path) -> None:
    for shard, size in enumerate((2, 3)):
        write_v1(path, {MEAN: np.ones(size)}, shards=1)
        (path.parent / f"{path.name}-00000-of-00001").rename(
            path.parent / f"{path.name}-{shard:05d}-of-00002"
        )


SLICES: dict[str, Write] = {
    "shards contradict each other": contradicting,
    "a slice twice": v1(whole(MEAN.encode(), 3)),
    "no header in a shard": header,
    "no slice": unlisted,
    "slice not in the table": v1(edit=lambda items: items[:-1]),
    "slice of somebody else": tensor(b"", b"c"),
    "slice no message": record(b"\x12\xff"),
    "too few values": tensor(field(5, bytes(8))),
    "type that is too new": v1(dtype=14),
    "a block's checksum": v1(
        block_size=1,
        edit_stored=lambda part, raw: raw[:-1] + b"?" if part == "data 2" else raw,
    ),
}


VERIFY = ("verify", "m")
CASES = {
    "verify: slices overlap": Case(VALUES["slices overlap"], arguments=VERIFY),
    "verify: too many slices": Case(sliced(HALVES), arguments=VERIFY, limits={"MOST_COMPARED": -1}),
    "V2 values: a type that ml_dtypes lacks": Case(
        variance(Raw(33, [3], bytes(3))),
        patches={"bncheck.checkpoint.bundle.numpy_dtype": lambda _: None},
    ),
    **{f"table: {name}": Case(case[0]) for name, case in OF_TABLES.items()},
    "table: keys without end": Case(
        lambda path: write_bundle(path, {"x" * 200 + f"{i:02}": [1.0] for i in range(30)}),
        limits={"KEYS_RATIO": 1},
    ),
    **{f"V2: {name}": Case(case[0]) for name, case in OF_BUNDLES.items()},
    **{f"V2 values: {name}": Case(write) for name, write in VALUES.items()},
    **{f"V1: {name}": Case(case[0]) for name, case in OF_SLICES.items()},
    **{f"V1 values: {name}": Case(write) for name, write in SLICES.items()},
}
