"""V2 checkpoints: a TensorBundle, `PREFIX.index` beside `PREFIX.data-SSSSS-of-NNNNN`.

The index says of each name where in which data file the bytes are, and what their CRC32C is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bncheck.checkpoint.bundle_data import Shards, runs
from bncheck.checkpoint.bundle_index import BundleIndex
from bncheck.checkpoint.checksums import crc32c
from bncheck.checkpoint.dtypes import numpy_dtype
from bncheck.checkpoint.model import (
    Checkpoint,
    Checksum,
    Values,
    Variable,
    decode_name,
    element_count,
    key_of,
    quoted,
)
from bncheck.checkpoint.slices import assemble, check_coverage, resolve
from bncheck.checkpoint.strings import decode_strings
from bncheck.errors import COPY_AGAIN, BncheckError, DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import NDArray

    from bncheck.checkpoint.bundle_index import Entry


class _Form(NamedTuple):
    """What a type and a shape come to: most variables share theirs with many others.

    `dtype` is None where elements are of no fixed size; `size` then means nothing.
    """

    dtype: np.dtype[Any] | None
    elements: int
    size: int


def _form(dtype: str, shape: tuple[int, ...]) -> _Form:
    known = numpy_dtype(dtype)
    elements = element_count(shape)
    return _Form(known, elements, 0 if known is None else elements * known.itemsize)


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
        self._index = index = BundleIndex(prefix + ".index")
        self.shards = index.shards
        self._forms: dict[tuple[str, tuple[int, ...]], _Form] = {}
        pieces = set(index.pieces.values())
        self._rows = {
            decode_name(key): row for row, key in enumerate(index.keys) if row not in pieces
        }
        self.variables = {
            name: Variable(name, index.dtypes[row], index.shapes[row])
            for name, row in self._rows.items()
        }

    def read(self, names: Iterable[str]) -> Values:
        """Read the values of the named variables alone, in the order of the data files."""
        values = Values()
        rows = {self._rows[name]: name for name in names}
        ordered = self._index.in_file_order(rows)
        wanted = zip([rows[row] for row in ordered], self._index.entries(ordered), strict=True)
        with Shards(self._prefix, self._index) as shards:
            for run in runs(wanted):
                data = shards.read_run(run) if len(run) > 1 else None
                start = run[0][1].offset
                for name, entry in run:
                    try:
                        at = entry.offset - start
                        piece = None if data is None else data[at : at + entry.size]
                        values.arrays[name] = self._value(name, entry, piece, shards)
                    except BncheckError as error:
                        values.unread[name] = str(error)
                        values.broken_files.add(error.path)
        return values

    def checksum(self, name: str) -> Checksum | None:
        """Return the stored checksums of a variable's slices, None where a slice is missing."""
        row = self._rows[name]
        slices = self._index.slices.get(row, ())
        rows = [self._index.pieces.get((row, extents), -1) for extents in slices] or [row]
        if min(rows) < 0:
            return None
        crcs = tuple(self._index.crc[rows].tolist())
        return Checksum(slices, crcs, native=self._index.big_endian == (sys.byteorder == "big"))

    def damaged_files(self) -> dict[str, str]:
        """Return the data files that are missing or too short, each with the reason."""
        damaged = {}
        with Shards(self._prefix, self._index) as shards:
            for shard, end in self._index.ends():
                try:
                    shards.check(shard, end)
                except BncheckError as error:
                    damaged[error.path] = error.reason
        return damaged

    def _value(self, name: str, entry: Entry, data: bytes | None, shards: Shards) -> NDArray[Any]:
        """Return the tensor that an entry stands for; `data` are its bytes if they were read."""
        if entry.slices:
            try:
                return self._assembled(name, entry, shards)
            except ValueError as error:
                raise self._index.damaged(key_of(name), f"{quoted(name)}: {error}") from None
        dtype, elements = self._form_of(name, entry)
        if data is None:
            data = shards.read(entry)
        if dtype is None:
            try:
                strings = decode_strings(
                    data, elements, entry.crc, big_endian=self._index.big_endian
                )
            except ValueError as error:
                raise self._damaged(entry, shards, str(error)) from None
            return self._shaped(strings, name, entry)
        if crc32c(data) != entry.crc:
            raise self._damaged(entry, shards, "it fails its checksum")
        array = np.frombuffer(data, dtype)
        if self._index.big_endian:
            array = _swap_bytes(array)
        return array if len(entry.shape) == 1 else self._shaped(array, name, entry)

    def _form_of(self, name: str, entry: Entry) -> tuple[np.dtype[Any] | None, int]:
        """Return an entry's NumPy type, None for strings, and how many elements it has."""
        form = entry.dtype, entry.shape
        if form not in self._forms:
            self._forms[form] = _form(*form)
        dtype, elements, size = self._forms[form]
        if dtype is None and entry.dtype != "string":
            what = f"bncheck reads no values of type {entry.dtype}"
            raise self._index.unsupported(key_of(name), what)
        if dtype is not None and entry.size != size:
            raise self._index.damaged(
                key_of(name),
                f"gives {entry.size} bytes to {quoted(name)}, but {entry.dtype} of shape "
                f"{list(entry.shape)} takes {size}",
            )
        return dtype, elements

    def _shaped(self, array: NDArray[Any], name: str, entry: Entry) -> NDArray[Any]:
        try:
            return array.reshape(entry.shape)
        except ValueError as error:  # there are shapes that NumPy does not have
            raise self._index.damaged(key_of(name), f"{quoted(name)}: {error}") from None

    def _damaged(self, entry: Entry, shards: Shards, what: str) -> DamagedError:
        return DamagedError(shards.path(entry.shard), what, offset=entry.offset, remedy=COPY_AGAIN)

    def _assembled(self, name: str, entry: Entry, shards: Shards) -> NDArray[Any]:
        boxes = [resolve(extents, entry.shape) for extents in entry.slices]
        check_coverage(boxes, entry.shape)
        parts = []
        for extents, box in zip(entry.slices, boxes, strict=True):
            (piece,) = self._index.entries([self._index.piece(self._rows[name], extents, box)])
            parts.append((box, self._value(name, piece._replace(slices=()), None, shards)))
        return assemble(parts, entry.shape, parts[0][1].dtype)


def _swap_bytes(array: NDArray[Any]) -> NDArray[Any]:
    """Swap the bytes of each number; a complex number is two of them."""
    width = array.itemsize // 2 if array.dtype.kind == "c" else array.itemsize
    swapped: NDArray[Any] = array.view(f"u{width}").byteswap().view(array.dtype)
    return swapped
