"""`bncheck inspect`: one checkpoint, from its bytes to a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bncheck.cli.options import fraction, judging, reporting

if TYPE_CHECKING:
    from bncheck.report.model import Report


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
    type=fraction,
    help="The averages' momentum, where no graph tells it.",
)
@click.option(
    "--step",
    type=click.IntRange(0, 2**63 - 1),
    help="How often the statistics were updated. Default: the global step.",
)
@click.option(
    "--require-batch-norm", is_flag=True, help="A checkpoint without any layer is an error."
)
@judging
@click.option(
    "--all", "everything", is_flag=True, help="List every variable, not only batch norm's."
)
@reporting("text", "json")
@click.option("-q", "--quiet", is_flag=True, help="Only the findings and the verdict.")
def command(
    path: str,
    *,
    graph: str | None,
    no_graph: bool,
    collection: str,
    momentum: float | None,
    step: int | None,
    require_batch_norm: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: str,
    everything: bool,
    form: str,
    output: str | None,
    color: str,
    quiet: bool,
) -> Report:
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
            require_batch_norm=require_batch_norm,
        ),
    )
    _write(report, form, output, color, everything=everything, quiet=quiet)
    return report


def _write(
    report: Report, form: str, output: str | None, color: str, *, everything: bool, quiet: bool
) -> None:
    from bncheck.cli.output import make_screen, write

    if form == "json":
        from bncheck.report.json_format import to_json

        text = to_json(report, everything=everything)
    else:
        from bncheck.report.text import Layout, print_report

        screen = make_screen(color, output)
        layout = Layout(everything=everything, quiet=quiet, unicode=screen.unicode)
        print_report(report, screen.console, layout)
        text = screen.text
    write(text, output)
