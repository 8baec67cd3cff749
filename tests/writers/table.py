"""Writes table files: a bundle's `.index`, or a whole V1 checkpoint.

Source: LevelDB table format (leveldb doc/table_format.md) as TensorFlow builds it
(tensorflow/core/lib/io/{table_builder,block_builder,format}.cc): no filter blocks, an empty
metaindex block, blocks of 256 KiB.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import cramjam
import google_crc32c

MAGIC = 0xDB4775248B80FB57
BLOCK_SIZE = 262144  # tensorflow/core/lib/io/table_options.h; LevelDB's own is 4096
RESTART_INTERVAL = 16
NO_COMPRESSION, SNAPPY = 0, 1

Item = tuple[bytes, bytes]
Edit = Callable[[str, bytes], bytes]
"""Takes a part's name ("data 0", "data 1", ..., "metaindex", "index", "footer") and its bytes, and
returns the bytes to use instead."""


def varint(value: int) -> bytes:
    """Encode an unsigned varint: 7 bits a byte, low group first (protobuf's and LevelDB's)."""
    if value < 0:
        raise ValueError(f"a varint cannot hold {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def mask(crc: int) -> int:
    """Mask a CRC that is stored next to its data (tensorflow/core/lib/hash/crc32c.h)."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
    """Return the masked CRC32C of `data`."""
    return mask(google_crc32c.value(data))


def shared_prefix(left: bytes, right: bytes) -> int:
    """Return how many leading bytes two keys share."""
    limit = min(len(left), len(right))
    return next((i for i in range(limit) if left[i] != right[i]), limit)


def shortest_separator(start: bytes, limit: bytes) -> bytes:
    """Return a short key in [start, limit) (LevelDB's BytewiseComparator::FindShortestSeparator).

    Where one key is a prefix of the other, or no shorter key fits, that is `start` itself.
    """
    at = shared_prefix(start, limit)
    if at < min(len(start), len(limit)) and start[at] < 0xFF and start[at] + 1 < limit[at]:
        return start[:at] + bytes([start[at] + 1])
    return start


def short_successor(key: bytes) -> bytes:
    """Return a short key >= `key` (LevelDB's BytewiseComparator::FindShortSuccessor)."""
    for at, byte in enumerate(key):
        if byte != 0xFF:
            return key[:at] + bytes([byte + 1])
    return key


def block_contents(items: Iterable[Item], restart_interval: int) -> bytes:
    """Build one block: prefix-compressed entries, then the restart array and its length.

    The keys are written in the order given, sorted or not.
    """
    body = bytearray()
    restarts = [0]
    since_restart = 0
    previous = b""
    for key, value in items:
        shared = 0
        if since_restart < restart_interval:
            shared = shared_prefix(previous, key)
        else:
            restarts.append(len(body))
            since_restart = 0
        body += varint(shared) + varint(len(key) - shared) + varint(len(value))
        body += key[shared:] + value
        previous = key
        since_restart += 1
    return bytes(body) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def split_blocks(items: Iterable[Item], block_size: int, restart_interval: int) -> list[list[Item]]:
    """Cut the items into data blocks where TensorFlow's TableBuilder::Add does.

    A block ends once its entries and restart array reach `block_size` bytes, and also before an
    entry of twice that size.
    """
    blocks: list[list[Item]] = [[]]
    entries_size = 0
    for key, value in items:
        if blocks[-1] and len(key) + len(value) >= 2 * block_size:
            blocks.append([])
        if not blocks[-1]:
            entries_size = 0
        count = len(blocks[-1])
        shared = shared_prefix(blocks[-1][-1][0], key) if count % restart_interval else 0
        lengths = (shared, len(key) - shared, len(value))
        entries_size += sum(len(varint(n)) for n in lengths) + sum(lengths[1:])
        blocks[-1].append((key, value))
        restarts = count // restart_interval + 1
        if entries_size + 4 * (restarts + 1) >= block_size:
            blocks.append([])
    return [block for block in blocks if block]


def table_bytes(
    items: Iterable[Item],
    *,
    block_size: int = BLOCK_SIZE,
    restart_interval: int = RESTART_INTERVAL,
    snappy: bool = False,
    edit_contents: Edit | None = None,
    edit_stored: Edit | None = None,
) -> bytes:
    """Build a table file.

    Args:
        items: keys and values, written in the order given: pass them sorted for a legal table.
        block_size: size of a data block's contents, in bytes, that ends it.
        restart_interval: entries between two restart points of a data block (the index: 1).
        snappy: compress every block, also where it saves nothing (TensorFlow itself falls back to
            plain blocks below 12.5 %), so that a small table has compressed blocks as well.
        edit_contents: changes a block before it is compressed and its CRC is taken.
        edit_stored: changes a block with its 5-byte trailer, or the footer, as stored. Where it
            changes the length, later blocks move and their handles follow.
    """
    out = bytearray()
    kind = SNAPPY if snappy else NO_COMPRESSION

    def add_block(part: str, contents: bytes) -> bytes:
        """Append one block; its handle is offset and size without the trailer."""
        if edit_contents is not None:
            contents = edit_contents(part, contents)
        if snappy:
            contents = bytes(cramjam.snappy.compress_raw(contents))
        handle = varint(len(out)) + varint(len(contents))
        typed = contents + bytes([kind])
        stored = typed + struct.pack("<I", masked_crc(typed))
        out.extend(stored if edit_stored is None else edit_stored(part, stored))
        return handle

    blocks = split_blocks(items, block_size, restart_interval)
    index = []
    for number, block in enumerate(blocks):
        handle = add_block(f"data {number}", block_contents(block, restart_interval))
        last = block[-1][0]
        follows = blocks[number + 1 : number + 2]
        separator = shortest_separator(last, follows[0][0][0]) if follows else short_successor(last)
        index.append((separator, handle))
    metaindex_handle = add_block("metaindex", block_contents([], restart_interval))
    index_handle = add_block("index", block_contents(index, 1))
    footer = (metaindex_handle + index_handle).ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    out += footer if edit_stored is None else edit_stored("footer", footer)
    return bytes(out)


def write_table(
    path: Path | str,
    items: Iterable[Item],
    *,
    block_size: int = BLOCK_SIZE,
    restart_interval: int = RESTART_INTERVAL,
    snappy: bool = False,
    edit_contents: Edit | None = None,
    edit_stored: Edit | None = None,
) -> Path:
    """Write a table file with the arguments of `table_bytes`; return its path."""
    written = Path(path)
    written.write_bytes(
        table_bytes(
            items,
            block_size=block_size,
            restart_interval=restart_interval,
            snappy=snappy,
            edit_contents=edit_contents,
            edit_stored=edit_stored,
        )
    )
    return written
