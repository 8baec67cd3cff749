"""The baseline: what was known when it was written passes, what is new does not.

A finding is known by its fingerprint (the rule, the layer, the roles) and its checkpoint's path.
The path counts as it is; a checkpoint that moved, or that has another step's number, is recognised
by its name and that of its directory, numbers apart.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bncheck.errors import DamagedError, NotFoundError
from bncheck.report.escape import encodable
from bncheck.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bncheck.report.gate_model import Audited

SCHEMA_VERSION: Final = 1
_LARGEST: Final = 64 << 20  # bytes
_DIGITS: Final = re.compile(r"\d+")


class Known(NamedTuple):
    """One finding of a baseline."""

    fingerprint: str
    rule: str
    layer: str
    checkpoint: str

    @property
    def text(self) -> str:
        """What a person is told of it."""
        about = f" in {self.layer}" if self.layer else ""
        return f"{self.rule}{about} ({self.checkpoint})"


class Baseline:
    """The findings of a baseline, each of which excuses one finding."""

    def __init__(self, known: Iterable[Known]) -> None:
        self._left = Counter(known)

    def claim(self, audited: Sequence[Audited]) -> set[tuple[int, int]]:
        """Return which findings are known, by the numbers of checkpoint and finding."""
        claimed: set[tuple[int, int]] = set()
        for exact in (True, False):
            places = Counter[tuple[str, str]]()
            for known, count in self._left.items():
                places[known.fingerprint, _place(known.checkpoint, exact=exact)] += count
            for number, each in enumerate(audited):
                place = _place(each.path, exact=exact)
                for at, print_ in enumerate(each.fingerprints):
                    if (number, at) not in claimed and places[print_, place]:
                        places[print_, place] -= 1
                        claimed.add((number, at))
                        self._take(print_, place, exact=exact)
        return claimed

    def gone(self) -> list[Known]:
        """Return what no finding claimed."""
        return sorted(self._left.elements(), key=lambda known: (known.checkpoint, known.rule))

    def _take(self, fingerprint: str, place: str, *, exact: bool) -> None:
        for known, count in self._left.items():
            if (
                count
                and known.fingerprint == fingerprint
                and _place(known.checkpoint, exact=exact) == place
            ):
                self._left[known] -= 1
                return


def _place(path: str, *, exact: bool) -> str:
    plain = encodable(path).replace("\\", "/").rstrip("/")
    if exact:
        return os.path.normpath(plain)
    return _DIGITS.sub("#", "/".join(plain.split("/")[-2:]))


def read_baseline(path: str) -> Baseline:
    """Read a baseline; raises NotFoundError or DamagedError where it is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise NotFoundError(path, f"cannot be read: {error.strerror}") from None
    try:
        content: Any = json.loads(data.decode("utf-8")) if len(data) <= _LARGEST else None
        if content["schema_version"] != SCHEMA_VERSION:
            raise DamagedError(
                path,
                f"is of version {content['schema_version']}",
                remedy="Is there a newer bncheck?",
            )
        return Baseline([_known(each) for each in content["findings"]])
    except (UnicodeError, ValueError, TypeError, KeyError, RecursionError):
        raise DamagedError(
            path, "is no baseline of bncheck", remedy="Write it anew with --write-baseline."
        ) from None


def _known(content: dict[str, Any]) -> Known:
    values = [content[key] for key in Known._fields]
    if not all(isinstance(value, str) for value in values):
        raise TypeError
    return Known(*values)


def write_baseline(audited: Iterable[Audited]) -> str:
    """Return the baseline of all findings that count, or are known already."""
    findings = [
        Known(fingerprint, finding.rule.code, finding.layer, each.path)
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
            for each in sorted(findings)
        ],
    }
    return json.dumps(content, indent=1) + "\n"
