"""The data files of a V2 checkpoint, `PREFIX.data-SSSSS-of-NNNNN`: the bytes of its tensors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import numpy as np

from bncheck.checkpoint.files import RegularFile
from bncheck.errors import BncheckError, DamagedError, NotFoundError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bncheck.checkpoint.bundle_index import BundleIndex

_MOST_OPEN: Final = 64  # data files at once; a process may have few descriptors
_LONGEST_RUN: Final = 1 << 20  # bytes that are read at once


def data_path(prefix: str, shard: int, count: int) -> str:
    """Return the path of one of so many data files."""
    return f"{prefix}.data-{shard:05d}-of-{count:05d}"


def open_shard(path: str) -> RegularFile:
    """Open a data file; NotFoundError where it is missing, else as RegularFile."""
    if not os.path.lexists(path):
        raise NotFoundError(path, "this data file is missing", remedy="Copy it beside the index.")
    return RegularFile(path)


class Shards:
    """The data files of one bundle, opened as they are needed, the last ones kept open."""

    def __init__(self, prefix: str, index: BundleIndex) -> None:
        self._prefix = prefix
        self._index = index
        self._open: dict[int, RegularFile] = {}
        self._broken: dict[int, BncheckError] = {}
        self._bytes_read: dict[int, int] = {}

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def path(self, shard: int) -> str:
        """Return the path of a data file, whether it is there or not."""
        return data_path(self._prefix, shard, self._index.shards)

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Return a tensor's bytes; raises BncheckError where they are not there."""
        return self._read(shard, offset, size, "a tensor")

    def read_run(self, shard: int, offset: int, size: int) -> bytes | None:
        """Return the bytes of tensors that touch, None where they are not all there."""
        try:
            return self._read(shard, offset, size, "tensors")
        except BncheckError:
            return None  # each of them is read by itself, and says what is wrong with it

    def _read(self, shard: int, offset: int, size: int, what: str) -> bytes:
        file = self._file(shard)
        # Tensors do not share bytes. An index in which they do could ask for any amount of memory.
        total = self._bytes_read.get(shard, 0) + size
        if total > file.size >= offset + size:
            raise DamagedError(
                self._index.path, f"gives the bytes at {offset} of {file.path} to several tensors"
            )
        data = file.read(offset, size, what)
        self._bytes_read[shard] = total
        return data

    def check(self, shard: int, size: int) -> None:
        """Raise the error that keeps a shard from being read up to that size, if there is one."""
        file = self._file(shard)
        if file.size < size:
            file.read(size, 0, "the last tensor's end")

    def _file(self, shard: int) -> RegularFile:
        if not 0 <= shard < self._index.shards:
            raise DamagedError(
                self._index.path,
                f"says that data is in file {shard}, and counts {self._index.shards} files",
            )
        if shard in self._broken:
            raise self._broken[shard]
        if shard not in self._open:
            if len(self._open) == _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            try:
                self._open[shard] = open_shard(self.path(shard))
            except BncheckError as error:
                self._broken[shard] = error
                raise
        return self._open[shard]


def runs(
    index: BundleIndex, rows: NDArray[np.int64], forms: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return where those rows, which are in the order of their places, begin to touch anew.

    The tensors of a run are of one form and one size, and not much longer together than what is
    read at once. A partitioned variable, which has no bytes of its own, is a run by itself.
    """
    shard, offset, size = index.shard[rows], index.offset[rows], index.size[rows]
    whole = (offset >= 0) & (size >= 0) & (size <= _LONGEST_RUN)
    if index.slices:
        whole &= ~np.isin(rows, list(index.slices))
    alike = (forms[1:] == forms[:-1]) & (size[1:] == size[:-1])
    touches = alike & (shard[1:] == shard[:-1]) & (offset[1:] == offset[:-1] + size[:-1])
    breaks = np.ones(len(rows), np.bool_)
    breaks[1:] = ~(touches & whole[1:] & whole[:-1])
    firsts = np.flatnonzero(breaks)
    if size[whole].sum() > _LONGEST_RUN:
        behind = offset - np.repeat(offset[firsts], np.diff(firsts, append=len(rows)))
        breaks[1:] |= behind[1:] // _LONGEST_RUN != behind[:-1] // _LONGEST_RUN
        firsts = np.flatnonzero(breaks)
    return firsts
