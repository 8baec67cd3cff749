"""`bncheck diff`: two checkpoints, and whether the statistics followed the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bncheck.cli.options import fraction, judging, reporting

if TYPE_CHECKING:
    from bncheck.report.diff_model import DiffReport


@click.command(short_help="Compare two checkpoints: what moved, and what should have.")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option(
    "--top",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="List this many layers that moved most, 0 for all.",
)
@click.option("--layer", metavar="GLOB", help="Compare only the layers of such names.")
@click.option(
    "--tolerance",
    type=fraction,
    default=0.0,
    help="The largest difference that counts as none, relative to the largest magnitude in a "
    "variable. Default: 0, every bit counts.",
)
@judging
@reporting("text", "json")
def command(
    before: str,
    after: str,
    *,
    top: int,
    layer: str | None,
    tolerance: float,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: str,
    form: str,
    output: str | None,
    color: str,
) -> DiffReport:
    """Compare checkpoint A with the later checkpoint B, layer by layer.

    A and B are checkpoints as for inspect, and may be of different formats. Layers are paired by
    name, by a shifted number, by a rename, and what is left by shape and order. Of each: how far
    the mean moved, in standard deviations of A, the ratio of the variances, the relative change of
    gamma and beta, and the divergence (symmetric Kullback-Leibler, mean over channels) that they
    are sorted by.
    """
    from bncheck.cli.options import selected_rules
    from bncheck.cli.output import refuse_to_replace
    from bncheck.diffing import DiffOptions, diff
    from bncheck.report.model import FailOn

    if output is not None:
        refuse_to_replace(output, before, after)
    options = DiffOptions(
        rules=selected_rules(select, ignore),
        fail_on=FailOn[fail_on.upper()],
        tolerance=tolerance,
        layer=layer,
    )
    report = diff(before, after, options)
    _write(report, form, output, color, top=top)
    return report


def _write(report: DiffReport, form: str, output: str | None, color: str, *, top: int) -> None:
    from bncheck.cli.output import make_screen, write

    if form == "json":
        from bncheck.report.diff_json import to_json

        text = to_json(report)
    else:
        from bncheck.report.diff_text import print_diff

        screen = make_screen(color, output)
        print_diff(report, screen.console, top=top, unicode=screen.unicode)
        text = screen.text
    write(text, output)
