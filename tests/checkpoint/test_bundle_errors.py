"""Bundles whose table is whole and whose messages or data files are wrong."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.bundle import TensorBundle
from bncheck.errors import BncheckError, DamagedError, UnsupportedError
from bncheck.proto.tensors_pb2 import BundleEntryProto, BundleHeaderProto
from tests.writers import Raw, masked_crc, slice_key, varint, write_bundle
from tests.writers.bundle import string_tensor_bytes

Write = Callable[[Path], Any]
TENSORS = {"a": np.ones(2, np.float32), "b": np.zeros(3, np.float32)}
GRID = np.arange(12, dtype=np.float32).reshape(3, 4)
HALVES = [([0, 0], [1, 4]), ([1, 0], [2, 4])]
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


def bundle(**options: Any) -> Write:
    tensors = options.pop("tensors", TENSORS)
    return lambda prefix: write_bundle(prefix, tensors, **options)


def header(**fields: Any) -> Write:
    """Write a bundle with another header."""
    value = BundleHeaderProto(**fields).SerializeToString()
    return bundle(edit_items=lambda items: [(b"", value), *items[1:]])


def entry(value: bytes | BundleEntryProto) -> Write:
    """Write a bundle whose entry of `b` is another one."""
    raw = value if isinstance(value, bytes) else value.SerializeToString()
    return bundle(edit_items=lambda items: [*items[:-1], (b"b", raw)])


NO_SHAPE = "the entry of b'b' has no definite shape"

OPENING: dict[str, tuple[Write, type[BncheckError], list[str]]] = {
    "no entry": (
        bundle(edit_items=lambda _: []),
        DamagedError,
        ["has no header entry, so it is no checkpoint index"],
    ),
    "no header": (bundle(edit_items=lambda i: i[1:]), DamagedError, ["has no header entry"]),
    "header no message": (
        bundle(edit_items=lambda items: [(b"", b"\xff"), *items[1:]]),
        DamagedError,
        ["the header is no valid protobuf message"],
    ),
    "entry no message": (
        entry(b"\x0a\xff"),
        DamagedError,
        ["the entry of b'b' is no valid protobuf message"],
    ),
    "for later readers": (
        bundle(producer=7, min_consumer=2),
        UnsupportedError,
        ["bundle version 7", "readers of version 2 or later", "newer bncheck"],
    ),
    "this reader is known to be bad": (
        bundle(bad_consumers=[3, 1]),
        UnsupportedError,
        ["bundle version 1"],
    ),
    "version below zero": (bundle(producer=-1), UnsupportedError, ["bundle version -1"]),
    "unknown byte order": (
        header(num_shards=1, endianness=2),
        DamagedError,
        ["names the unknown byte order 2"],
    ),
    "unknown rank": (
        entry(BundleEntryProto(dtype=1, shape={"unknown_rank": True})),
        DamagedError,
        [NO_SHAPE],
    ),
    "negative dimension": (
        entry(BundleEntryProto(dtype=1, shape={"dim": [{"size": 3}, {"size": -1}]})),
        DamagedError,
        [NO_SHAPE],
    ),
}


@pytest.mark.parametrize("name", OPENING)
def test_opening(tmp_path: Path, name: str) -> None:
    write, kind, words = OPENING[name]
    prefix = str(tmp_path / "model.ckpt")
    write(Path(prefix))
    for path in (prefix, f"{prefix}.index"):
        with pytest.raises(BncheckError) as caught:
            open_checkpoint(path)
        error = caught.value
        assert (type(error), error.path) == (kind, f"{prefix}.index")
        assert error.offset == (None if name == "no entry" else 0)  # which has no block
        assert all(word in str(error) for word in words), str(error)


def raw(*, dtype: int = 1, shape: tuple[int, ...] = (3,), data: bytes = bytes(12)) -> Write:
    return bundle(tensors={"a": TENSORS["a"], "b": Raw(dtype, shape, data)})


def strings(count: int, data: bytes, crc: int | None = None) -> Write:
    return bundle(tensors={"a": TENSORS["a"], "b": Raw(7, [count], data, crc)})


def sliced(
    boxes: list[Any], edit: Callable[[list[Any]], list[Any]] | None = None, **options: Any
) -> Write:
    tensors = {"a": TENSORS["a"], "b": GRID}
    return bundle(tensors=tensors, partitions={"b": boxes}, edit_items=edit, **options)


def other_piece(**fields: Any) -> Write:
    """Write the second of two slices with another shape or type."""
    key = slice_key("b", [(1, 2), (0, 4)])

    def edit(items: list[Any]) -> list[Any]:
        changed = BundleEntryProto.FromString(dict(items)[key])
        changed.MergeFrom(BundleEntryProto(**fields))
        return [(k, changed.SerializeToString() if k == key else value) for k, value in items]

    return sliced(HALVES, edit)


def in_shard(shard: int) -> Write:
    fields = {"dtype": 1, "shape": {"dim": [{"size": 3}]}, "size": 12}
    return entry(BundleEntryProto(**fields, shard_id=shard))


def without(file: str, write: Write) -> Write:
    return lambda prefix: (write(prefix), os.remove(f"{prefix}{file}"))


def instead_of_data(data: bytes) -> Write:
    return bundle(
        tensors={"b": TENSORS["b"], "a": TENSORS["a"]}, edit_data=lambda *_: data, shards=2
    )


WORDS, CRC = string_tensor_bytes([b"abc", b""], "little")
LENGTHS_CRC = struct.pack("<I", masked_crc(struct.pack("<II", 3, 0)))
DATA = ".data-00000-of-00001"

# What is the matter with `b`; `a` is readable in all of them but the last ones.
UNREAD: dict[str, tuple[Write, list[str]]] = {
    "checksum": (
        bundle(tensors={"a": TENSORS["a"], "b": Raw(1, [3], bytes(12), crc=5)}),
        [f"{DATA} (byte 8): it fails its checksum. Copy the file again"],
    ),
    "too few bytes for the shape": (
        raw(data=bytes(11)),
        ["index (byte 0): gives 11 bytes to 'b', but float32 of shape [3] takes 12"],
    ),
    "shape beyond any memory": (
        raw(shape=(2**62, 2**62, 2**62)),
        [f"of shape [{2**62}, {2**62}, {2**62}] takes {2**188}"],
    ),
    "no elements of a shape beyond NumPy": (
        raw(shape=(0, 2**62, 2**62), data=b""),
        ["index (byte 0): 'b': array is too big"],
    ),
    "rank beyond NumPy": (
        raw(shape=(1,) * 70, data=bytes(4)),
        ["index (byte 0): 'b': maximum supported dimension"],
    ),
    "variant": (raw(dtype=21), ["bncheck reads no values of type variant"]),
    "resource": (raw(dtype=20), ["bncheck reads no values of type resource"]),
    "type of the future": (raw(dtype=77), ["bncheck reads no values of type DataType(77)"]),
    "negative size": (
        entry(BundleEntryProto(dtype=7, shape={"dim": [{"size": 1}]}, size=-4)),
        ["data-00000-of-00001: ends at byte 20"],
    ),
    "negative offset": (
        entry(BundleEntryProto(dtype=7, shape={"dim": [{"size": 1}]}, size=4, offset=-4)),
        ["a tensor should be at -4 to 0"],
    ),
    "behind the data": (
        entry(BundleEntryProto(dtype=1, shape={"dim": [{"size": 3}]}, size=12, offset=2**62)),
        [f"a tensor should be at {2**62} to {2**62 + 12}", "incomplete"],
    ),
    "shard that is not": (in_shard(4), ["index: says that data is in file 4, and counts 1 files"]),
    "shard below zero": (in_shard(-1), ["index: says that data is in file -1, and counts 1 files"]),
    "more strings than bytes": (strings(9, b"abcd"), ["4 bytes cannot hold 9 strings"]),
    "strings beyond any memory": (strings(2**40, b"abcd"), ["cannot hold 1099511627776 strings"]),
    "string length cut off": (strings(3, b"\xff" * 3), ["varint is cut off or too long"]),
    "lengths' checksum": (
        strings(2, b"\x03\x01" + LENGTHS_CRC + b"abc"),
        ["the lengths of its strings fail their checksum"],
    ),
    "lengths' checksum cut off": (
        strings(2, b"\x03\x00" + LENGTHS_CRC[:3]),
        ["the lengths of its strings fail their checksum"],
    ),
    "strings too long": (strings(2, WORDS + b"d"), ["longer or shorter than their lengths say"]),
    "strings too short": (strings(2, WORDS[:-1]), ["longer or shorter than their lengths say"]),
    "strings' checksum": (strings(2, WORDS, CRC ^ 1), ["it fails its checksum"]),
    "strings of 2**63 bytes": (
        strings(1, varint(2**63) + struct.pack("<I", masked_crc(struct.pack("<Q", 2**63)))),
        ["longer or shorter than their lengths say"],
    ),
    "slices overlap": (
        sliced([([0, 0], [2, 4]), ([1, 0], [1, 4])]),
        ["index (byte 0): 'b': its slices overlap"],
    ),
    "slices leave a hole": (
        sliced([([0, 0], [1, 4]), ([2, 0], [1, 4])]),
        ["its slices hold 8 of 12 elements"],
    ),
    "slice reaches out": (
        sliced([HALVES[0], ([2, 0], [2, 4])]),
        ["a slice 2:4 reaches out of a dimension of 3"],
    ),
    "slice before the start": (
        sliced([([-1, 0], [3, 4])]),
        ["a slice -1:2 reaches out of a dimension of 3"],
    ),
    "slice of another rank": (
        sliced([([0, 0], [1, 4])], lambda items: items[:1] + items[2:3] + [rank_1(items[-1])]),
        ["a slice of rank 1 in a tensor of rank 2"],
    ),
    "slice not in the index": (
        sliced(HALVES, lambda items: [i for i in items if not i[0].endswith(b"\x81\x82\x80\x84")]),
        ["its slice at (1, 0) is not in the index"],
    ),
    "slice of another shape": (
        other_piece(shape={"dim": [{"size": 1}]}),
        ["its slice at (1, 0) has another shape or type"],
    ),
    "slice of another type": (other_piece(dtype=3), ["has another shape or type"]),
    "data file missing": (
        without(".data-00000-of-00002", instead_of_data(bytes(12))),
        ["data-00000-of-00002: this data file is missing", "Copy it beside the index"],
    ),
    "data file cut off": (
        instead_of_data(bytes(8)),
        ["data-00000-of-00002: ends at byte 8, but a tensor should be at 0 to 12", "copy the file"],
    ),
    "data file is a Git LFS pointer": (
        bundle(tensors={"b": np.zeros(100)}, edit_data=lambda *_: LFS_POINTER),
        ["It is a Git LFS pointer, not the data: run 'git lfs pull'"],
    ),
    "data file is a directory": (
        lambda prefix: (without(DATA, bundle())(prefix), os.mkdir(f"{prefix}{DATA}")),
        ["data-00000-of-00001: is not a regular file"],
    ),
    "data file is a loop of links": (
        lambda prefix: (
            without(DATA, bundle())(prefix),
            os.symlink(f"{prefix}{DATA}", f"{prefix}{DATA}"),
        ),
        ["data-00000-of-00001: cannot be opened: Too many levels of symbolic links"],
    ),
}


def rank_1(item: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    message = BundleEntryProto.FromString(item[1])
    del message.slices[0].extent[1:]
    return item[0], message.SerializeToString()


@pytest.mark.parametrize("name", UNREAD)
def test_unread(tmp_path: Path, name: str) -> None:
    write, words = UNREAD[name]
    prefix = tmp_path / "model.ckpt"
    write(prefix)
    checkpoint = TensorBundle(str(prefix))
    values = checkpoint.read(checkpoint.variables)
    assert "b" in values.unread
    assert "b" not in values.arrays
    assert all(word in values.unread["b"] for word in words), values.unread["b"]
    if not name.startswith("data file"):
        assert values.arrays["a"].tolist() == [1, 1]
    damaged = checkpoint.damaged_files()
    sizes_tell = name.startswith(("data file", "behind", "shard"))
    assert bool(damaged) is sizes_tell
    assert all(path.startswith(str(prefix)) for path in damaged)


def test_damaged_files_names_each_once(tmp_path: Path) -> None:
    prefix = tmp_path / "m"
    tensors = {f"t{i}": np.ones(4, np.float32) for i in range(6)}
    write_bundle(prefix, tensors, shards=3, edit_data=lambda n, data: data[:30] if n == 1 else data)
    os.remove(f"{prefix}.data-00002-of-00003")
    checkpoint = TensorBundle(str(prefix))
    assert checkpoint.damaged_files() == {
        f"{prefix}.data-00001-of-00003": "ends at byte 30, but the last tensor's end should be at "
        "32 to 32. The copy is incomplete: copy the file again.",
        f"{prefix}.data-00002-of-00003": "this data file is missing. Copy it beside the index.",
    }
    values = checkpoint.read(tensors)
    assert sorted(values.arrays) == ["t0", "t1", "t3"]
    assert sorted(values.unread) == ["t2", "t4", "t5"]
