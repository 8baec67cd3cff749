"""Every byte of a V2 checkpoint: the index's blocks, all tensors, and what is left of each file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import numpy as np

from bncheck.checkpoint.bundle_data import data_path, open_shard
from bncheck.checkpoint.bundle_index import BundleIndex
from bncheck.checkpoint.dtypes import numpy_dtype
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.location import DATA_FILE, glob_files
from bncheck.checkpoint.model import decode_name, element_count, key_of, quoted
from bncheck.checkpoint.object_graph import OBJECT_GRAPH
from bncheck.checkpoint.slices import check_coverage, check_overlaps, resolve
from bncheck.errors import COPY_AGAIN, BncheckError
from bncheck.report.verify_model import Found, Problem, VerifiedFile, Weight
from bncheck.verifying.accounting import gaps
from bncheck.verifying.spans import CASTAGNOLI, Span, checksums
from bncheck.verifying.string_tensors import check_strings
from bncheck.verifying.tables import verify_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bncheck.verifying.spans import Advance, Started

_STRING: Final = "string"
_NO_SIZE: Final = (1 << 63) - 1  # bytes; what takes more than any tensor has


def verify_bundle(prefix: str, started: Started) -> Found:
    """Verify the index and all data files of a V2 checkpoint.

    Raises BncheckError where the index is no table, or was written for a later reader.
    """
    with RegularFile(prefix + ".index") as file:
        found = verify_table(file)
    if found.is_damaged:
        return found  # nothing tells what else there is
    index = BundleIndex(prefix + ".index")
    check = _BundleCheck(prefix, index)
    check.run(started(check.size))
    return Found(
        [*found.problems, *check.problems],
        [*found.files, *check.files],
        check.tensors,
        "object-based" if key_of(OBJECT_GRAPH) in index.keys else "tensor-bundle",
    )


class _BundleCheck:
    """The verification of one bundle; `problems` and `files` fill as it goes."""

    def __init__(self, prefix: str, index: BundleIndex) -> None:
        self._prefix = prefix
        self._index = index
        self.problems: list[Problem] = []
        self.files: list[VerifiedFile] = []
        plain = np.ones(len(index.keys), np.bool_)
        plain[list(index.slices)] = False
        self._rows = np.flatnonzero(plain)
        self.tensors = len(self._rows)
        self._check_entries()
        self._check_slices()

    @property
    def size(self) -> int:
        """The bytes of tensors, which is what takes time."""
        return int(self._index.size[self._rows].clip(0).sum())

    def _name(self, row: int) -> str:
        return quoted(decode_name(self._index.keys[row]))

    def _blame_index(self, what: str) -> None:
        self.problems.append(Problem(Weight.DAMAGED, self._index.path, what, remedy=COPY_AGAIN))

    def _check_entries(self) -> None:
        """Check what entries say of themselves, and keep those whose bytes can be looked at."""
        index, rows = self._index, self._rows
        sizes = index.size[rows]
        misplaced = (index.offset[rows] < 0) | (sizes < 0)
        lost = (index.shard[rows] < 0) | (index.shard[rows] >= index.shards)
        expected = self._expected_sizes()
        for at in np.flatnonzero(misplaced | lost | ((expected != sizes) & (expected >= 0))):
            row = int(rows[at])
            if lost[at]:
                what = f"is in data file {index.shard[row]}, of {index.shards}"
            elif misplaced[at]:
                what = "has a negative place or size"
            else:
                form = f"{index.dtypes[row]} of shape {list(index.shapes[row])}"
                what = f"has {sizes[at]} bytes, which is not what {form} takes"
            self._blame_index(f"{self._name(row)} {what}")
        self._rows = rows[~(misplaced | lost)]

    def _expected_sizes(self) -> NDArray[np.int64]:
        """Return the bytes that each tensor takes by its type and shape, -1 where they vary."""
        known: dict[tuple[str, tuple[int, ...]], int] = {}
        index = self._index
        sizes = []
        for row in self._rows.tolist():
            form = index.dtypes[row], index.shapes[row]
            if form not in known:
                dtype = numpy_dtype(form[0])
                bytes_ = -1 if dtype is None else element_count(form[1]) * dtype.itemsize
                known[form] = min(bytes_, _NO_SIZE)
            sizes.append(known[form])
        return np.array(sizes, np.int64)

    def _check_slices(self) -> None:
        """Check that the slices of each partitioned variable are there and cover it once."""
        for row in self._index.slices:
            try:
                self._check_pieces(row)
            except ValueError as error:
                self._blame_index(f"{self._name(row)}: {error}")

    def _check_pieces(self, row: int) -> None:
        slices, shape = self._index.slices[row], self._index.shapes[row]
        boxes = [resolve(extents, shape) for extents in slices]
        check_coverage(boxes, shape)
        check_overlaps(boxes)
        for extents, box in zip(slices, boxes, strict=True):
            self._index.piece(row, extents, box)

    def run(self, advance: Advance) -> None:
        """Read every data file, and compare every checksum."""
        index = self._index
        order = np.lexsort(
            (index.size[self._rows], index.offset[self._rows], index.shard[self._rows])
        )
        rows = self._rows[order]
        there = {path: self._shard_of(path) for path in self._there()}
        shards = {*index.shard[rows].tolist(), *there.values()} - {None}
        for shard in sorted(shards):
            first, end = np.searchsorted(index.shard[rows], [shard, shard + 1])
            self._check_shard(shard, rows[first:end], advance)
        what = "is a data file that the index does not count"
        self.problems += [Problem(Weight.SUSPECT, p, what) for p in there if there[p] is None]
        if len(shards) < index.shards:
            what = (
                f"counts {index.shards} data files, of which {index.shards - len(shards)} are not "
                "there, and no tensor is in them"
            )
            self.problems.append(Problem(Weight.NOTE, index.path, what))

    def _there(self) -> list[str]:
        return [p for p in glob_files(self._prefix, ".data-*") if DATA_FILE.fullmatch(p)]

    def _shard_of(self, path: str) -> int | None:
        """Return the number of a data file that the index counts."""
        shard, count = int(path[-14:-9]), int(path[-5:])
        return shard if count == self._index.shards and shard < count else None

    def _check_shard(self, shard: int, rows: NDArray[np.int64], advance: Advance) -> None:
        path = data_path(self._prefix, shard, self._index.shards)
        try:
            with open_shard(path) as file:
                self._check_tensors(file, rows, advance)
        except BncheckError as error:
            what = f"{error.what}, so that {len(rows)} tensors are lost"
            self.problems.append(Problem(Weight.DAMAGED, path, what, remedy=error.remedy))
            advance(int(self._index.size[rows].sum()))

    def _check_tensors(self, file: RegularFile, rows: NDArray[np.int64], advance: Advance) -> None:
        index = self._index
        offsets, sizes = index.offset[rows], index.size[rows]
        inside = offsets <= file.size - sizes  # no sum: it may be beyond 64 bits
        for row in rows[~inside].tolist():
            self.problems.append(
                Problem(
                    Weight.DAMAGED,
                    file.path,
                    f"ends at byte {file.size}, before the end of {self._name(row)}",
                    int(index.offset[row]),
                    int(index.size[row]),
                    file.lfs_remedy() or "The copy is incomplete: copy the file again.",
                )
            )
        advance(int(sizes[~inside].sum()))
        cut = [Span(at, file.size - at) for at in offsets[~inside].tolist() if at < file.size]
        rows = rows[inside]
        spans = list(map(Span, offsets[inside].tolist(), sizes[inside].tolist()))
        rows, spans = self._without_overlaps(file, rows, spans)
        checked = self._check_values(file, rows, spans, advance)
        self.problems += gaps(file, sorted([*spans, *cut]), "the last tensor")
        self.files.append(VerifiedFile(file.path, file.size, checked))

    def _without_overlaps(
        self, file: RegularFile, rows: NDArray[np.int64], spans: list[Span]
    ) -> tuple[NDArray[np.int64], list[Span]]:
        """Leave out, and tell, tensors that begin before the one in front of them has ended."""
        kept: list[int] = []
        end = 0
        for at, span in enumerate(spans):
            if span.size and span.start < end:
                self.problems.append(
                    Problem(
                        Weight.DAMAGED,
                        self._index.path,
                        f"gives bytes of {os.path.basename(file.path)} to "
                        f"{self._name(int(rows[at]))} that belong to another tensor",
                        remedy=COPY_AGAIN,
                    )
                )
            else:
                kept.append(at)
                end = max(end, span.end)
        return rows[kept], [spans[at] for at in kept]

    def _check_values(
        self,
        file: RegularFile,
        rows: NDArray[np.int64],
        spans: Sequence[Span],
        advance: Advance,
    ) -> int:
        """Compare the checksums, and return how many bytes they hold for."""
        index = self._index
        kept = rows.tolist()
        strings = [at for at, row in enumerate(kept) if index.dtypes[row] == _STRING]
        # A string tensor's checksum is over its lengths in another form than they are stored in.
        apart = set(strings)
        numbers = [at for at in range(len(kept)) if at not in apart]
        found = checksums(file, [spans[at] for at in numbers], CASTAGNOLI, advance)
        stored = index.crc[rows].tolist()
        wrong = {at: crc for at, crc in zip(numbers, found, strict=True) if crc != stored[at]}
        for at in strings:
            problem = self._check_strings(file, int(rows[at]), spans[at])
            if problem is not None:
                wrong[at] = problem
            advance(spans[at].size)
        for at, crc in sorted(wrong.items()):
            what = crc.what if isinstance(crc, BncheckError) else "it fails its checksum"
            self.problems.append(
                Problem(
                    Weight.DAMAGED,
                    file.path,
                    f"{self._name(int(rows[at]))}: {what}",
                    spans[at].start,
                    spans[at].size,
                    COPY_AGAIN,
                )
            )
        return sum(span.size for span in spans) - sum(spans[at].size for at in wrong)

    def _check_strings(self, file: RegularFile, row: int, span: Span) -> BncheckError | None:
        count, crc = element_count(self._index.shapes[row]), int(self._index.crc[row])
        try:
            check_strings(file, span, count, crc, big_endian=self._index.big_endian)
        except BncheckError as error:
            return error
        return None
