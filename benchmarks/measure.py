"""One run of one command, measured from outside: time and memory by the kernel, reads by strace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.cases import Command

_LAUNCH = Path(__file__).with_name("launch.py")
# What would make a start of Python slower than a user's, or change what bncheck does.
_UNWANTED = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
_READ_CALLS = "read,readv,pread64,preadv,preadv2,mmap"
_READ = re.compile(r"^(?:read|readv|pread64|preadv|preadv2)\(\d+<([^>]*)>.* = (\d+)$")
_MAPPED = re.compile(r"^mmap\(.*, \d+<([^>]*)>, \w+\) = 0x")
_DATA_FILE = re.compile(r"\.data-\d{5}-of-\d{5}$|\.h5$")


class CommandFailedError(Exception):
    """A command that did not end as its case says: its time would mean nothing."""


def environment() -> dict[str, str]:
    """Return the environment of all commands: this one, without what would slow down or change."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _UNWANTED and not name.startswith("BNCHECK_")
    }
    return kept | _TENSORFLOW


def run(command: Command, directory: Path) -> Sample:
    """Run a command in a directory; its standard output goes nowhere.

    The processor time is that of all its processes, the peak memory that of the largest one.
    Raises CommandFailedError where the exit code is not the one that the case expects.
    """
    with tempfile.TemporaryDirectory() as scratch:
        answer, complaints = Path(scratch, "answer"), Path(scratch, "complaints")
        subprocess.run(
            [sys.executable, "-I", "-S", _LAUNCH, answer, complaints, *command.arguments],
            cwd=directory,
            env=environment(),
            check=True,
        )
        wall, cpu, peak, code = answer.read_text("utf-8").split()
        if int(code) != command.exit_code:
            said = complaints.read_text("utf-8", "replace")[-2000:]
            raise CommandFailedError(
                f"{' '.join(command.arguments)}: exit code {code}, not {command.exit_code}\n{said}"
            )
    return Sample(float(wall), float(cpu), int(peak))


def count_reads(command: Command, directory: Path) -> int | None:
    """Run a command under strace, and return the bytes it read from data files below a directory.

    Returns None where strace is missing or forbidden, and where a data file is mapped into memory,
    whose reads strace does not see.
    """
    strace = shutil.which("strace")
    if strace is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        # A file for each thread: none is interrupted by another's lines.
        tracer = [strace, "-ff", "-o", f"{scratch}/trace", "-y", "-qq", "-s", "0"]
        tracer += ["-e", f"trace={_READ_CALLS}"]
        done = subprocess.run(
            [*tracer, *command.arguments],
            cwd=directory,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != command.exit_code:
            return None
        lines = (
            line
            for trace in Path(scratch).iterdir()
            for line in trace.read_text("utf-8", "replace").splitlines()
        )
        return bytes_read(lines, directory.resolve())


def bytes_read(trace: Iterable[str], directory: Path) -> int | None:
    """Sum what strace's lines say was read from data files; None where one was mapped."""
    total = 0
    for line in trace:
        if (match := _READ.match(line)) and _is_data(match[1], directory):
            total += int(match[2])
        elif (match := _MAPPED.match(line)) and _is_data(match[1], directory):
            return None
    return total


def _is_data(path: str, directory: Path) -> bool:
    return _DATA_FILE.search(path) is not None and Path(path).is_relative_to(directory)
