"""Whether the files of a checkpoint stay as they are while it is read.

A checkpoint is opened in several steps, and most formats have no checksum over all of it: if
another one takes its place in between, what is read is a mixture of both, of which nothing need be
damaged.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from bncheck.errors import BncheckError, ChangedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_Identity = tuple[int, int, int, int]
_SEEN: ContextVar[dict[str, _Identity] | None] = ContextVar("files as they were seen", default=None)


def see(path: str, status: os.stat_result) -> None:
    """Remember a file that was opened; ChangedError where it is not as it was opened before."""
    seen = _SEEN.get()
    if seen is not None and seen.setdefault(path, _identity(status)) != _identity(status):
        raise _changed(path)


@contextmanager
def unchanged() -> Iterator[None]:
    """Raise ChangedError at the end if a file that was opened within is another one by then.

    What went wrong meanwhile, went wrong because of that. A file that is gone was read as it was.
    """
    if _SEEN.get() is not None:
        yield
        return
    seen: dict[str, _Identity] = {}
    token = _SEEN.set(seen)
    try:
        yield
    except BncheckError:
        _check(seen)
        raise
    finally:
        _SEEN.reset(token)
    _check(seen)


def _check(seen: dict[str, _Identity]) -> None:
    for path, identity in seen.items():
        try:
            status = os.stat(path)
        except OSError:
            continue
        if _identity(status) != identity:
            raise _changed(path) from None


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _changed(path: str) -> ChangedError:
    return ChangedError(
        path,
        "changed while it was read",
        remedy="Is something still writing it? Run again when it is finished.",
    )
