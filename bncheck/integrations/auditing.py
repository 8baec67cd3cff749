"""What all integrations share: the gate's policy from keywords, and its verdict in words."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING, Final, TypedDict

from bncheck.config.load import load_policy
from bncheck.config.policy import Policy, Section
from bncheck.gating.auditing import Request
from bncheck.gating.pipeline import GateOptions
from bncheck.report.escape import escape, escape_name
from bncheck.report.github import alike
from bncheck.report.model import Verdict
from bncheck.rules import find_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bncheck.report.gate_model import Audited, GateReport
    from bncheck.report.github import Alike
    from bncheck.rules.rule import Finding

_FAIL_ON: Final = ("error", "warning", "note", "never")
_MOST_LAYERS: Final = 20  # of one finding: a message is read, and a report is for the rest
_WIDTH: Final = 100
_WORDS: Final = {
    Verdict.PASS: "PASS",
    Verdict.FAIL: "FAIL",
    Verdict.NOT_AUDITED: "NOT AUDITED",
}


class PolicyArguments(TypedDict, total=False):
    """The keywords of `assert_healthy`, for what passes them on."""

    fail_on: str | None
    select: Iterable[str]
    ignore: Iterable[str]
    graph: str | os.PathLike[str] | None
    use_graph: bool
    momentum: float | None
    step: int | None
    require_batch_norm: bool
    config: str | os.PathLike[str] | None


def gate_options(
    *,
    fail_on: str | None = None,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    graph: str | os.PathLike[str] | None = None,
    use_graph: bool = True,
    momentum: float | None = None,
    step: int | None = None,
    require_batch_norm: bool = False,
    config: str | os.PathLike[str] | None = None,
) -> GateOptions:
    """Return the gate's options: what is given goes before what the policy's file says.

    Of the file's options those count that say how one checkpoint is audited. Raises ValueError for
    an argument that the command line would refuse, BncheckError for a policy that cannot be used.
    """
    if fail_on is not None and fail_on not in _FAIL_ON:
        raise ValueError(f"fail_on must be one of {', '.join(_FAIL_ON)}, not {fail_on!r}")
    if graph is not None and not use_graph:
        raise ValueError("a graph and use_graph=False exclude each other")
    if momentum is not None and not 0 <= momentum < 1:
        raise ValueError(f"momentum must be a number from 0 to below 1, not {momentum}")
    if step is not None and step < 0:
        raise ValueError(f"step must not be negative, and is {step}")
    policy = Policy() if config is None else load_policy(os.fspath(config))
    said = policy.options
    if graph is None and use_graph and not said.get("no-graph"):
        graph = said.get("graph")
    request = Request(
        policy=policy,
        given=Section(
            select=_codes(select),
            ignore=_codes(ignore),
            fail_on=fail_on,
            momentum=momentum,
            require_batch_norm=require_batch_norm or None,
        ),
        graph=None if graph is None else os.fspath(graph),
        use_graph=graph is not None or (use_graph and not said.get("no-graph")),
        collection=said.get("collection", "global"),
        step=said.get("step") if step is None else step,
    )
    # One process: a training has threads, and forking it would be no favour.
    return GateOptions(request, jobs=1, baseline=said.get("baseline"))


def _codes(names: Iterable[str]) -> tuple[str, ...]:
    """Return the codes of rules, which may be given by their names, too, or as one string."""
    codes = []
    for name in [names] if isinstance(names, str) else names:
        rule = find_rule(name)
        if rule is None:
            raise ValueError(f"there is no rule {name!r}: 'bncheck rules' lists them all")
        codes.append(rule.code)
    return tuple(codes)


def failing(audited: Audited) -> list[Finding]:
    """Return the findings that fail a checkpoint, whether or not all of it could be audited."""
    threshold = audited.fail_on.value
    return [f for f in audited.findings if threshold is not None and f.level >= threshold]


def describe(report: GateReport) -> str:
    """Say what fails a report, by rules with their layers, and what could not be audited.

    Names are escaped, since they come from files.
    """
    lines = [f"bncheck: {_WORDS[report.verdict]}"]
    if not report.checkpoints:
        lines.append("no checkpoint was found: there is nothing to audit")
    for checkpoint in report.checkpoints:
        if checkpoint.verdict is not Verdict.PASS:
            lines += ["", *_checkpoint(checkpoint)]
    lines += [f"policy: {escape(warning)}" for warning in report.warnings]
    return "\n".join(lines)


def _checkpoint(checkpoint: Audited) -> Iterator[str]:
    step = "" if checkpoint.step is None else f", step {checkpoint.step}"
    yield f"{escape(checkpoint.path)}: {_WORDS[checkpoint.verdict]}{step}"
    for group in alike(failing(checkpoint)):
        yield from _group(group)
    for each in checkpoint.skipped:
        reason = escape(each.reason)
        yield f"  could not be audited: {escape_name(each.what)}: {reason}"


def _group(group: Alike) -> Iterator[str]:
    yield f"  {group.level} {group.rule.code} {group.rule.name}"
    names = [escape_name(layer) for layer in group.layers[:_MOST_LAYERS]]
    more = len(group.layers) - len(names)
    if names:
        shown = ", ".join(names) + (f" and {more} more" if more else "")
        yield from _wrapped(f"{'layers' if len(group.layers) > 1 else 'layer'}: {shown}")
    yield from _wrapped(escape(group.message))
    for number, line in enumerate(group.help.split("\n")):
        yield from _wrapped(("" if number else "help: ") + escape(line))


def _wrapped(text: str) -> list[str]:
    """Wrap a paragraph, but no line of code, and no name that somebody will search for."""
    if text.startswith(" "):
        return [f"    {text}"]
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="    ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
