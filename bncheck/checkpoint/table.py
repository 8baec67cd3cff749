"""The sorted string table: the `.index` file of a V2 checkpoint, the whole file of a V1 checkpoint.

It is LevelDB's table format without filter blocks (github.com/google/leveldb, doc/table_format.md),
as tensorflow/core/lib/io/table.cc and block.cc read it: data blocks, a metaindex block, an index
block, a footer.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import TYPE_CHECKING

from bncheck import limits
from bncheck.checkpoint.checksums import masked_crc32c
from bncheck.checkpoint.varint import read_varint, written_varint
from bncheck.errors import COPY_AGAIN, DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bncheck.checkpoint.files import RegularFile

FOOTER_SIZE = 48
MAGIC = 0xDB4775248B80FB57
TRAILER_SIZE = 5  # one byte of compression type, four of masked CRC32C
_NO_COMPRESSION, _SNAPPY = 0, 1


def has_table_footer(file: RegularFile) -> bool:
    """Whether the file ends like a table: 48 bytes or more, the last 8 the magic number."""
    if file.size < FOOTER_SIZE:
        return False
    tail = file.read(file.size - 8, 8, "the footer")
    return bool(struct.unpack("<Q", tail)[0] == MAGIC)


class Table:
    """One table file: its index is read and checked at once, its data blocks on demand.

    `blocks`, `metaindex` (always empty) and `index` are the places of blocks and their sizes
    without the trailer; `is_canonical` says that the footer is as every writer writes it.

    Raises DamagedError where the footer, a block's checksum or a block's entries are wrong.
    """

    def __init__(self, file: RegularFile) -> None:
        self._file = file
        if file.size < FOOTER_SIZE:
            raise DamagedError(
                file.path,
                f"is {file.size} bytes long, too short for a table",
                remedy=file.lfs_remedy() or COPY_AGAIN,
            )
        footer_at = file.size - FOOTER_SIZE
        footer = file.read(footer_at, FOOTER_SIZE, "the footer")
        if struct.unpack("<Q", footer[-8:])[0] != MAGIC:
            raise DamagedError(
                file.path,
                "does not end with a table's magic number: it is cut off, or no table",
                offset=file.size - 8,
                remedy=file.lfs_remedy() or COPY_AGAIN,
            )
        self.metaindex, position = self._handle(footer, 0, footer_at)
        self.index = index = self._handle(footer, position, footer_at)[0]
        handles = b"".join(map(written_varint, (*self.metaindex, *index)))
        self.is_canonical = footer[:-8] == handles.ljust(FOOTER_SIZE - 8, b"\0")
        # An index key is only a separator: at least the block's last key, less than the next
        # block's first.
        self._separators: list[bytes] = []
        self.blocks: list[tuple[int, int]] = []
        for key, value in self._entries(*index, "the index block"):
            handle, _ = self._handle(value, 0, index[0])
            self._separators.append(key)
            self.blocks.append(handle)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every key and value, in ascending order of keys, one block in memory at a time."""
        last: bytes | None = None
        for number, handle in enumerate(self.blocks):
            entries = self._entries(*handle, f"data block {number}")
            if entries and last is not None and entries[0][0] <= last:
                raise DamagedError(
                    self._file.path, f"data block {number} is out of order", offset=handle[0]
                )
            yield from entries
            last = entries[-1][0] if entries else last

    def first(self) -> tuple[bytes, bytes] | None:
        """Return the first key and value, or None where the table is empty."""
        return next(self.scan(), None)

    def find(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Yield those of the keys that are there with their values; each block is read once."""
        wanted: dict[int, set[bytes]] = {}
        for key in keys:
            block = bisect_left(self._separators, key)
            if block < len(self.blocks):
                wanted.setdefault(block, set()).add(key)
        for block in sorted(wanted):
            for key, value in self._entries(*self.blocks[block], f"data block {block}"):
                if key in wanted[block]:
                    yield key, value

    def block_of(self, key: bytes) -> int | None:
        """Return where the block starts that a key is in, or would be; None behind the last one."""
        block = bisect_left(self._separators, key)
        return self.blocks[block][0] if block < len(self.blocks) else None

    def _handle(self, data: bytes, position: int, offset: int) -> tuple[tuple[int, int], int]:
        """Decode a block handle: varint64 offset, varint64 size (without the trailer)."""
        try:
            start, position = read_varint(data, position, len(data))
            size, position = read_varint(data, position, len(data))
        except ValueError as error:
            raise DamagedError(
                self._file.path, f"a block handle is wrong: {error}", offset=offset
            ) from None
        return (start, size), position

    def _entries(self, offset: int, size: int, what: str) -> list[tuple[bytes, bytes]]:
        block = self._file.read(offset, size + TRAILER_SIZE, what)
        contents, kind = block[:size], block[size]
        (stored,) = struct.unpack("<I", block[size + 1 :])
        if masked_crc32c(block[: size + 1]) != stored:
            raise DamagedError(
                self._file.path, f"{what} fails its checksum", offset=offset, remedy=COPY_AGAIN
            )
        if kind == _SNAPPY:
            contents = self._uncompress(contents, offset, what)
        elif kind != _NO_COMPRESSION:
            raise DamagedError(
                self._file.path, f"{what} has the unknown compression {kind}", offset=offset
            )
        try:
            return _decode_block(contents)
        except (ValueError, IndexError) as error:
            raise DamagedError(
                self._file.path, f"{what} is malformed: {error}", offset=offset
            ) from None

    def _uncompress(self, contents: bytes, offset: int, what: str) -> bytes:
        import cramjam  # Only old or foreign writers compress the index.

        try:
            length, _ = read_varint(contents, 0, len(contents))
            if length > limits.SNAPPY_RATIO * len(contents):
                raise self._bad_snappy(offset, what, f"{len(contents)} bytes cannot hold {length}")
            return bytes(cramjam.snappy.decompress_raw(contents))
        except (ValueError, cramjam.DecompressionError) as error:
            raise self._bad_snappy(offset, what, str(error)) from None

    def _bad_snappy(self, offset: int, what: str, reason: str) -> DamagedError:
        return DamagedError(
            self._file.path, f"{what} is no valid Snappy data: {reason}", offset=offset
        )


def _decode_block(contents: bytes) -> list[tuple[bytes, bytes]]:
    """Decode a block's entries: shared, non_shared, value_length, key delta, value.

    Keys must ascend strictly, in unsigned byte order. Raises ValueError where the block breaks its
    format.
    """
    if len(contents) < 4:
        raise ValueError("no restart array")
    (restarts,) = struct.unpack("<I", contents[-4:])
    if restarts > (len(contents) - 4) // 4:
        raise ValueError("restart array longer than the block")
    end = len(contents) - 4 * (restarts + 1)
    entries: list[tuple[bytes, bytes]] = []
    key = b""
    budget = limits.KEYS_RATIO * (len(contents) + 1024)
    position = 0
    while position < end:
        shared, non_shared, length = contents[position : position + 3]
        if (shared | non_shared | length) < 0x80 and position + 3 <= end:
            position += 3  # all three varints are of one byte, as nearly always
        else:
            shared, position = read_varint(contents, position, end)
            non_shared, position = read_varint(contents, position, end)
            length, position = read_varint(contents, position, end)
        value_at = position + non_shared
        if shared > len(key) or value_at + length > end:
            raise ValueError(f"bad entry at byte {position} of the block")
        next_key = key[:shared] + contents[position:value_at]
        if next_key <= key and entries:
            raise ValueError(f"keys are out of order at byte {position} of the block")
        key = next_key
        budget -= len(key)
        if budget < 0:
            raise ValueError("its keys are out of proportion to its size")
        position = value_at + length
        entries.append((key, contents[value_at:position]))
    return entries
