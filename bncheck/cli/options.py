"""The options that several commands share, and how their values are told apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bncheck.rules.rule import Rule

    Function = Callable[..., Any]


class _Fraction(click.FloatRange):
    """A number from 0 to 1, which NaN is not."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail("nan is no number", param, ctx)
        return number


fraction: Final = _Fraction(0, 1, max_open=True)
"""The type of an option that takes a number from 0 to below 1."""


def judging(command: Function) -> Function:
    """Add the options that say which findings count."""
    for option in (
        click.option(
            "--fail-on",
            type=click.Choice(["error", "warning", "note", "never"]),
            default="error",
            show_default=True,
            help="From which level on findings exit with 1.",
        ),
        click.option("--ignore", multiple=True, metavar="RULE", help="Not these rules."),
        click.option(
            "--select",
            multiple=True,
            metavar="RULE",
            help="Only these rules (codes or names, also comma-separated).",
        ),
    ):
        command = option(command)
    return command


def reporting(*formats: str) -> Callable[[Function], Function]:
    """Add the options that say how a report looks and where it goes; the first format is usual."""

    def add(command: Function) -> Function:
        for option in (
            click.option(
                "--color",
                type=click.Choice(["auto", "always", "never"]),
                default="auto",
                show_default=True,
            ),
            click.option("-o", "--output", metavar="FILE", help="Write the report to a file."),
            click.option(
                "--format",
                "form",
                type=click.Choice(formats),
                default=formats[0],
                show_default=True,
            ),
        ):
            command = option(command)
        return command

    return add


def selected_rules(select: Sequence[str], ignore: Sequence[str]) -> tuple[Rule, ...] | None:
    """Return the rules that --select and --ignore leave, None where neither was given.

    Raises click.BadParameter for a name that no rule has, with the nearest ones.
    """
    from bncheck.rules import all_rules

    if not select and not ignore:
        return None
    wanted = {rule.code for rule in _named("--select", select)} if select else None
    unwanted = {rule.code for rule in _named("--ignore", ignore)}
    left = tuple(
        rule
        for rule in all_rules()
        if (wanted is None or rule.code in wanted) and rule.code not in unwanted
    )
    if not left:
        # An empty variable in a script must not turn the gate into an open door.
        raise click.UsageError("--select and --ignore leave no rule to judge by")
    return left


def _named(option: str, values: Sequence[str]) -> list[Rule]:
    from bncheck.rules import find_rule

    rules = []
    for name in (part for value in values for part in value.split(",") if part.strip()):
        rule = find_rule(name)
        if rule is None:
            raise click.BadParameter(unknown_rule(name), param_hint=f"'{option}'")
        rules.append(rule)
    return rules


def named_rules(option: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return the codes of rules that an option names.

    Raises click.BadParameter as `selected_rules` does.
    """
    return tuple(rule.code for rule in _named(option, values))


def unknown_rule(name: str) -> str:
    """Say that no rule is called so, and which are nearly."""
    from difflib import get_close_matches

    from bncheck.report.escape import escape
    from bncheck.rules import all_rules

    known = [form for rule in all_rules() for form in (rule.code, rule.name)]
    near = get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else " 'bncheck rules' lists them all."
    return f"there is no rule {escape(name)!r}.{hint}"
