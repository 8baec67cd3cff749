"""`python -m fuzz`: fuzz the readers, each target in a process of its own; say what was found."""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from fuzz.campaign import FOUND, Outcome, run
from fuzz.targets import TARGETS

_HEAD = (
    f"{'target':14} {'seconds':>8} {'executions':>11} {'per second':>11} {'edges':>6} "
    f"{'features':>9} {'last new at':>12} {'findings':>9}"
)


def _row(outcome: Outcome) -> str:
    rate = outcome.executions / outcome.seconds if outcome.seconds else 0.0
    return (
        f"{outcome.target:14} {outcome.seconds:8.0f} {outcome.executions:11,} {rate:11.0f} "
        f"{outcome.edges:6} {outcome.features:9} {outcome.last_new:10.0f} s "
        f"{len(outcome.findings):9}"
    )


def _details(outcome: Outcome, logs: Path | None) -> None:
    for name, place in outcome.findings.items():
        click.echo(f"  {name}: {place}")
    if outcome.problem:
        click.echo(f"  {outcome.problem}")
        click.echo("\n".join(f"  | {line}" for line in outcome.log[-15:]))
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        (logs / f"{outcome.target}.log").write_text("\n".join(outcome.log) + "\n", "utf-8")


@click.command()
@click.argument("names", nargs=-1, metavar="[TARGET]...")
@click.option("--seconds", type=click.IntRange(2), default=60, show_default=True, help="A target.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="At once.")
@click.option(
    "--found",
    type=click.Path(path_type=Path, file_okay=False),
    default=FOUND,
    help="Where inputs that break something are kept. Default: fuzz/found.",
)
@click.option(
    "--corpus",
    type=click.Path(path_type=Path, file_okay=False),
    help="Go on from the corpus in this directory, and leave it there. Default: begin anew.",
)
@click.option(
    "--logs", type=click.Path(path_type=Path, file_okay=False), help="Keep the logs here."
)
def main(
    names: tuple[str, ...],
    seconds: int,
    jobs: int,
    found: Path,
    corpus: Path | None,
    logs: Path | None,
) -> None:
    """Fuzz every target, or those that are named; exit 1 where something was found."""
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        raise click.UsageError(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        raise click.UsageError("atheris is not installed: pip install '.[fuzz]'")
    targets = [TARGETS[name] for name in names or TARGETS]
    click.echo(_HEAD)
    failed = False
    executions = total = 0.0
    with ThreadPoolExecutor(jobs) as pool:
        for outcome in pool.map(lambda each: run(each, seconds, found, corpus), targets):
            click.echo(_row(outcome))
            _details(outcome, logs)
            failed |= outcome.failed
            executions += outcome.executions
            total += outcome.seconds
    click.echo(f"{len(targets)} targets, {total:.0f} s, {executions:,.0f} executions")
    sys.exit(failed)


if __name__ == "__main__":
    main()
