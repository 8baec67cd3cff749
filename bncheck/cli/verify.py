"""`bncheck verify`: every byte of a checkpoint, against every checksum that is stored for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bncheck.cli.options import reporting

if TYPE_CHECKING:
    from collections.abc import Callable

    from bncheck.report.verify_model import Verification


@click.command(short_help="Check every byte of a checkpoint, and that nothing is left over.")
@click.argument("path")
@reporting("text", "json")
@click.option("-q", "--quiet", is_flag=True, help="Only the problems and the verdict; no bar.")
def command(path: str, *, form: str, output: str | None, color: str, quiet: bool) -> Verification:
    """Check every checksum of every block and tensor, every file, and what belongs to nothing.

    PATH is what `bncheck inspect` takes. Damage is exit code 3. Bytes that belong to nothing, data
    files that the index does not count, and a state file whose latest checkpoint is not there are
    suspect: exit code 1. Nothing is judged: for that, there is `bncheck inspect`.
    """
    from bncheck.cli.output import make_screen, refuse_to_replace, write
    from bncheck.cli.progress import progress_bar
    from bncheck.verifying import verify

    if output is not None:
        refuse_to_replace(output, path)
    with progress_bar("Verifying", shown=not quiet) as move:

        def started(size: int) -> Callable[[int], None]:
            if move is None:
                return lambda _: None
            move(max(size, 1))
            return move

        report = verify(path, started)
    if form == "json":
        from bncheck.report.verify_json import to_json

        text = to_json(report)
    else:
        from bncheck.report.verify_text import print_verification

        screen = make_screen(color, output)
        print_verification(report, screen.console, quiet=quiet)
        text = screen.text
    write(text, output)
    return report
