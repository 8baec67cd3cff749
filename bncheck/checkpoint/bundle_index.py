"""The index of a V2 checkpoint: which tensor is where, of which type, shape and checksum.

`PREFIX.index` is a table whose first entry is a BundleHeaderProto, all others BundleEntryProtos
(tensorflow/core/protobuf/tensor_bundle.proto), as BundleReader in
tensorflow/core/util/tensor_bundle/tensor_bundle.cc reads them.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from bncheck.checkpoint.checksums import unmask
from bncheck.checkpoint.dtypes import dtype_name
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.ordered_code import slice_key
from bncheck.checkpoint.slices import Extents, extents_of
from bncheck.checkpoint.table import Table
from bncheck.errors import DamagedError, UnsupportedError
from bncheck.proto.tensors_pb2 import BundleEntryProto, BundleHeaderProto

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from bncheck.checkpoint.slices import Box

_READER_VERSION: Final = 1  # kTensorBundleVersion: what this reader understands
# The tags of BundleEntryProto's fields: a number, and how its value is encoded.
_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE, _CRC = 0x08, 0x12, 0x18, 0x20, 0x28, 0x35
# Behind the last entry, so that no step of the decoding leads out of the buffer: the fields are
# read once each, and take less than this.
_PADDING: Final = 256


class Entry(NamedTuple):
    """Where one tensor is: `size` bytes at `offset` of the data file number `shard`.

    `crc` is their CRC32C. A partitioned variable has `slices` instead, which are tensors of
    their own.
    """

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[Extents, ...] = ()


class BundleIndex:
    """All entries of an index, in columns: `keys`, `dtypes` and `shapes`, and numbers as int64.

    `slices` holds the extents of those rows that are partitioned. `shards` is the number of data
    files. Raises NotFoundError where the file is absent, DamagedError where it breaks its format,
    and UnsupportedError where it was written for a later reader.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with RegularFile(path) as file:
            self._table = Table(file)
            entries = list(self._table.scan())
        if not entries or entries[0][0] != b"":
            raise self.damaged(b"", "has no header entry, so it is no checkpoint index")
        self._read_header(entries[0][1])
        self.keys = [key for key, _ in entries[1:]]
        self.slices: dict[int, tuple[Extents, ...]] = {}
        self.dtypes: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self._read_entries([value for _, value in entries[1:]])

    def _read_header(self, value: bytes) -> None:
        try:
            header = BundleHeaderProto.FromString(value)
        except DecodeError:
            raise self.damaged(b"", "the header is no valid protobuf message") from None
        version = header.version
        if (
            version.min_consumer > _READER_VERSION
            or _READER_VERSION in version.bad_consumers
            or version.producer < 0
        ):
            raise UnsupportedError(
                self.path,
                f"is of bundle version {version.producer}, "
                f"for readers of version {version.min_consumer} or later",
                offset=self._table.block_of(b""),
                remedy="Is there a newer bncheck?",
            )
        if header.endianness not in (0, 1):
            raise self.damaged(b"", f"names the unknown byte order {header.endianness}")
        self.big_endian = header.endianness == 1
        self.shards = header.num_shards

    def _read_entries(self, values: Sequence[bytes]) -> None:
        heads, columns, usual = _columns(values)
        self.shard, self.offset, self.size, masked = columns
        known: dict[bytes, tuple[str, tuple[int, ...]]] = {}  # most share theirs with many others
        for row, (value, head, is_usual) in enumerate(
            zip(values, heads.tolist(), usual.tolist(), strict=True)
        ):
            told = value[:head] if is_usual else value
            if told not in known or not is_usual:
                message = self._message(row, told)
                known[told] = (dtype_name(message.dtype), self._shape(row, message))
                if not is_usual:
                    masked[row] = message.crc32c
                    self._take(row, message)
            dtype, shape = known[told]
            self.dtypes.append(dtype)
            self.shapes.append(shape)
        self.crc = unmask(masked)

    def _message(self, row: int, value: bytes) -> BundleEntryProto:
        try:
            return BundleEntryProto.FromString(value)
        except DecodeError:
            what = f"the entry of {self.keys[row]!r} is no valid protobuf message"
            raise self.damaged(self.keys[row], what) from None

    def _shape(self, row: int, message: BundleEntryProto) -> tuple[int, ...]:
        shape = tuple(dimension.size for dimension in message.shape.dim)
        if message.shape.unknown_rank or (shape and min(shape) < 0):
            what = f"the entry of {self.keys[row]!r} has no definite shape"
            raise self.damaged(self.keys[row], what)
        return shape

    def _take(self, row: int, message: BundleEntryProto) -> None:
        """Take over the numbers of an entry that protobuf has decoded."""
        self.shard[row], self.offset[row], self.size[row] = (
            message.shard_id,
            message.offset,
            message.size,
        )
        if message.slices:
            self.slices[row] = tuple(map(extents_of, message.slices))

    def damaged(self, key: bytes, what: str) -> DamagedError:
        """Return the error that something is wrong with the entry of a key, at its block."""
        return DamagedError(self.path, what, offset=self._table.block_of(key))

    def unsupported(self, key: bytes, what: str) -> UnsupportedError:
        """Return the error that an entry is of a kind that is not read, at its block."""
        return UnsupportedError(self.path, what, offset=self._table.block_of(key))

    @cached_property
    def pieces(self) -> dict[tuple[int, Extents], int]:
        """The rows of the slices of partitioned variables, by the variable's row and extents.

        Whatever looks like a slice's key and no entry claims is a name like any other.
        """
        if not self.slices:
            return {}
        rows = {key: row for row, key in enumerate(self.keys)}
        keys = {
            (row, extents): slice_key(self.keys[row], extents)
            for row, slices in self.slices.items()
            for extents in slices
        }
        return {piece: rows[key] for piece, key in keys.items() if key in rows}

    def piece(self, row: int, extents: Extents, box: Box) -> int:
        """Return the row of one slice of a partitioned variable.

        Raises ValueError where it is not there, or has another shape or type than it should.
        """
        piece = self.pieces.get((row, extents))
        if piece is None:
            raise ValueError(f"its slice at {box.starts} is not in the index")
        if (self.shapes[piece], self.dtypes[piece]) != (box.sizes, self.dtypes[row]):
            raise ValueError(f"its slice at {box.starts} has another shape or type")
        return piece

    def in_file_order(self, rows: Iterable[int]) -> NDArray[np.int64]:
        """Return rows in the order in which their tensors lie in the data files."""
        at = np.fromiter(rows, np.int64)
        return at[np.lexsort((self.offset[at], self.shard[at]))]

    def entry(self, row: int) -> Entry:
        """Return the entry of a row."""
        columns = (self.shard, self.offset, self.size, self.crc)
        shard, offset, size, crc = (column[row].item() for column in columns)
        slices = self.slices.get(row, ())
        return Entry(self.dtypes[row], self.shapes[row], shard, offset, size, crc, slices)

    def ends(self) -> list[tuple[int, int]]:
        """Return for each data file that any tensor is in how long it must be at least."""
        whole = (self.offset >= 0) & (self.size >= 0)  # else it is told when it is read
        whole[list(self.slices)] = False
        shards = self.shard[whole]
        if not len(shards):
            return []
        order = np.argsort(shards, kind="stable")
        shards = shards[order]
        firsts = np.flatnonzero(np.diff(shards, prepend=shards[0] - 1))
        # Unsigned, since the sum of two int64 may take a bit more.
        ends = (self.offset.view("u8") + self.size.view("u8"))[whole][order]
        return list(
            zip(shards[firsts].tolist(), np.maximum.reduceat(ends, firsts).tolist(), strict=True)
        )


def _columns(
    values: Sequence[bytes],
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], ...], NDArray[np.bool_]]:
    """Decode many BundleEntryProtos at once, as far as they are what TensorFlow writes.

    Returns the bytes that dtype and shape take at the start of each; shard, offset, size and
    checksum; and which of them are decoded so: fields in their order, each once, no others. What is
    not (slices, above all) is for protobuf to decode.
    """
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    ends = np.cumsum(lengths)
    fields = _Fields(np.frombuffer(b"".join(values) + bytes(_PADDING), np.uint8), ends - lengths)
    fields.varint(_DTYPE)
    fields.skip(_SHAPE)
    heads = fields.at - (ends - lengths)
    shard = fields.varint(_SHARD)
    numbers = (shard, fields.varint(_OFFSET), fields.varint(_SIZE), fields.fixed32(_CRC))
    return heads, numbers, fields.usual & (fields.at == ends) & (shard < 1 << 31)


class _Fields:
    """Many messages in one buffer, read field by field; `at` is where each of them is read next."""

    def __init__(self, data: NDArray[np.uint8], at: NDArray[np.int64]) -> None:
        self._data = data
        self.at = at
        self.usual = np.ones(len(at), np.bool_)

    def varint(self, tag: int) -> NDArray[np.int64]:
        """Read a number below 2**63, 0 where a message has no such field."""
        there = self._data[self.at] == tag
        place = self.at + 1
        value = np.zeros(len(place), np.int64)
        more = there
        for shift in range(0, 63, 7):
            byte = self._data[place].astype(np.int64)
            value |= np.where(more, (byte & 0x7F) << shift, 0)
            place += more
            more = more & (byte >= 0x80)
            if not more.any():
                break
        self.usual &= ~more
        self.at = np.where(there, place, self.at)
        return value

    def skip(self, tag: int) -> None:
        """Pass over a field whose length is one byte."""
        there = self._data[self.at] == tag
        length = self._data[self.at + 1].astype(np.int64)
        self.usual &= ~there | (length < 0x80)
        self.at = np.where(there, self.at + 2 + (length & 0x7F), self.at)

    def fixed32(self, tag: int) -> NDArray[np.int64]:
        """Read a number of four bytes, 0 where a message has no such field."""
        there = self._data[self.at] == tag
        value = np.zeros(len(there), np.int64)
        for byte in range(4):
            value |= self._data[self.at + 1 + byte].astype(np.int64) << 8 * byte
        self.at = np.where(there, self.at + 5, self.at)
        return np.where(there, value, 0)
