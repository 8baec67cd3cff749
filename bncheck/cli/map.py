"""`bncheck map`: the assignment map itself, and what a loader would make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bncheck.cli.options import reporting

if TYPE_CHECKING:
    from bncheck.assignment.edits import Edit
    from bncheck.report.map_model import MapReport

# Spelled out, since the enum's module imports NumPy, which `--help` must not wait for.
_LOADERS = ("assignment-map", "saver", "warm-start", "slim", "object", "keras-by-name")


@click.command(short_help="Show the assignment map, and what a loader would silently skip.")
@click.argument("path")
@click.option(
    "--graph",
    metavar="PATH",
    help="The graph to match with, as for inspect. Default: PREFIX.meta, or the SavedModel's own.",
)
@click.option(
    "--collection",
    type=click.Choice(["global", "trainable", "model"]),
    help="The graph's variables that the loader is given. Default: global; trainable for "
    "warm-start, and the Saver's own list for saver, where the graph has one.",
)
@click.option(
    "--loader",
    type=click.Choice(_LOADERS),
    default=_LOADERS[0],
    show_default=True,
    help="What loads the checkpoint.",
)
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="REGEX=REPLACEMENT",
    help="Change the checkpoint's names before they are matched, as re.sub does; repeatable, in "
    "this order. The last = splits; write \\= for one in the replacement. {1+2} is group 1, a "
    "number as TensorFlow appends it, plus 2.",
)
@click.option(
    "--rehearse",
    is_flag=True,
    help="Also build the graph with TensorFlow, restore for real, and compare every variable.",
)
@click.option("--all", "everything", is_flag=True, help="List every variable that is matched, too.")
@reporting("text", "json", "python")
def command(
    path: str,
    *,
    graph: str | None,
    collection: str | None,
    loader: str,
    renames: tuple[str, ...],
    rehearse: bool,
    everything: bool,
    form: str,
    output: str | None,
    color: str,
) -> MapReport:
    """Show which checkpoint variable goes into which graph variable, and what a loader skips.

    PATH is a checkpoint as for inspect. Exit codes: 0 all of batch norm that the graph asks for
    would be restored, 1 something of it would not, or the loader raises, 2 wrong usage, 3 could
    not audit.
    """
    edits = tuple(_parse(option) for option in renames)
    from bncheck.assignment.loaders import Loader
    from bncheck.mapping import CannotRehearseError, MapOptions, map_checkpoint

    options = MapOptions(graph, collection, Loader(loader), edits, rehearse)
    try:
        report = map_checkpoint(path, options)
    except CannotRehearseError as error:
        raise click.UsageError(str(error)) from None
    _write(report, form, output, color, everything=everything)
    return report


def _parse(option: str) -> Edit:
    from bncheck.assignment.edits import parse_rename
    from bncheck.report.escape import escape

    try:
        return parse_rename(option)
    except ValueError as error:
        raise click.BadParameter(
            f"{escape(option)!r}: {escape(str(error))}", param_hint="'--rename'"
        ) from None


def _write(
    report: MapReport, form: str, output: str | None, color: str, *, everything: bool
) -> None:
    from bncheck.cli.output import make_screen, write

    if form == "json":
        from bncheck.report.map_json import to_json

        text = to_json(report)
    elif form == "python":
        from bncheck.report.map_python import to_python

        text = to_python(report)
    else:
        from bncheck.report.map_text import print_map

        screen = make_screen(color, output)
        print_map(report, screen.console, everything=everything, unicode=screen.unicode)
        text = screen.text
    write(text, output)
