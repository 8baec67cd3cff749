"""`bncheck inspect`: one checkpoint, from its bytes to a verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bncheck.report.model import Report


def _reject_nan(
    _context: click.Context, _parameter: click.Parameter, value: float | None
) -> float | None:
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number")
    return value


@click.command(short_help="List a checkpoint's batch norm, match it to its graph, and judge it.")
@click.argument("path")
@click.option(
    "--graph",
    metavar="PATH",
    help="The graph to match with: a .meta file, a GraphDef (.pb, .pbtxt), a SavedModel, another "
    "checkpoint, a text file of names, or package.module:function that builds it (this alone runs "
    "a program, and needs TensorFlow). Default: PREFIX.meta, then graph.pbtxt, or the SavedModel's "
    "own.",
)
@click.option("--no-graph", is_flag=True, help="Judge by names and values alone.")
@click.option(
    "--collection",
    type=click.Choice(["global", "trainable", "model"]),
    default="global",
    show_default=True,
    help="The graph's variables that the assignment map is built from.",
)
@click.option(
    "--momentum",
    type=click.FloatRange(0, 1, max_open=True),
    callback=_reject_nan,
    help="The averages' momentum, where no graph tells it.",
)
@click.option(
    "--step",
    type=click.IntRange(0, 2**63 - 1),
    help="How often the statistics were updated. Default: the global step.",
)
@click.option(
    "--select",
    multiple=True,
    metavar="RULE",
    help="Only these rules (codes or names, also comma-separated).",
)
@click.option("--ignore", multiple=True, metavar="RULE", help="Not these rules.")
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "note", "never"]),
    default="error",
    show_default=True,
    help="From which level on findings exit with 1.",
)
@click.option(
    "--all", "everything", is_flag=True, help="List every variable, not only batch norm's."
)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.option("-o", "--output", metavar="FILE", help="Write the report to a file.")
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True
)
@click.option("-q", "--quiet", is_flag=True, help="Only the findings and the verdict.")
def command(
    path: str,
    *,
    graph: str | None,
    no_graph: bool,
    collection: str,
    momentum: float | None,
    step: int | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: str,
    everything: bool,
    form: str,
    output: str | None,
    color: str,
    quiet: bool,
) -> int:
    """List the batch-norm variables of a checkpoint, match them to its graph, and judge them.

    PATH is a checkpoint's prefix (model.ckpt-60), one of its files, a directory with a checkpoint
    in it, a SavedModel, or a Keras file (.keras, .h5, .weights.h5). The graph is PREFIX.meta or
    graph.pbtxt where that lies beside it, or the SavedModel's own.
    """
    if graph is not None and no_graph:
        raise click.UsageError("--graph and --no-graph exclude each other")
    if collection != "global" and no_graph:
        raise click.UsageError("--collection is of the graph, which --no-graph leaves out")
    from bncheck.audit import Options, inspect
    from bncheck.cli.options import selected_rules
    from bncheck.cli.output import refuse_to_replace
    from bncheck.report.model import FailOn

    if output is not None:
        refuse_to_replace(output, path, graph)
    report = inspect(
        path,
        Options(
            graph=graph,
            use_graph=not no_graph,
            collection=collection,
            rules=selected_rules(select, ignore),
            fail_on=FailOn[fail_on.upper()],
            momentum=momentum,
            step=step,
        ),
    )
    _write(report, form, output, color, everything=everything, quiet=quiet)
    return report.exit_code


def _write(
    report: Report, form: str, output: str | None, color: str, *, everything: bool, quiet: bool
) -> None:
    from bncheck.cli.output import make_screen, write_file, write_out

    to_file = output is not None and output != "-"
    if form == "json":
        from bncheck.report.json_format import to_json

        text = to_json(report, everything=everything)
    else:
        from bncheck.report.text import Layout, print_report

        screen = make_screen(color, to_file=to_file)
        layout = Layout(everything=everything, quiet=quiet, unicode=screen.unicode)
        print_report(report, screen.console, layout)
        text = screen.text
    if output is not None and to_file:
        write_file(output, text)
    else:
        write_out(text)
