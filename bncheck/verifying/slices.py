"""Every byte of a V1 checkpoint: all blocks of its tables, and that every tensor is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bncheck.checkpoint.dtypes import numpy_dtype
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.model import element_count, quoted
from bncheck.checkpoint.table import Table
from bncheck.checkpoint.tensor_slices import TensorSlices
from bncheck.errors import COPY_AGAIN
from bncheck.report.verify_model import Found, Problem, VerifiedFile, Weight
from bncheck.verifying.tables import verify_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bncheck.checkpoint.model import Variable
    from bncheck.verifying.spans import Started

_AT_ONCE: Final = 1 << 26  # bytes of tensors that are decoded together


def verify_slices(path: str, files: Sequence[str], started: Started) -> Found:
    """Verify the table files of a V1 checkpoint.

    Raises BncheckError where one of them is absent, no table, or was written for a later reader.
    """
    problems: list[Problem] = []
    verified: list[VerifiedFile] = []
    tables = []
    for each in files:
        with RegularFile(each) as file:
            tables.append(file.size)
    advance = started(sum(tables))
    for each in files:
        with RegularFile(each) as file:
            found = verify_table(file, advance)
        problems += found.problems
        verified += found.files
    if Found(problems, verified).is_damaged:
        return Found(problems, verified)  # what is in a damaged block nobody can tell
    checkpoint = TensorSlices(path, files)
    for names in _batches(checkpoint.variables.values()):
        for name, reason in checkpoint.read(names).unread.items():
            what = f"{quoted(name)}: {reason}"
            problems.append(Problem(Weight.DAMAGED, path, what, remedy=COPY_AGAIN))
    problems += _unclaimed(checkpoint, files)
    return Found(problems, verified, len(checkpoint.variables))


def _batches(variables: Iterable[Variable]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for variable in variables:
        dtype = numpy_dtype(variable.dtype)
        batch.append(variable.name)
        size += element_count(variable.shape) * (1 if dtype is None else dtype.itemsize)
        if size > _AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _unclaimed(checkpoint: TensorSlices, files: Sequence[str]) -> Iterator[Problem]:
    """Yield the entries of each table that are no slice of any tensor."""
    for shard, path in enumerate(files):
        claimed = checkpoint.keys(shard) | {b""}
        with RegularFile(path) as file:
            for key, value in Table(file).scan():
                if key not in claimed:
                    what = f"has an entry of {len(value)} bytes that is no slice of any tensor"
                    yield Problem(Weight.SUSPECT, path, f"{what}: {key!r}")
