"""Where reports go: standard output, or a file that is replaced as a whole."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from io import StringIO

    from rich.console import Console

_PIPED_WIDTH = 100


def make_console(color: str, file: StringIO | None = None) -> Console:
    """Return a console for reports: on standard output, or into a buffer that will become a file.

    `color` is "auto" (a terminal, unless NO_COLOR says otherwise), "always" or "never".
    """
    from rich.console import Console

    target = file if file is not None else sys.stdout
    terminal = file is None and target.isatty()
    return Console(
        file=target,
        force_terminal=True if color == "always" else None,
        no_color={"always": False, "never": True}.get(color),
        color_system=None if color == "never" else "auto",
        width=None if terminal or "COLUMNS" in os.environ else _PIPED_WIDTH,
        legacy_windows=False,
        highlight=False,
        emoji=False,
        markup=False,
    )


def write_file(path: str, text: str) -> None:
    """Replace a file by the text in one step, so that nobody ever reads half a report.

    Raises click.UsageError where it cannot be written.
    """
    import tempfile  # 4 ms

    directory = os.path.dirname(path) or "."
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", dir=directory, delete=False
        ) as file:
            temporary = file.name
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise click.UsageError(f"cannot write {path}: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
