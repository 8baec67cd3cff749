"""`bncheck history`: all checkpoints of a run, oldest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bncheck.cli.options import fraction, judging, reporting

if TYPE_CHECKING:
    from bncheck.report.history_model import HistoryReport


@click.command(short_help="Follow the statistics through all checkpoints of a run.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--top",
    type=click.IntRange(0),
    default=40,
    show_default=True,
    help="List this many layers: those of findings, then those that moved most; 0 for all.",
)
@click.option("--layer", metavar="GLOB", help="Follow only the layers of such names.")
@click.option(
    "--momentum",
    type=fraction,
    help="The averages' momentum, where no .meta and no configuration tells it.",
)
@click.option("--no-graph", is_flag=True, help="Do not read the .meta beside the checkpoints.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    help="Read with this many processes. Default: as many as there are processors.",
)
@click.option(
    "--plot", metavar="FILE", help="Also draw the history into a .png or .svg (bncheck[plot])."
)
@judging
@reporting("text", "json", "csv")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def command(
    paths: tuple[str, ...],
    *,
    top: int,
    layer: str | None,
    momentum: float | None,
    no_graph: bool,
    jobs: int | None,
    plot: str | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: str,
    form: str,
    output: str | None,
    color: str,
    quiet: bool,
) -> HistoryReport:
    """Read all checkpoints of a run, oldest first, and show how the statistics went.

    PATH is a directory of checkpoints, or several checkpoints. Of each layer: the averages over
    channels of mean and variance, the divergence from one checkpoint to the next, how much is
    still the initializer, and whether it has settled. Findings say in which checkpoint they began.
    The run may still be going on: checkpoints that are deleted meanwhile, or not finished yet, are
    left out.
    """
    if plot is not None and not plot.lower().endswith((".png", ".svg")):
        raise click.BadParameter("it must end in .png or .svg", param_hint="'--plot'")
    from bncheck.cli.options import selected_rules
    from bncheck.cli.output import refuse_to_replace
    from bncheck.cli.progress import progress_bar
    from bncheck.history.pipeline import HistoryOptions, history
    from bncheck.report.model import FailOn

    for target in (output, plot):
        if target is not None:
            refuse_to_replace(target, *paths)
    with progress_bar("reading checkpoints", shown=not quiet) as progress:
        options = HistoryOptions(
            rules=selected_rules(select, ignore),
            fail_on=FailOn[fail_on.upper()],
            layer=layer,
            momentum=momentum,
            use_graph=not no_graph,
            jobs=jobs,
            progress=progress,
        )
        report = history(paths, options)
    if plot is not None:
        _plot(report, plot)
    _write(report, form, output, color, top=top)
    return report


def _plot(report: HistoryReport, path: str) -> None:
    try:
        from bncheck.report.history_plot import draw

        draw(report, path)
    except ImportError:
        raise click.UsageError(
            "--plot needs matplotlib: pip install 'bncheck[plot]', or leave it out"
        ) from None
    except OSError as error:
        raise click.UsageError(f"cannot write {path}: {error.strerror}") from None


def _write(report: HistoryReport, form: str, output: str | None, color: str, *, top: int) -> None:
    from bncheck.cli.output import make_screen, write

    if form == "json":
        from bncheck.report.history_json import to_json

        text = to_json(report)
    elif form == "csv":
        from bncheck.report.history_json import to_csv

        text = to_csv(report)
    else:
        from bncheck.report.history_text import print_history

        screen = make_screen(color, output)
        print_history(report, screen.console, top=top, unicode=screen.unicode)
        text = screen.text
    write(text, output)
