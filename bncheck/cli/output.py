"""Where reports go: standard output, or a file that is replaced as a whole."""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Final

import click

from bncheck.errors import BncheckError

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 100
_NARROWEST = 20
# How the files of a checkpoint and of its graph are called, behind their prefix or directory.
_PART: Final = re.compile(
    r"(?s).*(\.(index|meta|h5|keras|pb|pbtxt|weights\.json)|\.data-\d{5}-of-\d{5}"
    r"|-\d{5}-of-\d{5}|/checkpoint|/config\.json)"
)


def _width(*, terminal: bool) -> int:
    """Return the columns to write for: COLUMNS, else the terminal's, else what a log can show."""
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and int(told):
        return max(int(told), _NARROWEST)
    if not terminal:
        return _PIPED_WIDTH
    return max(os.get_terminal_size(sys.stdout.fileno()).columns, _NARROWEST)


@dataclass(frozen=True)
class Screen:
    """A console that writes into a buffer, as standard output or a file would show it."""

    console: Console
    buffer: StringIO
    unicode: bool

    @property
    def text(self) -> str:
        """All that was printed."""
        return self.buffer.getvalue()


def make_screen(color: str, output: str | None = None) -> Screen:
    """Return a screen for a report that goes to standard output, or to the file that is named.

    `color` is "auto" (a terminal, unless NO_COLOR says otherwise), "always" or "never".
    """
    from rich.console import Console

    stream = None if _is_file(output) else sys.stdout
    terminal = stream is not None and stream.isatty()
    # What stands in for standard output in a program may have no encoding.
    encoding = getattr(stream, "encoding", None) or "utf-8"
    buffer = StringIO()
    # The width is told above; rich would stumble over a COLUMNS that is no number.
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    console = Console(
        _environ=environment,
        file=buffer,
        force_terminal=terminal or color == "always",
        no_color={"always": False, "never": True}.get(color),
        color_system=None if color == "never" else "auto",
        width=_width(terminal=terminal),
        legacy_windows=False,
        highlight=False,
        emoji=False,
        markup=False,
    )
    return Screen(console, buffer, unicode=encoding.lower().startswith("utf"))


def refuse_to_replace(path: str, *inputs: str | None) -> None:
    """Raise click.UsageError where a report would replace what it is about.

    That is what was named itself, and files that are called as parts of it.
    """
    target = os.path.realpath(path)
    for given in inputs:
        prefix = os.path.realpath(given) if given else ""
        if not prefix or not target.startswith(prefix):
            continue
        rest = target[len(prefix) :]
        if os.path.isfile(target) and (not rest or _PART.fullmatch(rest)):
            raise click.UsageError(f"{path} is what the report would be about")


def _is_file(output: str | None) -> bool:
    """Whether an --output means a file; `-` is standard output, as everywhere."""
    return output is not None and output != "-"


def write(text: str, output: str | None) -> None:
    """Write a report to the file that was named, else to standard output."""
    if output is not None and _is_file(output):
        write_file(output, text)
    else:
        write_out(text)


def refuse_unwritable(path: str) -> None:
    """Raise click.UsageError where a report could not be written, before anything is audited."""
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise click.UsageError(f"cannot write {path}: there is no directory {directory}")


def write_file(path: str, text: str) -> None:
    """Replace a file by the text in one step, so that nobody ever reads half a report.

    A link is followed, a file's permissions are kept, and what is no regular file (a FIFO, a
    device) is written to as it is. Raises click.UsageError where it cannot be written.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        _write_directly(path, text)  # as it is: what /dev/stdout leads to may have no path
        return
    path = os.path.realpath(path)
    import tempfile  # 4 ms

    directory = os.path.dirname(path) or "."
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", dir=directory, delete=False
        ) as file:
            temporary = file.name
            file.write(text)
        mode = os.stat(path).st_mode if os.path.exists(path) else 0o666 & ~_umask()
        os.chmod(temporary, stat.S_IMODE(mode))
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise click.UsageError(f"cannot write {path}: {error.strerror}") from None


def _write_directly(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise click.UsageError(f"cannot write {path}: {error.strerror}") from None


def write_out(text: str) -> None:
    """Write a report to standard output.

    Whoever reads it may have seen enough before its end: then the rest is dropped, and the verdict
    stands. Raises BncheckError where it cannot be written for any other reason.
    """
    if sys.stdout is None:
        raise BncheckError("standard output", "is closed, so there is nowhere to report to")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends, and would complain.
        _drop_output()
    except OSError as error:
        _drop_output()
        raise BncheckError("standard output", f"cannot be written: {error.strerror}") from None


def _drop_output() -> None:
    with suppress(OSError):  # what stands in for standard output may be no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
