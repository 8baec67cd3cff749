"""Every byte of a table file: all blocks' checksums, and that the blocks follow each other."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from bncheck.checkpoint.checksums import mask
from bncheck.checkpoint.table import FOOTER_SIZE, TRAILER_SIZE, Table
from bncheck.errors import COPY_AGAIN, BncheckError
from bncheck.report.verify_model import Found, Problem, VerifiedFile, Weight
from bncheck.verifying.accounting import gaps
from bncheck.verifying.spans import CASTAGNOLI, Span, checksums

if TYPE_CHECKING:
    from bncheck.checkpoint.files import RegularFile
    from bncheck.verifying.spans import Advance

_CRC_SIZE = 4


def verify_table(file: RegularFile, advance: Advance = lambda _: None) -> Found:
    """Check every block of a table.

    Raises DamagedError where its footer or its index block is damaged.
    """
    table = Table(file)
    footer = Span(file.size - FOOTER_SIZE, FOOTER_SIZE)
    problems = []
    if not table.is_canonical:
        what = "has a footer that is not as any writer writes it"
        problems.append(Problem(Weight.SUSPECT, file.path, what, *footer))
    blocks = sorted(Span(*handle) for handle in (*table.blocks, table.metaindex, table.index))
    inside = []
    end = 0
    for block in blocks:
        whole = Span(block.start, block.size + TRAILER_SIZE)
        if whole.start < end or whole.end > footer.start:
            problems.append(_damaged(file, whole, "a block lies on another one, or in the footer"))
        else:
            inside.append(whole)
            end = whole.end
    checked = FOOTER_SIZE
    spans = [Span(block.start, block.size - _CRC_SIZE) for block in inside]
    for block, crc in zip(inside, checksums(file, spans, CASTAGNOLI, advance), strict=True):
        problem = _block_problem(file, block, crc)
        if problem is None:
            checked += block.size
        else:
            problems.append(problem)
    problems += gaps(file, [*inside, footer], "the footer")
    return Found(problems, [VerifiedFile(file.path, file.size, checked)])


def _block_problem(file: RegularFile, block: Span, crc: int | BncheckError) -> Problem | None:
    if isinstance(crc, BncheckError):
        return _damaged(file, block, crc.what)
    stored = file.read(block.end - _CRC_SIZE, _CRC_SIZE, "a block's checksum")
    if struct.unpack("<I", stored)[0] != mask(crc):
        return _damaged(file, block, "a block fails its checksum")
    return None


def _damaged(file: RegularFile, block: Span, what: str) -> Problem:
    return Problem(Weight.DAMAGED, file.path, what, block.start, block.size, COPY_AGAIN)
