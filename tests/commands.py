"""Running the command line as a person does: a process of its own, with a width and no terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "fixtures"


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


def bncheck(*arguments: str, columns: int = 80, cwd: Path = ROOT, **environment: str) -> Outcome:
    """Run `bncheck` with these arguments; `environment` is added to a neutral one."""
    neutral = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NO_COLOR", "FORCE_COLOR", "TERM", "PYTHONPATH")
        and not name.startswith(("BNCHECK_", "GITHUB_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "bncheck", *arguments],
        cwd=cwd,
        env=neutral
        | {"PYTHONPATH": str(ROOT), "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"}
        | environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return Outcome(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))


def bncheck_here(*arguments: str, cwd: Path = ROOT) -> Outcome:
    """Run the same in this process: without a start-up, hundreds of fixtures take seconds."""
    from bncheck.cli.main import _exit_code

    before = Path.cwd()
    out, err = StringIO(), StringIO()
    try:
        os.chdir(cwd)
        with (
            mock.patch.object(sys, "argv", ["bncheck", *arguments]),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = _exit_code()
    finally:
        os.chdir(before)
    return Outcome(code, out.getvalue(), err.getvalue())
