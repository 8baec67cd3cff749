"""The baseline: what was known when it was written passes, what is new does not.

A finding is known by its fingerprint (the rule, the layer, the roles) and its checkpoint, unless it
got worse. A checkpoint that moved, or that has another step's number, is recognised by its name
without numbers and that of its directory, if the one that is known is not audited, too.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, Final

from bncheck import limits
from bncheck.checkpoint.location import glob_files
from bncheck.errors import DamagedError, NotFoundError
from bncheck.report.escape import encodable
from bncheck.report.gate_model import Known
from bncheck.rules.rule import Level
from bncheck.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from bncheck.report.gate_model import Audited
    from bncheck.rules.rule import Finding

SCHEMA_VERSION: Final = 1
_LEVELS: Final = tuple(str(level) for level in Level)
_DIGITS: Final = re.compile(r"\d+")


class Baseline:
    """The findings of a baseline, each of which excuses one finding."""

    def __init__(self, known: Iterable[Known]) -> None:
        self._left: dict[tuple[str, str], list[Known]] = {}
        for each in known:
            self._left.setdefault((each.fingerprint, _exact(each.checkpoint)), []).append(each)

    def claim(self, audited: Sequence[Audited]) -> set[tuple[int, int]]:
        """Return which findings are known, by the numbers of checkpoint and finding."""
        claimed = set(self._claimed(audited, self._left, _exact, set()))
        here = {_exact(_place(each)) for each in audited}
        moved: dict[tuple[str, str], list[Known]] = {}
        for (fingerprint, place), known in self._left.items():
            if place not in here and known:
                # The same lists: what is claimed here is claimed there.
                moved.setdefault((fingerprint, _loose(place)), known)
        return claimed | set(self._claimed(audited, moved, _loose, claimed))

    def _claimed(
        self,
        audited: Sequence[Audited],
        left: Mapping[tuple[str, str], list[Known]],
        form: Callable[[str], str],
        done: set[tuple[int, int]],
    ) -> Iterator[tuple[int, int]]:
        for number, each in enumerate(audited):
            place = form(_place(each))
            for at, (finding, fingerprint) in enumerate(each.by_fingerprint()):
                known = left.get((fingerprint, place))
                if known and (number, at) not in done and not _is_worse(finding, known[-1]):
                    known.pop()
                    yield number, at

    def left(self) -> list[Known]:
        """Return what no finding claimed."""
        found = [each for known in self._left.values() for each in known]
        return sorted(found, key=lambda known: (known.checkpoint, known.rule, known.layer))

    def gone(self, audited: Sequence[Audited]) -> list[Known]:
        """Return what was looked for and not found: its checkpoint was audited, or is no more."""
        skipped = {_exact(_place(each)) for each in audited if each.skipped}
        here = {_exact(_place(each)) for each in audited}
        return [
            each
            for each in self.left()
            if (place := _exact(each.checkpoint)) not in skipped
            and (place in here or not glob_files(each.checkpoint, "*"))
        ]


def _is_worse(finding: Finding, known: Known) -> bool:
    return finding.level > Level[known.level.upper()]


def _place(each: Audited) -> str:
    return each.prefix or each.path


def _exact(path: str) -> str:
    """Return a path as seen from the working directory, whatever way it was spelled."""
    plain = encodable(path)
    return os.path.relpath(plain) if os.path.isabs(plain) else os.path.normpath(plain)


def _loose(path: str) -> str:
    directory, name = os.path.split(path)
    return f"{os.path.basename(directory)}/{_DIGITS.sub('#', name)}"


def read_baseline(path: str) -> Baseline:
    """Read a baseline; raises NotFoundError or DamagedError where it is none."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise NotFoundError(path, "is not a regular file")
    try:
        with open(path, "rb") as file:
            # A read of so many bytes takes as much memory, however short the file is.
            size = min(os.fstat(file.fileno()).st_size, limits.LARGEST_BASELINE)
            data = file.read(size + 1)
    except OSError as error:
        raise NotFoundError(path, f"cannot be read: {error.strerror}") from None
    try:
        content: Any = json.loads(data.decode("utf-8")) if len(data) <= size else None
        if content["schema_version"] != SCHEMA_VERSION:
            raise DamagedError(
                path,
                f"is of version {content['schema_version']}",
                remedy="Is there a newer bncheck?",
            )
        return Baseline([_known(each) for each in _list(content["findings"])])
    except (UnicodeError, ValueError, TypeError, KeyError, RecursionError):
        raise DamagedError(
            path, "is no baseline of bncheck", remedy="Write it anew with --write-baseline."
        ) from None


def _list(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise TypeError
    return content


def _known(content: dict[str, Any]) -> Known:
    values = [content[key] for key in Known._fields]
    if not all(isinstance(value, str) for value in values) or values[-1] not in _LEVELS:
        raise TypeError
    return Known(*values)


def write_baseline(audited: Iterable[Audited], kept: Iterable[Known] = ()) -> str:
    """Return the baseline of all findings that count, or are known already.

    `kept` are those of another baseline that still hold, as far as anybody knows.
    """
    findings = [
        Known(
            fingerprint, finding.rule.code, finding.layer, _exact(_place(each)), str(finding.level)
        )
        for each in audited
        for finding, fingerprint in (
            *each.by_fingerprint(),
            *((s.finding, s.fingerprint) for s in each.suppressed if s.by == "baseline"),
        )
    ]
    content = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "bncheck", "version": __version__},
        "findings": [
            {key: encodable(value) for key, value in each._asdict().items()}
            for each in sorted({*findings, *kept})
        ],
    }
    return json.dumps(content, indent=1) + "\n"
