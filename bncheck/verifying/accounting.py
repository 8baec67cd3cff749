"""What is left of a file when everything in it that has a name is taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.report.verify_model import Problem, Weight
from bncheck.verifying.spans import Span, is_zero

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bncheck.checkpoint.files import RegularFile


def gaps(file: RegularFile, spans: Iterable[Span], last: str) -> Iterator[Problem]:
    """Yield the bytes in front of, between and behind spans, which come in ascending order.

    Zeros in between are alignment, as BundleWriter::Options::data_alignment makes it; whatever else
    it is, nobody reads it.
    """
    end = 0
    for span in spans:
        if span.start > end:
            yield _gap(file, Span(end, span.start - end))
        end = max(end, span.end)
    if end < file.size:
        yield Problem(
            Weight.SUSPECT,
            file.path,
            f"has {file.size - end} bytes behind {last}",
            end,
            file.size - end,
            "Something appended to it, or it belongs to another checkpoint.",
        )


def _gap(file: RegularFile, gap: Span) -> Problem:
    if is_zero(file, gap):
        return Problem(
            Weight.NOTE, file.path, f"{gap.size} zeros belong to nothing", gap.start, gap.size
        )
    return Problem(
        Weight.SUSPECT,
        file.path,
        f"{gap.size} bytes belong to nothing, and are not zeros",
        gap.start,
        gap.size,
        "Were variables removed from it? What wrote it is not known.",
    )
