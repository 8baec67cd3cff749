"""Writes TensorBundles (V2 checkpoints): PREFIX.index and PREFIX.data-SSSSS-of-NNNNN.

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc (BundleWriter, WriteStringTensor) and
tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import google_crc32c
import numpy as np

from bncheck.proto import tensors_pb2

from . import values
from .ordered_code import slice_key
from .table import BLOCK_SIZE, RESTART_INTERVAL, Edit, Item, mask, masked_crc, varint, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .values import Array, Box, Name

Endianness = Literal["little", "big"]


@dataclass(frozen=True)
class Raw:
    """A tensor given by its stored bytes, for types and sizes that no array has.

    Without `crc` (masked) the entry gets the right one for the bytes.
    """

    dtype: int
    shape: Sequence[int]
    data: bytes
    crc: int | None = None


def string_tensor_bytes(strings: Sequence[bytes], endianness: Endianness) -> tuple[bytes, int]:
    """Return a string tensor's bytes and its masked entry CRC.

    The bytes are the lengths as varints, the masked CRC of the lengths, and the strings. That CRC
    is taken over each length as a uint32 (uint64 above 2**32-1) and, like the stored checksum, is
    in the writer's byte order. The entry's CRC continues it over the checksum and the strings.
    """
    order = "<" if endianness == "little" else ">"
    crc = 0
    for text in strings:
        width = "I" if len(text) <= 0xFFFFFFFF else "Q"
        crc = google_crc32c.extend(crc, struct.pack(order + width, len(text)))
    checksum = struct.pack(order + "I", mask(crc))
    joined = b"".join(strings)
    crc = google_crc32c.extend(google_crc32c.extend(crc, checksum), joined)
    return b"".join(varint(len(text)) for text in strings) + checksum + joined, mask(crc)


def number_bytes(array: Array, endianness: Endianness) -> bytes:
    """Return the values' bytes in the asked order, row-major.

    complex64 swaps as two 4-byte halves, complex128 as two 8-byte ones (tensorflow/core/util/
    tensor_bundle/byte_swap_tensor.cc). A value of less than a byte is stored as one byte with its
    high bits clear.
    """
    width = array.dtype.itemsize // (2 if array.dtype.kind == "c" else 1)
    stored: Array = np.frombuffer(array.tobytes(), np.uint8).reshape(-1, width)
    if array.dtype.name in ("int4", "uint4", "float4_e2m1fn"):
        stored = stored & 0x0F
    elif array.dtype.name in ("int2", "uint2"):
        stored = stored & 0x03
    return (stored if endianness == "little" else stored[:, ::-1]).tobytes()


def raw_tensor(array: Array, dtype: int, endianness: Endianness) -> Raw:
    """Return the array as it is stored."""
    if array.dtype.kind == "O":
        data, crc = string_tensor_bytes(array.ravel().tolist(), endianness)
        return Raw(dtype, array.shape, data, crc)
    return Raw(dtype, array.shape, number_bytes(array, endianness))


def write_bundle(
    prefix: Path | str,
    tensors: Mapping[Name, Any],
    *,
    shards: int = 1,
    endianness: Endianness = "little",
    snappy: bool = False,
    partitions: Mapping[Name, Sequence[Box]] | None = None,
    dtypes: Mapping[Name, int] | None = None,
    producer: int = 1,
    min_consumer: int = 0,
    bad_consumers: Sequence[int] = (),
    alignment: int = 1,
    block_size: int = BLOCK_SIZE,
    restart_interval: int = RESTART_INTERVAL,
    edit_items: Callable[[list[Item]], list[Item]] | None = None,
    edit_data: Callable[[int, bytes], bytes] | None = None,
    edit_contents: Edit | None = None,
    edit_stored: Edit | None = None,
) -> list[Path]:
    """Write a bundle and return its files: the index, then each shard.

    Args:
        prefix: path that the file names begin with.
        tensors: arrays, nested lists, bytes or text, or `Raw`, by name.
        shards: number of data files; tensors and slices take turns, in the order given.
        endianness: byte order of the tensors' bytes.
        snappy: compress the index's blocks.
        partitions: slices, for each tensor that is stored in slices: starts and lengths, where a
            length of None is left out of the message. They need be neither disjoint nor complete.
        dtypes: DataType numbers to put in place of the arrays' own (qint8 for int8, ...).
        producer, min_consumer, bad_consumers: the header's VersionDef.
        alignment: multiple of bytes at which each tensor begins in its data file.
        block_size, restart_interval, edit_contents, edit_stored: as for `table.table_bytes`.
        edit_items: changes the sorted keys and values of the index; its order is kept.
        edit_data: takes a shard's number and bytes and returns the bytes to write.
    """
    boxes_of = values.by_raw_name(partitions)
    dtype_of = values.by_raw_name(dtypes)
    data = [bytearray() for _ in range(shards)]
    items: dict[bytes, bytes] = {}
    stored = 0

    def add(key: bytes, tensor: Raw) -> None:
        nonlocal stored
        shard = stored % shards
        stored += 1
        data[shard].extend(bytes(-len(data[shard]) % alignment))
        items[key] = tensors_pb2.BundleEntryProto(
            dtype=tensor.dtype,
            shape=values.shape_message(tensor.shape),
            shard_id=shard,
            offset=len(data[shard]),
            size=len(tensor.data),
            crc32c=masked_crc(tensor.data) if tensor.crc is None else tensor.crc,
        ).SerializeToString()
        data[shard].extend(tensor.data)

    for name, value in values.by_raw_name(tensors).items():
        if isinstance(value, Raw):
            add(name, value)
            continue
        array = values.as_array(value)
        dtype = dtype_of.get(name, values.dtype_number(array))
        boxes = boxes_of.get(name)
        if boxes is None:
            add(name, raw_tensor(array, dtype, endianness))
            continue
        # What the slices are, and nothing of where: that is in the slices' own entries.
        items[name] = tensors_pb2.BundleEntryProto(
            dtype=dtype,
            shape=values.shape_message(array.shape),
            slices=[values.slice_message(box) for box in boxes],
        ).SerializeToString()
        for box in boxes:
            piece = raw_tensor(values.cut(array, box), dtype, endianness)
            add(slice_key(name, values.extents(box)), piece)

    items[b""] = tensors_pb2.BundleHeaderProto(
        num_shards=shards,
        endianness=0 if endianness == "little" else 1,
        version=tensors_pb2.VersionDef(
            producer=producer, min_consumer=min_consumer, bad_consumers=bad_consumers
        ),
    ).SerializeToString()

    ordered = sorted(items.items())
    index = write_table(
        f"{prefix}.index",
        ordered if edit_items is None else edit_items(ordered),
        block_size=block_size,
        restart_interval=restart_interval,
        snappy=snappy,
        edit_contents=edit_contents,
        edit_stored=edit_stored,
    )
    written = [index]
    for shard, content in enumerate(data):
        path = Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}")
        path.write_bytes(bytes(content) if edit_data is None else edit_data(shard, bytes(content)))
        written.append(path)
    return written
