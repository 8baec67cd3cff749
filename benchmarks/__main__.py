"""Makes the data, runs bncheck and TensorFlow in turn, and prints medians, ratios and goals.

Exits with 1 if a goal is missed, with 2 if a command failed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchmarks import machine, tables
from benchmarks.cases import CASES, Case, directory_of
from benchmarks.measure import CommandFailedError, count_reads, environment, run
from benchmarks.results import Measured, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = Path(__file__).parent
_DATA = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "bncheck-benchmarks"
_NO_SUCH_COMMAND = 2


def _say(text: str) -> None:
    click.echo(text, err=True)


def _compile(directory: Path) -> None:
    """Make sure that no start of bncheck compiles its modules, as no user's second start does.

    In the directory of the data Python does not find the repository's bncheck, but the installed.
    """

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=directory,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )

    package = python("-c", "import bncheck; print(bncheck.__path__[0])").stdout.strip()
    if not package or python("-m", "compileall", "-q", package).returncode:
        raise click.ClickException("install bncheck first: pip install '.[test]'")
    _say(f"measuring {package}")


def _make(dataset: str, directory: Path) -> dict[str, int]:
    """Return what a dataset's facts say, after making it if it is not there."""
    path = directory / directory_of(dataset)
    if not path.is_dir():
        _say(f"making {dataset}")
        made = subprocess.run(
            [sys.executable, _HERE / "make_data.py", dataset, path], env=environment(), check=False
        )
        if made.returncode:
            raise click.ClickException(f"TensorFlow could not make {dataset} in {directory}")
    facts: dict[str, int] = json.loads((path / "facts.json").read_text("utf-8"))
    return facts


def _unknown(case: Case, directory: Path) -> str | None:
    """Return the command of bncheck that a case needs and this version lacks."""
    for command in case.commands:
        if command.arguments[1:3] == ("-m", "bncheck"):
            asked = subprocess.run(
                [*command.arguments[:4], "--help"],
                cwd=directory,
                env=environment(),
                capture_output=True,
                check=False,
            )
            if asked.returncode == _NO_SUCH_COMMAND:
                return command.arguments[3]
    return None


def measure(case: Case, directory: Path, rounds: int, own_bytes: int | None) -> Measured:
    """Run the commands of a case in turn, after one turn that does not count and warms caches."""
    read = {each.name: count_reads(each, directory) for each in case.commands}
    runs: dict[str, list[Sample]] = {each.name: [] for each in case.commands}
    for turn in range(rounds + 1):
        for each in case.commands:
            sample = run(each, directory)
            if turn > 0:
                runs[each.name].append(sample)
    return Measured(runs, read, own_bytes)


def _discard(chosen: Sequence[Case], position: int, directory: Path) -> None:
    needed = {dataset for case in chosen[position + 1 :] for dataset in case.datasets}
    for dataset in set(chosen[position].datasets) - needed:
        shutil.rmtree(directory / directory_of(dataset))


def _blocks(results: Sequence[tuple[Case, Measured]], rounds: int) -> tuple[str, str]:
    """Return the Markdown of the comparisons, and that of the growth and the goals."""
    when = f"{machine.description()}; medians of {rounds} runs\n\n"
    compared = [(case, measured) for case, measured in results if case.ratios]
    grown = [(case, measured) for case, measured in results if not case.ratios]
    return (
        when + tables.medians(compared).markdown(),
        when + tables.medians(grown).markdown() + "\n" + tables.goals(results).markdown(),
    )


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(CASES)), metavar="[CASE]...")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=_DATA,
    help="Where the data is kept, some 8 GB of it.  [default: bncheck-benchmarks in the cache]",
)
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--discard", is_flag=True, help="Delete each dataset after its last case.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("--write", is_flag=True, help="Write README.md and benchmarks/README.md.")
def main(
    names: tuple[str, ...], data: Path, runs: int, *, discard: bool, markdown: bool, write: bool
) -> None:
    """Measure bncheck beside TensorFlow; without CASEs, all of them."""
    if write and names:
        raise click.UsageError("--write needs all cases")
    data = data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    _compile(data)
    chosen = [CASES[name] for name in dict.fromkeys(names or CASES)]
    results = []
    failed = False
    for position, case in enumerate(chosen):
        if unknown := _unknown(case, data):
            _say(f"skipped {case.name}: this bncheck has no command {unknown}")
            continue
        facts = [_make(dataset, data) for dataset in case.datasets]
        _say(f"running {case.name}")
        try:
            results.append((case, measure(case, data, runs, facts[0]["batch_norm_bytes"])))
        except CommandFailedError as error:  # the others' figures still hold
            _say(f"failed {case.name}: {error}")
            failed = True
        else:  # what was measured is not lost where somebody stops the rest
            _say(tables.medians(results[-1:]).markdown())
        if discard:
            _discard(chosen, position, data)
    _show(results, runs, markdown=markdown)
    if failed:
        raise SystemExit(2)
    if write:
        comparisons, rest = _blocks(results, runs)
        tables.write(_HERE.parent / "README.md", "benchmarks", comparisons)
        tables.write(_HERE / "README.md", "results", rest)
    if any(measured.meets(goal) is False for case, measured in results for goal in case.goals):
        raise SystemExit(1)


def _show(results: Sequence[tuple[Case, Measured]], rounds: int, *, markdown: bool) -> None:
    if markdown:
        click.echo("\n".join(_blocks(results, rounds)))
        return
    console = Console()
    console.print(f"{machine.description()}; medians of {rounds} runs", soft_wrap=True)
    console.print(tables.medians(results, brief=True).rich())
    console.print(tables.goals(results, brief=True).rich())


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
