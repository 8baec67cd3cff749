"""One way to fail: what writes the file, and the command that is to say what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from bncheck import limits
from tests.commands import Outcome, bncheck_here

Write = Callable[[Path], Any]


@dataclass(frozen=True)
class Case:
    """A file that cannot be read.

    `write` is given a path in an empty folder, which is `name`, and the command line is run in that
    folder with `arguments`. Meanwhile `limits` are set to smaller numbers, for what would be too
    large a file otherwise, and `patches` (by module.name) and the `environment` to other values.
    """

    write: Write
    name: str = "m"
    arguments: tuple[str, ...] = ("inspect", "m")
    limits: Mapping[str, int] = field(default_factory=dict)
    patches: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def make(self, folder: Path) -> None:
        self.write(folder / self.name if self.name else folder)

    def run(self, folder: Path) -> Outcome:
        """Return what the command says of the file; JSON, where it says it in a report."""
        with ExitStack() as stack:
            for name, value in self.limits.items():
                stack.enter_context(mock.patch.object(limits, name, value))
            for name, value in self.patches.items():
                stack.enter_context(mock.patch(name, value))
            stack.enter_context(mock.patch.dict("os.environ", self.environment))
            return bncheck_here(*self.arguments, "--format", "json", cwd=folder)


def messages(outcome: Outcome) -> list[str]:
    """Return what a run could not audit, each as one line: the file or variable, and the reason."""
    if outcome.out:
        report = json.loads(outcome.out)
        skipped = [f"{each['what']}: {each['reason']}" for each in report.get("skipped", ())]
        return skipped + [_problem(**each) for each in report.get("problems", ())]
    return [line.removeprefix("bncheck: ") for line in outcome.err.splitlines()]


def _problem(path: str, what: str, offset: int | None, remedy: str, **_: object) -> str:
    """Return a problem that `bncheck verify` reports as the other commands would say it."""
    place = path if offset is None else f"{path} (byte {offset})"
    return f"{place}: {what}. {remedy}".rstrip()


def inspecting(path: str, *options: str) -> tuple[str, ...]:
    return ("inspect", path, *options)
