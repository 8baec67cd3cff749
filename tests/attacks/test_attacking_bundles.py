"""V2 checkpoints made to harm: what an index may claim, and what its data files may be."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
import pytest

from bncheck.proto.tensors_pb2 import BundleEntryProto, BundleHeaderProto
from tests.attacks.attack import Attack, Make, run
from tests.writers import masked_crc, varint, write_bundle, write_table
from tests.writers.table import MAGIC, block_contents, table_bytes

ROLES = ("gamma", "beta", "moving_mean", "moving_variance")
LAYER = {
    f"net/bn/{role}": np.linspace(0.5, 1.5, 4, dtype=np.float32) + number
    for number, role in enumerate(ROLES)
}
MEAN = b"net/bn/moving_mean"
HUGE = 1 << 33  # elements: 32 GiB of float32


def bundle(**options: Any) -> Make:
    """Write a layer with these options of the writer."""

    def make(folder: Path) -> Path:
        write_bundle(folder / "model.ckpt-1", options.pop("tensors", LAYER), **options)
        return folder / "model.ckpt-1"

    return make


def entry(change: Callable[[BundleEntryProto], None], key: bytes = MEAN) -> Make:
    """Write a layer with one changed entry."""

    def edit(items: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        changed = []
        for name, value in items:
            if name == key:
                message = BundleEntryProto.FromString(value)
                change(message)
                value = message.SerializeToString()
            changed.append((name, value))
        return changed

    return bundle(edit_items=edit)


def every_entry(change: Callable[[BundleEntryProto], None]) -> Make:
    def edit(items: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        changed = [items[0]]
        for name, value in items[1:]:
            message = BundleEntryProto.FromString(value)
            change(message)
            changed.append((name, message.SerializeToString()))
        return changed

    return bundle(edit_items=edit)


def fields(**values: Any) -> Callable[[BundleEntryProto], None]:
    def change(message: BundleEntryProto) -> None:
        for name, value in values.items():
            if name == "shape":
                del message.shape.dim[:]
                for size in value:
                    message.shape.dim.add(size=size)
            else:
                setattr(message, name, value)

    return change


def header(**values: Any) -> Make:
    def edit(items: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        message = BundleHeaderProto.FromString(items[0][1])
        for name, value in values.items():
            setattr(message, name, value)
        return [(b"", message.SerializeToString()), *items[1:]]

    return bundle(edit_items=edit)


def index(raw: bytes) -> Make:
    """Write a layer and put these bytes in the place of its index."""

    def make(folder: Path) -> Path:
        path: Path = Path(bundle()(folder))
        Path(f"{path}.index").write_bytes(raw)
        return path

    return make


def footer(metaindex: tuple[int, int], at: tuple[int, int]) -> bytes:
    handles = b"".join(map(varint, (*metaindex, *at)))
    return handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def block(contents: bytes, kind: int) -> bytes:
    typed = contents + bytes([kind])
    return typed + struct.pack("<I", masked_crc(typed))


def table_of(contents: bytes, kind: int = 0) -> bytes:
    """Return a table whose only data block is this one."""
    data = block(contents, kind)
    handle = varint(0) + varint(len(contents))
    listed = block_contents([(b"zzz", handle)], 1)
    return data + block(listed, 0) + footer((0, 0), (len(data), len(listed)))


def bomb() -> bytes:
    """Return a Snappy stream of 64 MiB of zeros in 3 MB: as dense as the format can be."""
    return bytes(cramjam.snappy.compress_raw(bytes(1 << 26)))


def claims_a_gigabyte() -> bytes:
    return varint(1 << 30) + bomb()[4:]


def shared_keys(count: int) -> bytes:
    """Return a block whose keys are each a byte longer than the one before: n**2 / 2 bytes."""
    body = b"".join(
        (varint(number) + b"\x01\x00a" if number else b"\x00\x01\x00a") for number in range(count)
    )
    return body + struct.pack("<2I", 0, 1)


def sparse(length: int, **values: Any) -> Make:
    """Write a layer whose data file is a hole of that size, and entries that claim it."""

    def make(folder: Path) -> Path:
        path = every_entry(fields(**values))(folder)
        os.truncate(f"{path}.data-00000-of-00001", length)
        return Path(path)

    return make


def many_shards(folder: Path) -> Path:
    """A layer in the first of 20,000 files, all there and empty but that one."""
    make = header(num_shards=20_000)
    path = make(folder)
    os.rename(f"{path}.data-00000-of-00001", f"{path}.data-00000-of-20000")
    for shard in range(1, 20_000):
        os.mknod(f"{path}.data-{shard:05d}-of-20000")
    return Path(path)


def repeated(folder: Path) -> Path:
    """40,000 variables that are all the same four floats."""
    write_bundle(folder / "model.ckpt-1", LAYER)
    value = BundleEntryProto(dtype=1, size=16, crc32c=1)
    value.shape.dim.add(size=4)
    stored = value.SerializeToString()
    head = BundleHeaderProto(num_shards=1).SerializeToString()
    items = [(b"", head)]
    for number in range(10_000):
        items += [(f"n/bn_{number:06d}/{role}".encode(), stored) for role in sorted(ROLES)]
    write_table(folder / "model.ckpt-1.index", items)
    return folder / "model.ckpt-1"


def sliced(boxes: list[Any]) -> Make:
    grid = np.ones((3, 4), np.float32)
    return bundle(tensors=LAYER | {"net/bn/moving_mean": grid}, partitions={MEAN: boxes})


def slices_without_end(folder: Path) -> Path:
    """A variable that lists 200,000 slices, each of them the whole."""

    def change(message: BundleEntryProto) -> None:
        for _ in range(200_000):
            message.slices.add().extent.add()

    return Path(entry(change)(folder))


ATTACKS = {
    "no harm": Attack(bundle(), ("PASS",), code=0),
    # What an entry claims.
    "2^63-1 bytes": Attack(entry(fields(size=2**63 - 1)), ("gives 9223372036854775807 bytes",)),
    "negative size": Attack(entry(fields(size=-1)), ("gives -1 bytes",)),
    "2^63-1 elements": Attack(entry(fields(shape=[2**63 - 1])), ("more than any model's",)),
    "2^126 elements": Attack(
        entry(fields(shape=[2**63 - 1, 2**63 - 1])), ("more than any model's",)
    ),
    "no element, and too many": Attack(entry(fields(shape=[0, 2**63 - 1], size=0))),
    "negative dimension": Attack(entry(fields(shape=[-4])), ("no definite shape",)),
    "-2 by -2": Attack(entry(fields(shape=[-2, -2])), ("no definite shape",)),
    "a dimension of 2^63-1 that fits": Attack(
        entry(fields(shape=[2**62, 4], size=(2**64 - 16) % 2**63)), ("more than any model's",)
    ),
    "100,000 dimensions": Attack(entry(fields(shape=[1] * 100_000)), ("moving_mean",)),
    "offset beyond the end": Attack(entry(fields(offset=1 << 40)), ("ends at byte 64",)),
    "offset 2^63-1": Attack(entry(fields(offset=2**63 - 1)), ("ends at byte 64",)),
    "negative offset": Attack(entry(fields(offset=-8)), ("moving_mean",)),
    "the same bytes": Attack(every_entry(fields(offset=0)), ("it fails its checksum",)),
    "shard of the future": Attack(entry(fields(shard_id=7)), ("file 7",)),
    "negative shard": Attack(entry(fields(shard_id=-1)), ("file -1",)),
    # What is no number is nobody's mean, and its bytes are not looked at.
    "type 2^31-1": Attack(entry(fields(dtype=2**31 - 1)), ("BN101",), code=1),
    "2^40 strings in 16 bytes": Attack(entry(fields(dtype=7, shape=[1 << 40])), ("BN101",), code=1),
    "a variant": Attack(entry(fields(dtype=21)), ("BN101",), code=1),
    "a hole of 1 TiB": Attack(sparse(1 << 40, offset=(1 << 40) - 16), ("fails its checksum",)),
    # What a header claims.
    "2^31-1 shards": Attack(header(num_shards=2**31 - 1), ("this data file is missing",)),
    "no shards": Attack(header(num_shards=0), ("counts 0 files",)),
    "-1 shards": Attack(header(num_shards=-1), ("counts -1 files",)),
    "byte order 77": Attack(header(endianness=77), ("unknown byte order",)),
    "20,000 shards": Attack(many_shards, ("PASS",), code=0),
    "all share one value": Attack(repeated),
    # Slices.
    "slices overlap": Attack(sliced([([0, 0], [2, 4]), ([1, 0], [1, 4])]), ("overlap",)),
    "slices leave a hole": Attack(sliced([([0, 0], [1, 4]), ([2, 0], [1, 4])]), ("8 of 12",)),
    "200,000 slices": Attack(slices_without_end, ("moving_mean",)),
    # Tables.
    "empty": Attack(index(b"")),
    "magic alone": Attack(index(footer((0, 0), (0, 0)))),
    "index block of 2^63": Attack(index(footer((0, 0), (0, 2**63 - 1)))),
    "index block of 2^64-1": Attack(index(footer((0, 0), (2**64 - 1, 2**64 - 1)))),
    "index block beyond the end": Attack(index(footer((0, 0), (1 << 40, 16)))),
    "handles that do not end": Attack(index(b"\xff" * 40 + struct.pack("<Q", MAGIC))),
    "a key of 2^63 bytes": Attack(
        index(table_of(b"\x00" + varint(2**63) + b"\x00" + struct.pack("<2I", 0, 1)))
    ),
    "a value of 2^63 bytes": Attack(
        index(table_of(b"\x00\x00" + varint(2**63) + struct.pack("<2I", 0, 1)))
    ),
    "shares more than there is": Attack(index(table_of(b"\x7f\x00\x00" + bytes(4) + b"\1\0\0\0"))),
    "2^32-1 restarts": Attack(index(table_of(b"\xff" * 4)), ("restart array",)),
    "keys that add up": Attack(index(table_of(shared_keys(100_000)))),
    "unknown compression": Attack(index(table_of(bytes(8), 7)), ("unknown compression 7",)),
    "Snappy of 1 GiB": Attack(index(table_of(claims_a_gigabyte(), 1)), ("cannot hold",)),
    "Snappy of 2^64-1": Attack(index(table_of(varint(2**64 - 1) + b"\0" * 99, 1))),
    "Snappy of zeros": Attack(index(table_of(bomb(), 1))),
    "Snappy of nothing": Attack(index(table_of(b"", 1))),
    "a table without an entry": Attack(index(table_bytes([])), ("header",)),
    "a block that is the index block": Attack(
        index(
            (b := block(block_contents([(b"z", b"\0\x0f")], 1), 0))
            + footer((0, 0), (0, len(b) - 5))
        )
    ),
}


HOLE = Attack(sparse(100 << 30, shape=[HUGE], size=HUGE * 4, crc32c=0), ("more than any model's",))


def test_100_gb_in_a_hole(tmp_path: Path) -> None:
    run(HOLE, tmp_path)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(tmp_path: Path, name: str) -> None:
    run(ATTACKS[name], tmp_path)
