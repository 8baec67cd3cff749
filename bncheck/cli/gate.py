"""`bncheck gate`: many checkpoints, one policy, the formats of CI systems."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from bncheck.cli.options import fraction, judging
from bncheck.cli.policy_options import (
    FORMATS,
    given_section,
    read_isolated,
    read_policy,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bncheck.gating.targets import Target
    from bncheck.report.gate_model import GateReport

_SUMMARY_LIMIT = 1_000_000  # bytes; GitHub takes 1 MiB for one step


@click.command(short_help="Audit many checkpoints before a deployment, by a policy.")
@click.argument("paths", nargs=-1, metavar="PATH...", envvar="BNCHECK_PATHS")
@click.option("-r", "--recursive", is_flag=True, help="All checkpoints in and below directories.")
@click.option(
    "--isolated",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=read_isolated,
    help="Look for no policy.",
)
@click.option(
    "--config",
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=read_policy,
    help="The policy. Default: bncheck.toml, or [tool.bncheck] of pyproject.toml, here or above.",
)
@click.option("--graph", metavar="PATH", help="The graph to match all of them with, as inspect.")
@click.option("--no-graph", is_flag=True, help="Judge by names and values alone.")
@click.option(
    "--collection",
    type=click.Choice(["global", "trainable", "model"]),
    default="global",
    show_default=True,
    help="The graph's variables that the assignment map is built from.",
)
@click.option("--momentum", type=fraction, help="The averages' momentum, where no graph tells it.")
@click.option("--step", type=click.IntRange(0, 2**63 - 1), help="How often they were updated.")
@judging
@click.option("--allow-empty", is_flag=True, help="Pass where no checkpoint is found.")
@click.option(
    "--require-batch-norm", is_flag=True, help="A checkpoint without any layer is an error."
)
@click.option("--baseline", metavar="FILE", help="Findings that this file knows do not count.")
@click.option("--write-baseline", metavar="FILE", help="Write the findings to such a file.")
@click.option(
    "--report",
    "reports",
    multiple=True,
    metavar="FORMAT=FILE",
    help=f"Also write a report; repeatable. Formats: {', '.join(FORMATS)}.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("-o", "--output", metavar="FILE", help="Write the report to a file.")
@click.option("--show-suppressed", is_flag=True, help="List what does not count, and why.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    help="Audit with this many processes. Default: as many as there are processors.",
)
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, and no rows that pass.")
@click.pass_context
def command(ctx: click.Context, /, paths: tuple[str, ...], **given: Any) -> GateReport:
    """Audit every checkpoint that PATHs mean, each on its own, and judge them by the policy.

    PATH is a checkpoint as for inspect, a directory, or a glob ('models/**/saved_model'). What
    cannot be audited hides nothing of the others. The command line goes before the environment
    (BNCHECK_FAIL_ON and so on, for every option), that before the policy's section of a path, that
    before the policy's top. Nothing found to audit is exit 3.
    """
    if not paths:
        raise click.UsageError("Missing argument 'PATH...', and no policy has any paths.")
    settle(ctx)
    given |= {"graph": ctx.params["graph"], "no_graph": ctx.params["no_graph"]}
    from bncheck.cli.progress import progress_bar
    from bncheck.gating.auditing import Request, ruling_for
    from bncheck.gating.pipeline import GateOptions, audit_targets
    from bncheck.gating.targets import find_targets

    reports = [_parse(each) for each in given["reports"]]
    found = find_targets(paths, recursive=given["recursive"])
    _check_outputs(reports, given, ctx.obj.source, found)
    wanted = {given["form"], *(form for form, _ in reports)}
    request = Request(
        policy=ctx.obj,
        given=given_section(ctx),
        graph=given["graph"],
        use_graph=not given["no_graph"],
        collection=given["collection"],
        step=given["step"],
        with_content="json" in wanted,
    )
    if ruling_for([], request).rules == ():
        raise click.UsageError("--select, --ignore and the policy leave no rule to judge by")
    with progress_bar("auditing checkpoints", shown=not given["quiet"]) as progress:
        options = GateOptions(
            request=request,
            recursive=given["recursive"],
            jobs=given["jobs"],
            baseline=given["baseline"],
            allow_empty=given["allow_empty"],
            progress=progress,
        )
        report = audit_targets(found, options)
    _write_all(report, reports, given)
    return report


def _parse(option: str) -> tuple[str, str]:
    form, equals, target = option.partition("=")
    if not equals or not target or form not in FORMATS:
        from difflib import get_close_matches

        near = get_close_matches(form, FORMATS, n=1)
        hint = f" Did you mean {near[0]}={target or 'FILE'}?" if near and near[0] != form else ""
        raise click.BadParameter(
            f"{option!r} is not FORMAT=FILE with one of {', '.join(FORMATS)}.{hint}",
            param_hint="'--report'",
        )
    return form, target


def _check_outputs(
    reports: list[tuple[str, str]],
    given: dict[str, Any],
    policy: str | None,
    targets: Sequence[Target],
) -> None:
    """Refuse, before anything is audited, what cannot be written or would replace what is read."""
    from bncheck.cli.output import refuse_to_replace, refuse_unwritable

    read = [each.prefix or each.path for each in targets]
    read += [each for each in (given["graph"], policy) if each is not None]
    outputs = [target for _, target in reports]
    outputs += [each for each in (given["output"], given["write_baseline"]) if each is not None]
    seen = set()
    for output in outputs:
        if output == "-":
            continue
        refuse_unwritable(output)
        refuse_to_replace(output, *read)
        place = os.path.realpath(output)
        if place in seen and not output.startswith("/dev/"):
            raise click.UsageError(f"{output} is named for two reports")
        seen.add(place)


def _write_all(report: GateReport, reports: list[tuple[str, str]], given: dict[str, Any]) -> None:
    """Write every report, those to files first."""
    from bncheck.cli.output import write

    for form, target in reports:
        write(_render(report, form, target, given), target)
    if given["write_baseline"] is not None:
        from bncheck.gating.baseline import write_baseline

        write(write_baseline(report.checkpoints, report.kept), given["write_baseline"])
    text = _render(report, given["form"], given["output"], given)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        if given["form"] == "text" and given["output"] in (None, "-"):
            text = _without_commands(text) + _render(report, "github", None, given)
        summary = os.environ.get("GITHUB_STEP_SUMMARY", "")
        if summary:
            _append(summary, _render(report, "markdown", summary, given))
    write(text, given["output"])


def _without_commands(text: str) -> str:
    """Keep the runner from taking a line with a name in it for a command.

    Between the two lines it obeys nothing but the token, which nobody can guess:
    https://docs.github.com/actions, workflow commands, stopping and starting them.
    """
    import secrets

    token = secrets.token_hex(16)
    return f"::stop-commands::{token}\n{text}::{token}::\n"


def _append(path: str, text: str) -> None:
    """Add to the job's summary, which other steps write to as well."""
    try:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        click.echo(f"bncheck: cannot write {path}: {error.strerror}", err=True)


def _render(report: GateReport, form: str, target: str | None, given: dict[str, Any]) -> str:
    if form == "text":
        from bncheck.cli.output import make_screen
        from bncheck.report.gate_text import print_gate

        screen = make_screen(given["color"], target)
        print_gate(
            report,
            screen.console,
            show_suppressed=given["show_suppressed"],
            quiet=given["quiet"],
        )
        return screen.text
    from bncheck.report import gate_json, github, gitlab, junit, markdown, sarif

    if form == "markdown":
        return markdown.to_markdown(report, limit=_SUMMARY_LIMIT if target else 65_000)
    writers = {
        "json": gate_json.to_json,
        "sarif": sarif.to_sarif,
        "junit": junit.to_junit,
        "github": github.to_github,
        "gitlab": gitlab.to_gitlab,
    }
    return writers[form](report)
