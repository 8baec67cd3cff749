"""Reading one checkpoint of a run that may still be going on.

A training job writes and deletes checkpoints while they are read. What vanishes, or is not finished
yet, is no defect; what cannot be read although nobody has touched it for a while is one.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.batchnorm.names import Kind
from bncheck.changes.weights import in_batches
from bncheck.checkpoint import open_location
from bncheck.checkpoint.checksums import crc32c
from bncheck.checkpoint.model import Checkpoint, Checksum, Values
from bncheck.errors import BncheckError
from bncheck.history.find import files_of
from bncheck.snapshot import Groups, Snapshot, take_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bncheck.checkpoint.location import Location

_TRIES: Final = 4
_PAUSE: Final = 0.1  # seconds before the second try; twice as many before each further one
_UNTOUCHED: Final = 60.0  # seconds after which a file counts as finished


class Failure(NamedTuple):
    """A checkpoint that was not read: `passing` says that it is no defect."""

    path: str
    what: str
    reason: str
    passing: bool


class Digest(Checkpoint):
    """What is left of a checkpoint that was read: its variables, and the weights' checksums."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.path = checkpoint.path
        self.format = checkpoint.format
        self.shards = checkpoint.shards
        self.variables = checkpoint.variables
        self.structure = checkpoint.structure
        self.remarks = checkpoint.remarks
        self.checksums: dict[str, Checksum] = {}

    def checksum(self, name: str) -> Checksum | None:
        """Return the checksum of a weight, None of any other variable."""
        return self.checksums.get(name)

    def read(self, names: Iterable[str]) -> Values:
        """Say of each variable that it was not kept."""
        return Values(unread=dict.fromkeys(names, "only its checksum was kept"))


class Reader:
    """Reads the checkpoints of one run, whose layers mostly are the same."""

    def __init__(self) -> None:
        self._groups = Groups()

    def read(self, location: Location) -> Snapshot | Failure:
        """Read a checkpoint once; again only where it changed meanwhile, or was not finished."""
        failure = Failure(location.prefix, location.prefix, "", passing=True)
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE * 2 ** (attempt - 1))
            before = _state(location)
            if before is None:
                return failure._replace(reason="it was deleted", passing=True)
            outcome = self._once(location)
            if isinstance(outcome, Snapshot) and _state(location) == before:
                return outcome
            if isinstance(outcome, Failure):
                failure = outcome
                if before.age > _UNTOUCHED and _state(location) == before:
                    return outcome
        if _state(location) is None:
            return failure._replace(reason="it was deleted", passing=True)
        return failure._replace(reason="it was still being written", passing=True)

    def _once(self, location: Location) -> Snapshot | Failure:
        path = location.prefix
        try:
            checkpoint = open_location(location)
            snapshot = take_snapshot(checkpoint, groups=self._groups)
            unread = dict(snapshot.unread)
            digest = Digest(checkpoint)
            snapshot = snapshot.of_checkpoint(digest)
            digest.checksums |= _checksums(checkpoint, snapshot, unread)
        except BncheckError as error:
            return Failure(path, error.path, error.reason, passing=False)
        if not checkpoint.variables:
            return Failure(path, path, "holds no variables at all", passing=False)
        for what, reason in unread.items():
            return Failure(path, f"{path}: {what}", reason, passing=False)
        return snapshot


class _State(NamedTuple):
    """The files of a checkpoint as they are now: sizes, times of change, and `age` in seconds."""

    files: tuple[tuple[str, int, int], ...]

    @property
    def age(self) -> float:
        return time.time() - max(changed for _, _, changed in self.files) / 1e9


def _state(location: Location) -> _State | None:
    """Return the state of a checkpoint's files, None where they are gone."""
    found = []
    for path in files_of(location):
        try:
            status = os.stat(path)
        except OSError:  # gone since it was listed
            continue
        found.append((path, status.st_size, status.st_mtime_ns))
    return _State(tuple(found)) if found else None


def _checksums(
    checkpoint: Checkpoint, snapshot: Snapshot, unread: dict[str, str]
) -> Iterator[tuple[str, Checksum]]:
    """Yield a checksum of every weight: the stored one, else that of the values, read in turn."""
    left = []
    for name, kind in snapshot.others.items():
        if kind not in (Kind.WEIGHT, Kind.SHADOW):
            continue
        stored = checkpoint.checksum(name)
        if stored is None:
            left.append(checkpoint.variables[name])
        else:
            yield name, stored
    for batch in in_batches(left):
        values = checkpoint.read(batch)
        unread |= values.unread
        for name, array in values.arrays.items():
            strings = array.dtype.hasobject
            data = b"\0".join(array.reshape(-1)) if strings else array.tobytes()
            yield name, Checksum((), (crc32c(data),))
