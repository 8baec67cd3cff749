"""The options that several commands share, and how their values are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bncheck.rules.rule import Rule


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


def unknown_rule(name: str) -> str:
    """Say that no rule is called so, and which are nearly."""
    from difflib import get_close_matches

    from bncheck.report.escape import escape
    from bncheck.rules import all_rules

    known = [form for rule in all_rules() for form in (rule.code, rule.name)]
    near = get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else " 'bncheck rules' lists them all."
    return f"there is no rule {escape(name)!r}.{hint}"
