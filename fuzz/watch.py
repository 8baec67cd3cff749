"""What reading must never do, seen by Python's audit hook: write, execute, connect, look elsewhere.

What a C library opens by itself is not seen here.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FORBIDDEN = (
    "os.chmod", "os.exec", "os.fork", "os.forkpty", "os.link", "os.mkdir", "os.posix_spawn",
    "os.remove", "os.rename", "os.rmdir", "os.spawn", "os.startfile", "os.symlink", "os.system",
    "os.truncate", "os.utime", "pickle.find_class", "shutil.", "socket.", "subprocess.Popen",
    "tempfile.", "urllib.Request", "ctypes.dlopen",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# What an import that bncheck leaves until it is needed reads.
_CODE = tuple({os.path.realpath(each) + os.sep for each in (sys.prefix, sys.base_prefix)})
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class ForbiddenError(Exception):
    """Reading did what it must not."""


class _Watch:
    def __init__(self) -> None:
        self.directory: str | None = None
        self.reads_outside = False
        self.seen: list[str] = []
        self.writing = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.directory is None or self.writing:
            return
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, str | bytes) and not self._may_open(os.fsdecode(path), mode, flags):
                self.seen.append(f"open {path!r} {mode or flags}")
        elif event.startswith(_FORBIDDEN):
            self.seen.append(f"{event} {arguments!r}"[:300])

    def _may_open(self, path: str, mode: str | None, flags: int) -> bool:
        if flags & _WRITING or set(mode or "") & set("wax+"):
            return False
        if self.reads_outside:
            return True
        absolute = os.path.abspath(path)
        code = absolute.startswith((*_CODE, _OWN)) and absolute.endswith((".py", ".pyc", ".so"))
        return code or absolute.startswith(self.directory or "")


_watch = _Watch()
_hooked = False


@contextmanager
def watched(directory: Path, *, reads_outside: bool) -> Iterator[None]:
    """Raise ForbiddenError at the end where something forbidden was done in between."""
    global _hooked  # a hook cannot be taken away again
    if not _hooked:
        sys.addaudithook(_watch)
        _hooked = True
    _watch.seen.clear()
    _watch.reads_outside = reads_outside
    _watch.directory = os.path.abspath(directory)
    try:
        yield
    finally:
        _watch.directory = None
    if _watch.seen:
        raise ForbiddenError("; ".join(_watch.seen))


@contextmanager
def preparing() -> Iterator[None]:
    """Let a target write what the reader is to read."""
    before, _watch.writing = _watch.writing, True
    try:
        yield
    finally:
        _watch.writing = before
