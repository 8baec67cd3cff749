"""The command line: commands, each imported when it is called, and what is said on failure."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Final

import click

from bncheck.version import __version__

# A start-up makes many objects and no garbage: collecting it again and again takes a twentieth of
# the whole time (measured on a small checkpoint), and a tenth of it on a graph of 200,000 nodes. A
# long run still collects its cycles, only less often.
_COLLECT_EVERY: Final = 1_000_000  # objects more allocated than freed

BUG_EXIT: Final = 4
NOT_AUDITED_EXIT: Final = 3

_COMMANDS: Final = {
    "diff": "Compare two checkpoints: what moved, and what should have.",
    "gate": "Audit many checkpoints before a deployment, by a policy.",
    "history": "Follow the statistics through all checkpoints of a run.",
    "inspect": "List a checkpoint's batch norm, match it to its graph, and judge it.",
    "map": "Show the assignment map, and what a loader would silently skip.",
    "rules": "Print the catalogue of rules, or one rule in full.",
    "verify": "Check every byte of a checkpoint, and that nothing is left over.",
}


class _Commands(click.Group):
    """A group that knows its commands' names and one-line helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(f"bncheck.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            return None
        for option in command.params:
            if isinstance(option, click.Option) and option.envvar is None:
                longest = max(option.opts, key=len)
                option.envvar = f"BNCHECK_{longest.lstrip('-').replace('-', '_').upper()}"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bncheck")
def main() -> None:
    """Audit batch normalization in TensorFlow checkpoints before they are deployed.

    Exit codes: 0 clean, 1 findings, 2 wrong usage, 3 could not audit, 4 a bug in bncheck.
    """


def run() -> None:
    """Run the command line and exit; only a bug shows a traceback."""
    gc.set_threshold(_COLLECT_EVERY)
    # NumPy's BLAS starts threads that wait by spinning: twice the processor time, for no product of
    # matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks must not be what stops an audit.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    result = _result()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # it may be closed, or gone
            stream.flush()
    # What is left goes with the process. The interpreter's own end takes 25 ms of the 170 of a
    # small checkpoint, and freeing a report of 20,000 layers object by object 50 ms.
    os._exit(_code_of(result))


def _say(text: str) -> None:
    """Say something to a person; if nobody can hear it, the exit code still speaks."""
    with suppress(OSError):
        click.echo(text, err=True)


def _output_problem() -> str:
    """Say why click could not write to standard output; empty where it can be written."""
    from bncheck.cli.output import write_out
    from bncheck.errors import BncheckError

    try:
        write_out("")  # what is left in the buffer fails once more
    except BncheckError as error:
        return str(error)
    return ""


def _exit_code() -> int:
    return _code_of(_result())


def _code_of(result: object) -> int:
    """Return the exit code that a command's result stands for: a number, a report, or nothing."""
    return result if isinstance(result, int) else int(getattr(result, "exit_code", 0))


def _result() -> object:
    """Run the command line, and return the report that it made, or an exit code."""
    from bncheck.errors import BncheckError

    try:
        result: object = main.main(prog_name="bncheck", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return error.exit_code
    except click.Abort:
        _say("stopped")
        return 130
    except BncheckError as error:
        from bncheck.report.escape import escape

        _say(f"bncheck: {escape(str(error))}")
        return NOT_AUDITED_EXIT
    except MemoryError:
        _say("bncheck: there is not enough memory to read this")
        return NOT_AUDITED_EXIT
    except SystemExit:
        return 0  # what click makes of a reader that has seen enough of a help text
    except Exception as error:
        if isinstance(error, OSError) and (problem := _output_problem()):
            _say(f"bncheck: {problem}")
            return NOT_AUDITED_EXIT
        import traceback

        traceback.print_exc()
        _say(f"bncheck {__version__}: this is a bug; please report it.")
        return BUG_EXIT
    return result
