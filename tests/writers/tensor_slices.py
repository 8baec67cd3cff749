"""Writes V1 checkpoints: one table file, or several, PATH-SSSSS-of-NNNNN.

Source: tensorflow/core/util/tensor_slice_writer.cc and saved_tensor_slice_util.{h,cc}, with
tensorflow/core/util/saved_tensor_slice.proto and framework/tensor.proto.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from bncheck.proto import tensors_pb2

from . import values
from .ordered_code import slice_key
from .table import BLOCK_SIZE, RESTART_INTERVAL, Edit, Item, varint, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from .values import Array, Box, Name

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
HALF = 19
# The TensorProto field that holds each DataType that TensorFlow's V1 writer takes. It has no
# bfloat16, qint16, quint16, uint32, uint64 or any later type.
FIELD_OF = {
    1: 5,  # float_val
    2: 6,  # double_val
    3: 7, 4: 7, 5: 7, 6: 7, 11: 7, 12: 7, 13: 7, 17: 7,  # int_val
    values.STRING: 8,  # string_val
    8: 9,  # scomplex_val
    9: 10,  # int64_val
    10: 11,  # bool_val
    18: 12,  # dcomplex_val
    HALF: 13,  # half_val
}  # fmt: skip
WIRE_TYPE_OF = {
    5: FIXED32, 6: FIXED64, 7: VARINT, 8: LENGTH_DELIMITED, 9: FIXED32, 10: VARINT, 11: VARINT,
    12: FIXED64, 13: VARINT,
}  # fmt: skip


def field(number: int, payload: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(payload)) + payload


def encoded_values(array: Array, dtype: int) -> list[bytes]:
    """Return each value as its protobuf field holds it, without tag; complex values are pairs.

    A negative integer is a varint of ten bytes; a half is the number of its 16 bits.
    """
    flat = array.ravel()
    if dtype == values.STRING:
        return [varint(len(text)) + text for text in flat]
    if dtype in (1, 8):
        return [struct.pack("<f", number) for number in flat.view(np.float32)]
    if dtype in (2, 18):
        return [struct.pack("<d", number) for number in flat.view(np.float64)]
    if dtype == HALF:
        flat = flat.view(np.uint16)
    return [varint(int(number) % (1 << 64)) for number in flat]


def tensor_message(array: Array, dtype: int, *, packed: bool) -> bytes:
    """Serialize a TensorProto that has only its value field, as V1 stores it.

    Written by hand because a generated message packs numbers and offers no choice. Strings cannot
    be packed.
    """
    number = FIELD_OF.get(dtype)
    if number is None:
        raise ValueError(f"a V1 checkpoint cannot hold DataType {dtype}")
    encoded = encoded_values(array, dtype)
    if packed and dtype != values.STRING:
        return field(number, b"".join(encoded)) if encoded else b""
    tag = varint(number << 3 | WIRE_TYPE_OF[number])
    return b"".join(tag + value for value in encoded)


def slice_record(name: bytes, box: Box, tensor: bytes) -> bytes:
    """Serialize the SavedTensorSlices of one slice."""
    message = tensors_pb2.SavedSlice(name=name, slice=values.slice_message(box))
    return field(2, message.SerializeToString() + field(3, tensor))


def meta_record(
    tensors: Sequence[tensors_pb2.SavedSliceMeta], versions: tensors_pb2.VersionDef
) -> bytes:
    """Serialize the SavedTensorSlices under the empty key, which lists a file's slices."""
    meta = tensors_pb2.SavedTensorSliceMeta(tensor=tensors, versions=versions)
    return tensors_pb2.SavedTensorSlices(meta=meta).SerializeToString()


def write_v1(
    path: Path | str,
    tensors: Mapping[Name, Any],
    *,
    slices: Mapping[Name, Sequence[Box]] | None = None,
    packed: bool = True,
    shards: int | None = None,
    dtypes: Mapping[Name, int] | None = None,
    snappy: bool = False,
    producer: int = 1,
    min_consumer: int = 0,
    bad_consumers: Sequence[int] = (),
    block_size: int = BLOCK_SIZE,
    restart_interval: int = RESTART_INTERVAL,
    edit_items: Callable[[int, list[Item]], list[Item]] | None = None,
    edit_contents: Edit | None = None,
    edit_stored: Edit | None = None,
) -> list[Path]:
    """Write a V1 checkpoint and return its files.

    Args:
        path: the file itself or, with `shards`, what the file names begin with.
        tensors: arrays, nested lists, bytes or text, by name.
        slices: starts and lengths of the slices of each tensor that is cut; a length of None is
            left out of the message. They need be neither disjoint nor complete.
        packed: write numbers as packed fields, as TensorFlow does, or one tag for each value.
        shards: number of files PATH-SSSSS-of-NNNNN, also for 1; slices take turns, in the order
            given. None writes the one file PATH.
        dtypes: DataType numbers to put in place of the arrays' own (qint8 for int8, ...).
        snappy, block_size, restart_interval, edit_contents, edit_stored: as for
            `table.table_bytes`.
        producer, min_consumer, bad_consumers: the meta's VersionDef.
        edit_items: takes a file's number and its sorted keys and values, and returns the ones to
            write; its order is kept.
    """
    boxes_of = values.by_raw_name(slices)
    dtype_of = values.by_raw_name(dtypes)
    count = 1 if shards is None else shards
    items: list[dict[bytes, bytes]] = [{} for _ in range(count)]
    metas: list[dict[bytes, tensors_pb2.SavedSliceMeta]] = [{} for _ in range(count)]
    stored = 0
    for name, value in values.by_raw_name(tensors).items():
        array = values.as_array(value)
        dtype = dtype_of.get(name, values.dtype_number(array))
        whole: Box = ([0] * array.ndim, [None] * array.ndim)
        for box in boxes_of.get(name, [whole]):
            shard = stored % count
            stored += 1
            meta = metas[shard].setdefault(
                name,
                tensors_pb2.SavedSliceMeta(
                    name=name, shape=values.shape_message(array.shape), type=dtype
                ),
            )
            meta.slice.append(values.slice_message(box))
            tensor = tensor_message(values.cut(array, box), dtype, packed=packed)
            items[shard][slice_key(name, values.extents(box))] = slice_record(name, box, tensor)

    versions = tensors_pb2.VersionDef(
        producer=producer, min_consumer=min_consumer, bad_consumers=bad_consumers
    )
    written = []
    for shard in range(count):
        items[shard][b""] = meta_record(list(metas[shard].values()), versions)
        ordered = sorted(items[shard].items())
        name_of_file = str(path) if shards is None else f"{path}-{shard:05d}-of-{count:05d}"
        written.append(
            write_table(
                name_of_file,
                ordered if edit_items is None else edit_items(shard, ordered),
                block_size=block_size,
                restart_interval=restart_interval,
                snappy=snappy,
                edit_contents=edit_contents,
                edit_stored=edit_stored,
            )
        )
    return written
