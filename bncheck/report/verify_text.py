"""`bncheck verify` for a person: what was read, what is wrong with it and where, the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bncheck.report.escape import escape, escape_name
from bncheck.report.paper import FORMATS, LABEL, Paper
from bncheck.report.verify_model import Weight

if TYPE_CHECKING:
    from rich.console import Console

    from bncheck.report.verify_model import Problem, Verification, VerifiedFile

_STYLES: Final = {Weight.DAMAGED: "bold red", Weight.SUSPECT: "yellow", Weight.NOTE: "cyan"}
_SHOWN: Final = 50  # problems of one weight; the JSON report has all
_FILES_SHOWN: Final = 20


def print_verification(report: Verification, console: Console, *, quiet: bool) -> None:
    """Print the report on a console; `quiet` leaves the problems and the verdict."""
    paper = Paper(console)
    paper.field("checkpoint", escape(report.path))
    form = FORMATS.get(report.format, report.format)
    count = len(report.files)
    paper.field("", f"{form}, {count} file{'s' if count != 1 else ''}, {report.tensors} tensors")
    for remark in report.remarks:
        paper.field("", escape_name(remark))
    paper.line()
    if not quiet:
        _print_files(report, paper)
    for weight in sorted(Weight, reverse=True):
        _print_problems(weight, [p for p in report.problems if p.weight is weight], paper)
    counts = ", ".join(f"{report.count(weight)} {_WORDS[weight]}" for weight in _ORDER)
    paper.verdict(report.verdict, f"{counts}; {_coverage(report)}")


_ORDER: Final = tuple(sorted(Weight, reverse=True))
_WORDS: Final = {Weight.DAMAGED: "damaged", Weight.SUSPECT: "suspect", Weight.NOTE: "notes"}


def _coverage(report: Verification) -> str:
    return f"{report.checked:,} of {report.size:,} bytes have a checksum that holds"


def _print_files(report: Verification, paper: Paper) -> None:
    for file in report.files[:_FILES_SHOWN]:
        paper.field("file", f"{escape(file.path)}: {_told(file)}")
    more = len(report.files) - _FILES_SHOWN
    if more > 0:
        paper.field("", f"and {more} more")
    paper.line()


def _told(file: VerifiedFile) -> str:
    if not file.checked and file.unchecked:
        return f"{file.size:,} bytes; its format stores no checksums"
    if file.checked == file.size:
        return f"{file.size:,} bytes, all with a checksum that holds"
    return f"{file.size:,} bytes, {file.checked:,} of them with a checksum that holds"


def _print_problems(weight: Weight, problems: list[Problem], paper: Paper) -> None:
    for problem in problems[:_SHOWN]:
        place = "" if problem.offset is None else f" (byte {problem.offset})"
        body = f"  {escape(problem.path)}{place}: {_sentence(problem)}"
        paper.prose(str(weight), _STYLES[weight], body, 0)
    more = len(problems) - _SHOWN
    if more > 0:
        paper.prose("", "", f"and {more} more; --format json has them all", LABEL)
    if problems:
        paper.line()


def _sentence(problem: Problem) -> str:
    what = escape_name(problem.what)
    return f"{what}. {problem.remedy}" if problem.remedy else what
