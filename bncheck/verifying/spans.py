"""Checksums of many parts of a file: streaming, by several threads, and without reading holes.

Reading and CRC32C both run outside of Python's lock, so that threads are enough. Whatever the size
of the file, each of them holds one chunk.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple

import google_crc32c

from bncheck.checkpoint.files import READS_IN_PARALLEL
from bncheck.errors import BncheckError
from bncheck.parallel import processors
from bncheck.verifying.crc import CRC32, CRC32C, combine, of_zeros

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bncheck.checkpoint.files import RegularFile

_CHUNK: Final = 1 << 20  # bytes that are read at once
_TASK: Final = 1 << 24  # bytes that a thread takes on
_TASKS_AT_ONCE: Final = 256


class Span(NamedTuple):
    """Some bytes of a file."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The first byte behind them."""
        return self.start + self.size


class Kind(NamedTuple):
    """A CRC: its polynomial, and what adds bytes to one."""

    polynomial: int
    extend: Callable[[int, bytes], int]


CASTAGNOLI: Final = Kind(CRC32C, google_crc32c.extend)
ZIP: Final = Kind(CRC32, lambda crc, data: zlib.crc32(data, crc))

Advance = Callable[[int], None]
"""Takes the number of bytes that are done."""

Started = Callable[[int], Advance]
"""Takes the number of bytes that there are to do."""


class _Task(NamedTuple):
    """What a thread takes on at once: short spans, or a piece of a long one, perhaps in a hole."""

    number: int
    spans: Sequence[Span]
    hole: bool = False


def checksums(
    file: RegularFile, spans: Sequence[Span], kind: Kind, advance: Advance
) -> list[int | BncheckError]:
    """Return the CRC of each span, or what kept it from being read.

    The spans lie within the file, in ascending order, and share no bytes.
    """
    found: list[int | BncheckError] = []
    for task, crcs in _done(file, _tasks(file, spans), kind):
        if task.number < len(found):
            found[-1] = _joined(found[-1], crcs[0], task.spans[0].size, kind)
        else:
            found += crcs
        advance(sum(span.size for span in task.spans))
    return found


def _done(
    file: RegularFile, tasks: Iterator[_Task], kind: Kind
) -> Iterator[tuple[_Task, list[int | BncheckError]]]:
    """Yield each task with its CRCs, in their order; a single one needs no threads."""
    batch = list(islice(tasks, _TASKS_AT_ONCE))
    if len(batch) < 2 or not READS_IN_PARALLEL:
        for task in chain(batch, tasks):
            yield task, _crcs(file, task, kind)
        return
    with ThreadPoolExecutor(processors()) as pool:
        while batch:
            results = pool.map(lambda task: _crcs(file, task, kind), batch)
            yield from zip(batch, results, strict=True)
            batch = list(islice(tasks, _TASKS_AT_ONCE))


def _joined(
    first: int | BncheckError, second: int | BncheckError, size: int, kind: Kind
) -> int | BncheckError:
    """Join the CRCs of two pieces of one span."""
    if isinstance(first, BncheckError):
        return first
    return combine(first, second, size, kind.polynomial) if isinstance(second, int) else second


def _tasks(file: RegularFile, spans: Sequence[Span]) -> Iterator[_Task]:
    first = size = 0
    for number, span in enumerate(spans):
        if size and size + span.size > _TASK:
            yield _Task(first, spans[first:number])
            first, size = number, 0
        if span.size > _TASK:
            if first < number:
                yield _Task(first, spans[first:number])
            yield from (_Task(number, [piece], hole) for piece, hole in _pieces(file, span))
            first, size = number + 1, 0
        else:
            size += span.size
    if first < len(spans):
        yield _Task(first, spans[first:])


def _pieces(file: RegularFile, span: Span) -> Iterator[tuple[Span, bool]]:
    """Yield a long span in pieces, and whether each of them lies in a hole of the file."""
    start = span.start
    while start < span.end:
        data, hole = file.stored_from(start)
        end = min(data, span.end) if data > start else min(start + _TASK, hole, span.end)
        yield Span(start, end - start), data > start
        start = end


def _crcs(file: RegularFile, task: _Task, kind: Kind) -> list[int | BncheckError]:
    if task.hole:
        return [of_zeros(task.spans[0].size, kind.polynomial)]
    found: list[int | BncheckError] = []
    for group in _touching(task.spans):
        start = group[0].start
        try:
            if len(group) == 1:
                found.append(_streamed(file, group[0], kind))
                continue
            data = file.read(start, group[-1].end - start, "tensors")
            found += [kind.extend(0, data[at - start : at - start + n]) for at, n in group]
        except BncheckError as error:
            found += [error] * len(group)
    return found


def _touching(spans: Sequence[Span]) -> Iterator[Sequence[Span]]:
    """Yield spans that are read at once: they touch, and are no longer than a chunk together."""
    first = 0
    end = -1
    for number, (start, size) in enumerate(spans):
        if number > first and (start != end or start + size - spans[first].start > _CHUNK):
            yield spans[first:number]
            first = number
        end = start + size
    if first < len(spans):
        yield spans[first:]


def _streamed(file: RegularFile, span: Span, kind: Kind) -> int:
    crc = 0
    for start in range(span.start, span.end, _CHUNK):
        data = file.read(start, min(_CHUNK, span.end - start), "a tensor")
        crc = kind.extend(crc, data)
    return crc


def is_zero(file: RegularFile, span: Span) -> bool:
    """Whether all bytes of a span are 0; holes are, unread."""
    start = span.start
    while start < span.end:
        data, hole = file.stored_from(start)
        start = max(start, data)
        end = min(hole, span.end, start + _CHUNK)
        if start < end and file.read(start, end - start, "a gap").strip(b"\0"):
            return False
        start = max(start, end)
    return True
