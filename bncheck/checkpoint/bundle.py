"""V2 checkpoints: a TensorBundle, `PREFIX.index` beside `PREFIX.data-SSSSS-of-NNNNN`.

Read as BundleReader in tensorflow/core/util/tensor_bundle/tensor_bundle.cc does: the index maps
each name to a BundleEntryProto, which says where in which data file the bytes are and what their
CRC32C is.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from bncheck.checkpoint.checksums import masked_crc32c
from bncheck.checkpoint.dtypes import dtype_name, numpy_dtype
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.model import (
    Checkpoint,
    Checksum,
    Values,
    Variable,
    decode_name,
    element_count,
)
from bncheck.checkpoint.ordered_code import slice_key
from bncheck.checkpoint.slices import Extents, assemble, check_coverage, extents_of, resolve
from bncheck.checkpoint.strings import decode_strings
from bncheck.checkpoint.table import Table
from bncheck.errors import BncheckError, DamagedError, NotFoundError, UnsupportedError
from bncheck.proto.tensors_pb2 import BundleEntryProto, BundleHeaderProto

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import NDArray

_M = TypeVar("_M", bound=Message)

_MOST_OPEN = 64  # data files at once; a process may have few descriptors
_READER_VERSION = 1  # kTensorBundleVersion: what this reader understands


class _Entry(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[Extents, ...]


class TensorBundle(Checkpoint):
    """A V2 checkpoint, opened by its prefix; only the index is read until values are asked for.

    `path` is what a person calls it, where that is not the prefix. Raises NotFoundError where
    `PREFIX.index` is absent, DamagedError where it breaks its format, and UnsupportedError where it
    was written for a later reader.
    """

    format = "tensor-bundle"

    def __init__(self, prefix: str, path: str | None = None) -> None:
        self.path = prefix if path is None else path
        self._prefix = prefix
        self._index = prefix + ".index"
        self._entries: dict[str, _Entry] = {}
        self._slices: dict[bytes, _Entry] = {}
        with RegularFile(self._index) as file:
            self._read_index(Table(file))
        self.variables = {
            name: Variable(name, entry.dtype, entry.shape) for name, entry in self._entries.items()
        }

    def _read_index(self, table: Table) -> None:
        entries = table.scan()
        key, value = next(entries, (None, b""))
        if key != b"":
            raise DamagedError(self._index, "has no header entry, so it is no checkpoint index")
        self._read_header(self._parse(BundleHeaderProto(), value, b""))
        # Slice keys sort before all names; whatever of them no entry claims below is a name like
        # any other.
        by_key = {key: self._entry(key, value) for key, value in entries}
        for key, entry in by_key.items():
            for extents in entry.slices:
                piece = slice_key(key, extents)
                if piece in by_key:
                    self._slices[piece] = by_key[piece]
        for key, entry in by_key.items():
            if key not in self._slices:
                self._entries[decode_name(key)] = entry

    def _read_header(self, header: BundleHeaderProto) -> None:
        version = header.version
        if (
            version.min_consumer > _READER_VERSION
            or _READER_VERSION in version.bad_consumers
            or version.producer < 0
        ):
            raise UnsupportedError(
                self._index,
                f"is of bundle version {version.producer}, "
                f"for readers of version {version.min_consumer} or later",
                remedy="Is there a newer bncheck?",
            )
        if header.endianness not in (0, 1):
            raise DamagedError(self._index, f"names the unknown byte order {header.endianness}")
        self._big_endian = header.endianness == 1
        self.shards = header.num_shards

    def _parse(self, message: _M, value: bytes, key: bytes) -> _M:
        try:
            message.ParseFromString(value)
        except DecodeError:
            what = f"the entry of {key!r}" if key else "the header"
            raise DamagedError(self._index, f"{what} is no valid protobuf message") from None
        return message

    def _entry(self, key: bytes, value: bytes) -> _Entry:
        message = self._parse(BundleEntryProto(), value, key)
        shape_message, slices = message.shape, message.slices
        shape = tuple([dimension.size for dimension in shape_message.dim])
        if shape_message.unknown_rank or (shape and min(shape) < 0):
            raise DamagedError(self._index, f"the entry of {key!r} has no definite shape")
        # Positional: with an optimizer's slots there are thousands of entries in a checkpoint.
        return _Entry(
            dtype_name(message.dtype),
            shape,
            message.shard_id,
            message.offset,
            message.size,
            message.crc32c,
            tuple(map(extents_of, slices)) if slices else (),
        )

    def read(self, names: Iterable[str]) -> Values:
        """Read the values of the named variables alone, in the order of the data files."""
        values = Values()
        wanted = sorted(
            ((name, self._entries[name]) for name in names),
            key=lambda item: (item[1].shard, item[1].offset),
        )
        with _Shards(self._prefix, self.shards) as shards:
            for name, entry in wanted:
                try:
                    if entry.slices:
                        values.arrays[name] = self._read_slices(name, entry, shards)
                    else:
                        values.arrays[name] = self._read_entry(entry, shards)
                except BncheckError as error:
                    values.unread[name] = str(error)
                    values.broken_files.add(error.path)
                except ValueError as error:
                    values.unread[name] = f"{error}; the checkpoint is damaged"
        return values

    def checksum(self, name: str) -> Checksum | None:
        """Return the stored checksums of a variable's slices, None where a slice is missing."""
        entry = self._entries[name]
        key = name.encode("utf-8", "surrogateescape")
        pieces = [self._slices.get(slice_key(key, extents)) for extents in entry.slices]
        crcs = tuple(piece.crc for piece in pieces if piece) if pieces else (entry.crc,)
        if pieces and len(crcs) < len(pieces):
            return None
        return Checksum(entry.slices, crcs, native=self._big_endian == (sys.byteorder == "big"))

    def damaged_files(self) -> dict[str, str]:
        """Return the data files that are missing or too short, each with the reason."""
        ends: dict[int, int] = {}
        for entry in (*self._entries.values(), *self._slices.values()):
            if not entry.slices:
                ends[entry.shard] = max(ends.get(entry.shard, 0), entry.offset + entry.size)
        damaged = {}
        with _Shards(self._prefix, self.shards) as shards:
            for shard, end in sorted(ends.items()):
                try:
                    shards.check(shard, end)
                except BncheckError as error:
                    damaged[error.path] = error.reason
                except ValueError as error:
                    damaged[self._index] = f"{error}; the index is damaged"
        return damaged

    def _read_slices(self, name: str, entry: _Entry, shards: _Shards) -> NDArray[Any]:
        boxes = [resolve(extents, entry.shape) for extents in entry.slices]
        check_coverage(boxes, entry.shape)
        parts = []
        for extents, box in zip(entry.slices, boxes, strict=True):
            piece = self._slices.get(slice_key(name.encode("utf-8", "surrogateescape"), extents))
            if piece is None:
                raise ValueError(f"its slice at {box.starts} is not in the index")
            if piece.shape != box.sizes or piece.dtype != entry.dtype:
                raise ValueError(f"its slice at {box.starts} has another shape or type")
            parts.append((box, self._read_entry(piece, shards)))
        return assemble(parts, entry.shape, parts[0][1].dtype)

    def _read_entry(self, entry: _Entry, shards: _Shards) -> NDArray[Any]:
        dtype = numpy_dtype(entry.dtype)
        count = element_count(entry.shape)
        if dtype is None and entry.dtype != "string":
            raise ValueError(f"bncheck reads no values of type {entry.dtype}")
        if dtype is not None and entry.size != count * dtype.itemsize:
            raise ValueError(
                f"it is {entry.size} bytes long, but {entry.dtype} of shape {list(entry.shape)} "
                f"takes {count * dtype.itemsize}"
            )
        data = shards.read(entry)
        if dtype is None:
            strings = decode_strings(data, count, entry.crc, big_endian=self._big_endian)
            return strings.reshape(entry.shape)
        if masked_crc32c(data) != entry.crc:
            raise ValueError("it fails its checksum")
        array = np.frombuffer(data, dtype)
        if self._big_endian:
            array = _swap_bytes(array)
        return array.reshape(entry.shape)


class _Shards:
    """The data files of one bundle, opened as they are needed, the last ones kept open."""

    def __init__(self, prefix: str, count: int) -> None:
        self._prefix = prefix
        self._count = count
        self._open: dict[int, RegularFile] = {}
        self._broken: dict[int, BncheckError] = {}
        self._bytes_read: dict[int, int] = {}

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def read(self, entry: _Entry) -> bytes:
        file = self._file(entry.shard)
        # Tensors do not share bytes. An index in which they do could ask for any amount of memory.
        total = self._bytes_read.get(entry.shard, 0) + entry.size
        if entry.offset + entry.size <= file.size < total:
            raise ValueError("its bytes belong to other tensors, too")
        self._bytes_read[entry.shard] = total
        return file.read(entry.offset, entry.size, "a tensor")

    def check(self, shard: int, size: int) -> None:
        """Raise the error that keeps a shard from being read up to that size, if there is one."""
        file = self._file(shard)
        if file.size < size:
            file.read(size, 0, "the last tensor's end")

    def _file(self, shard: int) -> RegularFile:
        if not 0 <= shard < self._count:
            raise ValueError(f"its data is in file {shard}, but the index counts {self._count}")
        if shard in self._broken:
            raise self._broken[shard]
        if shard not in self._open:
            if len(self._open) == _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            try:
                self._open[shard] = self._opened(shard)
            except BncheckError as error:
                self._broken[shard] = error
                raise
        return self._open[shard]

    def _opened(self, shard: int) -> RegularFile:
        path = f"{self._prefix}.data-{shard:05d}-of-{self._count:05d}"
        if not os.path.lexists(path):
            raise NotFoundError(
                path, "this data file is missing", remedy="Copy it beside the index."
            )
        return RegularFile(path)


def _swap_bytes(array: NDArray[Any]) -> NDArray[Any]:
    """Swap the bytes of each number; a complex number is two of them."""
    width = array.itemsize // 2 if array.dtype.kind == "c" else array.itemsize
    swapped: NDArray[Any] = array.view(f"u{width}").byteswap().view(array.dtype)
    return swapped
