"""`bncheck verify` for a person: what was read, what is wrong with it and where, the verdict."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from bncheck.report.escape import escape, escape_name
from bncheck.report.model import Verdict
from bncheck.report.paper import FORMATS, LABEL, Paper
from bncheck.report.verify_model import Weight

if TYPE_CHECKING:
    from rich.console import Console

    from bncheck.report.verify_model import Problem, Verification, VerifiedFile

_STYLES: Final = {Weight.DAMAGED: "bold red", Weight.SUSPECT: "yellow", Weight.NOTE: "cyan"}
_VERDICTS: Final = {
    Verdict.PASS: ("WHOLE", "bold green"),
    Verdict.FAIL: ("SUSPECT", "bold yellow"),
    Verdict.NOT_AUDITED: ("DAMAGED", "bold red"),
}
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
    notes = report.count(Weight.NOTE)
    counts = (
        f"{report.count(Weight.DAMAGED)} damaged, {report.count(Weight.SUSPECT)} suspect, "
        f"{notes} note{'s' if notes != 1 else ''}"
    )
    word, style = _VERDICTS[report.verdict]
    paper.lines(
        [((word, style), (f": {counts}; {report.checked:,} of {report.size:,} bytes checked", ""))]
    )


def _print_files(report: Verification, paper: Paper) -> None:
    files = report.files[:_FILES_SHOWN]
    sizes = [f"{file.size:,}" for file in files]
    told = [_told(file) for file in files]
    directory = os.path.join(os.path.dirname(report.path), "")
    for file, size, what in zip(files, sizes, told, strict=True):
        padded = f"{size:>{max(map(len, sizes))}} bytes  {what:<{max(map(len, told))}}"
        paper.line(f"  {padded}  {escape(file.path.removeprefix(directory))}")
    more = len(report.files) - _FILES_SHOWN
    if more > 0:
        paper.line(f"  and {more} more files")
    paper.line()


def _told(file: VerifiedFile) -> str:
    if file.checked == file.size:
        return "all checked"
    return f"{file.checked:,} checked" if file.checked else "no checksums"


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
