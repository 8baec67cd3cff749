"""What a fuzz target is, and the one call that every input goes through."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from bncheck.errors import BncheckError
from bncheck.report.escape import escape
from fuzz.watch import watched

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Raw = Callable[[bytes], bytes]
    Mutate = Callable[[bytes, Raw, random.Random], bytes]


class Depth(IntEnum):
    """How far an input goes: through the reader, the rules behind it, the reports behind these."""

    READ = 0
    AUDIT = 1
    REPORT = 2


@dataclass(frozen=True)
class Target:
    """One reader.

    `read` gives it an input in a directory that is there for this. `seeds` are inputs that are
    right. `mutate` changes an input and keeps its checksums and lengths right, most times, with
    `Raw` as the fuzzer's own mutation. `tokens` are words of the format. `longest` is in bytes.
    `reads_outside` says that a path in an input may be followed.
    """

    name: str
    read: Callable[[bytes, Path, Depth], None]
    seeds: Callable[[], Iterator[bytes]]
    mutate: Mutate | None = None
    tokens: tuple[str, ...] = ()
    longest: int = 1 << 16
    reads_outside: bool = False


def check(
    target: Target, data: bytes, directory: Path, depth: Depth = Depth.REPORT
) -> BncheckError | None:
    """Let a target read an input, and return bncheck's own error, if it said one.

    Whatever else comes out as an exception is a finding.
    """
    with watched(directory, reads_outside=target.reads_outside):
        try:
            target.read(data, directory, depth)
        except BncheckError as error:
            escape(str(error)).encode("utf-8")
            return error
    return None
