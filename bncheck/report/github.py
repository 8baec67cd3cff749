"""GitHub's workflow commands: findings as annotations of a workflow run.

The escapes are those of `@actions/core` (packages/core/src/command.ts), which the runner undoes
(src/Runner.Common/ActionCommand.cs).
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.report.escape import escape, escape_lines, escape_name
from bncheck.rules.rule import Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bncheck.report.gate_model import Audited, GateReport
    from bncheck.rules.rule import Finding, Rule

# The runner keeps so many annotations of a level for each step, and so much of each message:
# _maxCountPerIssueType and _maxIssueMessageLength in its ExecutionContext.cs.
_MOST: Final = 10
_LONGEST: Final = 4096
_LONGEST_PART: Final = 1200  # of message and help each, so that there is room for the layers
_COMMANDS: Final = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "notice"}


class Alike(NamedTuple):
    """The findings of one checkpoint that say the same, with all of their layers.

    `layers` has no entry for a finding on the whole checkpoint; `number` counts that, too.
    """

    rule: Rule
    level: Level
    message: str
    help: str
    layers: tuple[str, ...]
    number: int


class _Annotation(NamedTuple):
    level: Level
    file: str | None
    title: str
    message: str
    number: int


def to_github(report: GateReport) -> str:
    """Return the report as workflow commands, one a line; empty where there is nothing to say.

    There are at most ten of each level, the worst first: what could not be audited, then errors,
    warnings and notes. The tenth says how many more there are.
    """
    annotations = list(_annotations(report))
    lines = [
        _command(each)
        for level in sorted(Level, reverse=True)
        for each in _shown([each for each in annotations if each.level is level])
    ]
    return "".join(f"{line}\n" for line in lines)


def alike(findings: Iterable[Finding]) -> list[Alike]:
    """Group findings of one checkpoint that differ in nothing but the layer, the worst first."""
    groups: dict[tuple[str, Level, str, str], list[Finding]] = {}
    for each in findings:
        key = (each.rule.code, each.level, each.message, each.help)
        groups.setdefault(key, []).append(each)
    found = [
        Alike(
            rule=members[0].rule,
            level=level,
            message=message,
            help=advice,
            layers=tuple(each.layer for each in members if each.layer),
            number=len(members),
        )
        for (_, level, message, advice), members in groups.items()
    ]
    return sorted(found, key=lambda group: -group.level)


def _annotations(report: GateReport) -> Iterator[_Annotation]:
    if not report.checkpoints:
        text = "no checkpoint was found: there is nothing to audit"
        level = Level.NOTE if report.empty_allowed else Level.ERROR
        yield _Annotation(level, None, "bncheck", text, 1)
    for checkpoint in report.checkpoints:
        yield from _not_audited(checkpoint)
    for checkpoint in report.checkpoints:
        for group in alike(checkpoint.findings):
            title = f"{group.rule.code} {group.rule.name}"
            yield _Annotation(group.level, checkpoint.path, title, _message(group), group.number)
    for warning in report.warnings:
        yield _Annotation(Level.WARNING, report.config, "bncheck policy", escape(warning), 1)
    if report.gone:
        number = len(report.gone)
        text = f"{number} of the baseline's findings are no more: {_listed(report.gone)}"
        yield _Annotation(Level.NOTE, report.baseline, "bncheck baseline", text, number)


def _not_audited(checkpoint: Audited) -> Iterator[_Annotation]:
    for each in checkpoint.skipped:
        text = f"{escape_name(each.what)} could not be audited: {escape(each.reason)}"
        yield _Annotation(Level.ERROR, checkpoint.path, "bncheck: not audited", text, 1)


def _message(group: Alike) -> str:
    texts = (escape(group.message), escape_lines(group.help))
    parts = [_cut(text, _LONGEST_PART) for text in texts]
    if group.layers:
        number = len(group.layers)
        # The number comes first: it stays where the names are cut.
        parts.append(f"{number} layer{'s' if number != 1 else ''}: {_listed(group.layers)}")
    return "\n".join(part for part in parts if part)


def _listed(names: Sequence[str]) -> str:
    # More names than a message has characters are cut with it.
    return ", ".join(escape_name(name) for name in names[:_LONGEST])


def _shown(annotations: list[_Annotation]) -> list[_Annotation]:
    """Return the first ten, or the first nine and one that counts the rest."""
    if len(annotations) <= _MOST:
        return annotations
    shown, rest = annotations[: _MOST - 1], annotations[_MOST - 1 :]
    level = rest[0].level
    number = sum(each.number for each in rest)
    text = f"{number} more of this level are not shown: GitHub shows {_MOST} annotations of each"
    return [*shown, _Annotation(level, None, "bncheck: more", text, number)]


def _command(annotation: _Annotation) -> str:
    properties = {"title": annotation.title}
    if annotation.file:
        properties = {"file": escape(PurePath(annotation.file).as_posix()), **properties}
    told = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{_COMMANDS[annotation.level]} {told}::{_data(_cut(annotation.message, _LONGEST))}"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
