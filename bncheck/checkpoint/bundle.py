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
from bncheck.records import records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from numpy.typing import NDArray

    from bncheck.checkpoint.bundle_index import Entry


class _Form(NamedTuple):
    """What a type and a shape come to: most variables share theirs with many others.

    `dtype` is None where elements are of no fixed size; `size` then means nothing. `plain` says
    that it is a vector, not an empty one, whose bytes are in the machine's own order.
    """

    number: int
    dtype: np.dtype[Any] | None
    elements: int
    size: int
    plain: bool


class _Forms(dict[tuple[str, tuple[int, ...]], _Form]):
    """The forms of a checkpoint in one order of bytes, each looked at once."""

    def __init__(self, *, big_endian: bool) -> None:
        super().__init__()
        self._big_endian = big_endian

    def __missing__(self, form: tuple[str, tuple[int, ...]]) -> _Form:
        name, shape = form
        dtype, elements = numpy_dtype(name), element_count(shape)
        size = 0 if dtype is None else elements * dtype.itemsize
        plain = dtype is not None and len(shape) == 1 and elements > 0 and not self._big_endian
        self[form] = _Form(len(self), dtype, elements, size, plain)
        return self[form]


class _Run(NamedTuple):
    """Tensors of one form that touch: where they are, and the stored CRC32C of each."""

    shard: int
    start: int
    size: int
    form: _Form
    names: list[str]
    crcs: list[int]


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
        self._forms = _Forms(big_endian=index.big_endian)
        names = list(map(decode_name, index.keys))
        self._rows = dict(zip(names, range(len(names)), strict=True))
        variables = records(Variable, names, index.dtypes, index.shapes)
        self.variables = dict(zip(names, variables, strict=True))
        for row in set(index.pieces.values()):
            del self._rows[names[row]], self.variables[names[row]]

    def read(self, names: Iterable[str]) -> Values:
        """Read the values of the named variables alone, in the order of the data files."""
        values = Values()
        named = {self._rows[name]: name for name in names}
        if named:
            rows = self._index.in_file_order(named)
            with Shards(self._prefix, self._index) as shards:
                for run in self._runs(rows, [named[row] for row in rows.tolist()]):
                    self._read_run(run, shards, values)
        return values

    def _runs(self, rows: NDArray[np.int64], names: list[str]) -> Iterator[_Run]:
        """Yield what touches, and can be read at once."""
        index = self._index
        asked = [self._forms[index.dtypes[row], index.shapes[row]] for row in rows.tolist()]
        numbers = np.array([form.number for form in asked])
        firsts = runs(index, rows, numbers)
        lasts = np.append(firsts[1:], len(rows)) - 1
        crcs = index.crc[rows].tolist()
        first_rows, last_rows = rows[firsts], rows[lasts]
        starts = index.offset[first_rows]
        sizes = index.offset[last_rows] + index.size[last_rows] - starts
        columns = (index.shard[first_rows], starts, sizes, firsts, lasts + 1)
        for shard, start, size, first, end in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            yield _Run(shard, start, size, asked[first], names[first:end], crcs[first:end])

    def _read_run(self, run: _Run, shards: Shards, values: Values) -> None:
        """Read tensors that touch: at once, and one by one only where something is unusual."""
        count, form, slices = len(run.names), run.form, self._index.slices
        # Nothing is read before its size is known to be right: a run of several is never long.
        plain = form.plain and run.size == count * form.size
        # What lists slices has its values there, whatever its own entry points to.
        plain = plain and not (slices and self._rows[run.names[0]] in slices)
        data = shards.read_run(run.shard, run.start, run.size) if plain or count > 1 else None
        if plain and data is not None and run.crcs == _crcs(data, count, form.size):
            together = np.ndarray((count, form.elements), form.dtype, data)
            # Asking an array for more rows than it has takes as long as making all of them.
            values.arrays.update(zip(run.names, together, strict=False))
            return
        for name in run.names:
            entry = self._index.entry(self._rows[name])
            at = entry.offset - run.start
            piece = None if data is None else data[at : at + entry.size]
            try:
                values.arrays[name] = self._value(name, entry, piece, shards)
            except BncheckError as error:
                values.unread[name] = str(error)
                values.broken_files.add(error.path)

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
        form = self._form_of(name, entry)
        if data is None:
            data = shards.read(entry.shard, entry.offset, entry.size)
        if form.dtype is None:
            try:
                strings = decode_strings(
                    data, form.elements, entry.crc, big_endian=self._index.big_endian
                )
            except ValueError as error:
                raise self._damaged(entry, shards, str(error)) from None
            return self._shaped(strings, name, entry)
        if crc32c(data) != entry.crc:
            raise self._damaged(entry, shards, "it fails its checksum")
        array = np.frombuffer(data, form.dtype)
        if self._index.big_endian:
            array = _swap_bytes(array)
        return self._shaped(array, name, entry)

    def _form_of(self, name: str, entry: Entry) -> _Form:
        """Return what an entry's type and shape come to, as far as values can be read of it."""
        form = self._forms[entry.dtype, entry.shape]
        if form.dtype is None and entry.dtype != "string":
            what = f"bncheck reads no values of type {entry.dtype}"
            raise self._index.unsupported(key_of(name), what)
        if form.dtype is not None and entry.size != form.size:
            raise self._index.damaged(
                key_of(name),
                f"gives {entry.size} bytes to {quoted(name)}, but {entry.dtype} of shape "
                f"{list(entry.shape)} takes {form.size}",
            )
        return form

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
            piece = self._index.entry(self._index.piece(self._rows[name], extents, box))
            parts.append((box, self._value(name, piece._replace(slices=()), None, shards)))
        return assemble(parts, entry.shape, parts[0][1].dtype)


def _crcs(data: bytes, count: int, size: int) -> list[int]:
    """Return the CRC32C of each of so many tensors of one size."""
    return [crc32c(data[at : at + size]) for at in range(0, count * size, size)]


def _swap_bytes(array: NDArray[Any]) -> NDArray[Any]:
    """Swap the bytes of each number; a complex number is two of them."""
    width = array.itemsize // 2 if array.dtype.kind == "c" else array.itemsize
    swapped: NDArray[Any] = array.view(f"u{width}").byteswap().view(array.dtype)
    return swapped
