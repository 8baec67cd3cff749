"""A progress bar on standard error, where that is a terminal that somebody may look at."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress_bar(label: str, *, shown: bool) -> Iterator[Callable[[int], None] | None]:
    """Yield what moves the bar: called first with the length, then with each advance.

    None where there is no bar.
    """
    if not shown or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:
        begun = False

        def advance(count: int) -> None:
            nonlocal begun
            if begun:
                bar.update(count)
            else:
                bar.length, begun = count, True

        yield advance
