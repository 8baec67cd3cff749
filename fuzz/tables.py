"""Mutation of table files and bundles: entries change, offsets and checksums stay right."""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import cramjam
import google_crc32c
from google.protobuf.message import DecodeError

from bncheck.proto.tensors_pb2 import BundleEntryProto, SavedTensorSlices
from fuzz.wire import mutate_message, read_varint
from tests.writers import mask, masked_crc, slice_key, table_bytes

if TYPE_CHECKING:
    import random

    from fuzz.target import Raw
    from tests.writers.table import Item

_FOOTER = 48
_STRING = 7


def items_of(table: bytes) -> list[Item] | None:
    """Return the entries of a table, None where it is none."""
    try:
        items = []
        for _, handle in _entries(_contents(table, *_index_handle(table))):
            offset, position = read_varint(handle, 0)
            items += _entries(_contents(table, offset, read_varint(handle, position)[0]))
    except (IndexError, ValueError, struct.error, cramjam.DecompressionError):
        return None
    return items


def _index_handle(table: bytes) -> tuple[int, int]:
    position = len(table) - _FOOTER
    if position < 0:
        raise ValueError("no footer")
    for _ in range(2):
        _, position = read_varint(table, position)
    offset, position = read_varint(table, position)
    return offset, read_varint(table, position)[0]


def _contents(table: bytes, offset: int, size: int) -> bytes:
    if offset + size + 5 > len(table):
        raise ValueError("no such block")
    contents = table[offset : offset + size]
    if table[offset + size] == 1:
        length, _ = read_varint(contents, 0)
        if length > 1 << 20:
            raise ValueError("a large block")
        return bytes(cramjam.snappy.decompress_raw(contents))
    return contents


def _entries(contents: bytes) -> list[Item]:
    (restarts,) = struct.unpack("<I", contents[-4:])
    end = len(contents) - 4 * (restarts + 1)
    position, key = 0, b""
    items = []
    while position < end:
        shared, position = read_varint(contents, position)
        rest, position = read_varint(contents, position)
        length, position = read_varint(contents, position)
        key = key[:shared] + contents[position : position + rest]
        position += rest
        items.append((key, contents[position : position + length]))
        position += length
    return items


def repaired(table: bytes) -> bytes:
    """Return a table whose blocks have the right checksums, as far as they can be found."""
    fixed = bytearray(table)
    handles = []
    with suppress(IndexError, ValueError, struct.error, cramjam.DecompressionError):
        handles.append(_index_handle(table))
        for _, handle in _entries(_contents(table, *handles[0])):
            offset, position = read_varint(handle, 0)
            handles.append((offset, read_varint(handle, position)[0]))
    for offset, size in handles:
        end = offset + size + 1
        if end + 4 <= len(fixed) - _FOOTER:
            fixed[end : end + 4] = struct.pack("<I", masked_crc(bytes(fixed[offset:end])))
    return bytes(fixed)


def rebuilt(items: list[Item], rng: random.Random) -> bytes:
    """Return a table of these entries, in order, in blocks of one size or another."""
    return table_bytes(
        sorted(dict(items).items()) if rng.random() < 0.95 else items,
        block_size=rng.choice((64, 4096, 4096)),
        restart_interval=rng.choice((1, 16)),
        snappy=rng.random() < 0.1,
    )


def mutate_items(items: list[Item], raw: Raw, rng: random.Random) -> None:
    """Change something in a table's entries: a value, a key, or which of them there are."""
    if not items:
        items.append((raw(b"key"), raw(b"value")))
        return
    at = rng.randrange(len(items))
    key, value = items[at]
    choice = rng.random()
    if choice < 0.7:
        items[at] = (key, mutate_message(value, raw, rng))
    elif choice < 0.8:
        items[at] = (raw(key), value)
    elif choice < 0.9:
        items.append((raw(key), value))
    else:
        del items[at]


def mutate_table(data: bytes, raw: Raw, rng: random.Random) -> bytes:
    """Mutate a table file by its bytes or by its entries."""
    items = items_of(data)
    if items is None or rng.random() < 0.4:
        changed = raw(data)
        return repaired(changed) if rng.random() < 0.9 else changed
    mutate_items(items, raw, rng)
    return rebuilt(items, rng)


def mutate_slices(data: bytes, raw: Raw, rng: random.Random) -> bytes:
    """Mutate a V1 checkpoint; mostly, the keys stay those of the slices that they stand for."""
    items = items_of(data)
    if items is None or rng.random() < 0.1:
        return repaired(raw(data))
    mutate_items(items, raw, rng)
    if rng.random() < 0.7:
        items = [(_slice_key(value) if key else key, value) for key, value in items]
    return rebuilt(items, rng)


def _slice_key(value: bytes) -> bytes:
    try:
        part = SavedTensorSlices.FromString(value).data
        extents = [
            (each.start, each.length if each.HasField("length") else -1)
            for each in part.slice.extent
        ]
        name = part.name if isinstance(part.name, bytes) else part.name.encode()
        return slice_key(name, extents)
    except DecodeError:
        return b"\0broken"


def split(data: bytes) -> tuple[bytes, bytes]:
    """Return the index and the data file that an input of a bundle is, behind a length."""
    size = int.from_bytes(data[:4], "little")
    return data[4 : 4 + size], data[4 + size :]


def joined(index: bytes, data: bytes) -> bytes:
    """Return the input that these two files are."""
    return len(index).to_bytes(4, "little") + index + data


def mutate_bundle(data: bytes, raw: Raw, rng: random.Random) -> bytes:
    """Mutate a bundle, and mostly mend the checksums of its tensors."""
    index, content = split(data)
    items = items_of(index)
    if items is None or rng.random() < 0.15:
        return joined(repaired(raw(index)), content)
    if rng.random() < 0.2:
        content = raw(content)
    else:
        mutate_items(items, raw, rng)
    if rng.random() < 0.9:
        content = _mend(items, content)
    return joined(rebuilt(items, rng), content)


def _mend(items: list[Item], content: bytes) -> bytes:
    """Give the entries the checksums of their bytes, and the strings in these their own."""
    data = bytearray(content)
    for at, (key, value) in enumerate(items):
        if not key:
            continue
        try:
            entry = BundleEntryProto.FromString(value)
        except DecodeError:
            continue
        end = entry.offset + entry.size
        if entry.slices or not 0 <= entry.offset <= end <= len(data):
            continue
        if entry.dtype == _STRING:
            count = math.prod(each.size for each in entry.shape.dim)
            data[entry.offset : end] = _mended_strings(bytes(data[entry.offset : end]), count)
            entry.crc32c = _crc_of_strings(bytes(data[entry.offset : end]), count)
        else:
            entry.crc32c = masked_crc(bytes(data[entry.offset : end]))
        items[at] = (key, entry.SerializeToString())
    return bytes(data)


def _lengths(data: bytes, count: int) -> tuple[int, int]:
    """Return the CRC32C of a string tensor's lengths, and where they end; -1 where they do not."""
    position, packed = 0, b""
    try:
        for _ in range(count if 0 <= count <= len(data) else 0):
            length, position = read_varint(data, position)
            packed += struct.pack("<I", length)
    except (IndexError, struct.error):
        return 0, -1
    return google_crc32c.value(packed), position


def _mended_strings(data: bytes, count: int) -> bytes:
    crc, position = _lengths(data, count)
    if position < 0 or position + 4 > len(data):
        return data
    return data[:position] + struct.pack("<I", mask(crc)) + data[position + 4 :]


def _crc_of_strings(data: bytes, count: int) -> int:
    crc, position = _lengths(data, count)
    return mask(google_crc32c.extend(crc, data[max(0, position) :]))
