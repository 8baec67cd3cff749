"""`bncheck rules`: the catalogue, printed from the rules' own documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from bncheck.rules.rule import Rule


@click.command(short_help="Print the catalogue of rules, or one rule in full.")
@click.argument("rule", required=False)
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True
)
def command(rule: str | None, *, color: str) -> None:
    """Print all rules, one line each, or one RULE (a code or a name) in full."""
    from bncheck.cli.options import unknown_rule
    from bncheck.cli.output import make_screen, write_out
    from bncheck.rules import all_rules, find_rule

    screen = make_screen(color)
    if rule is None:
        _print_catalogue(all_rules(), screen.console)
        write_out(screen.text)
        return
    found = find_rule(rule)
    if found is None:
        raise click.BadParameter(unknown_rule(rule), param_hint="'RULE'")
    _print_rule(found, screen.console)
    write_out(screen.text)


def _print_catalogue(rules: list[Rule], console: Console) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for column in ("bold", "", ""):
        table.add_column(style=column, no_wrap=True)
    table.add_column()
    for rule in rules:
        table.add_row(rule.code, str(rule.level), rule.name, rule.summary)
    console.print(table)


def _print_rule(rule: Rule, console: Console) -> None:
    from rich.text import Text

    console.print(Text.assemble((f"{rule.code} {rule.name}", "bold"), f" ({rule.level})"))
    for paragraph in rule.documentation.split("\n\n"):
        head, colon, body = paragraph.partition(": ")
        joined = " ".join(body.split())
        text = Text.assemble((f"{head}: ", "bold"), joined) if colon else Text(paragraph)
        console.print()
        console.print(text, width=min(console.width, 100))
