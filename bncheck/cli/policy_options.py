"""How a policy's file meets the command line: what is given there, or in the environment, wins."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from bncheck.config.policy import Section

FORMATS: Final = ("text", "json", "sarif", "junit", "github", "gitlab", "markdown")
# Where the file calls an option otherwise than the command does.
_NAMES: Final = {"format": "form", "report": "reports"}
_ISOLATED: Final = "bncheck.isolated"
_CONFIG: Final = "bncheck.config"
_GIVEN: Final = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def read_policy(ctx: click.Context, _parameter: click.Parameter, path: str | None) -> str | None:
    """Read the policy before any other option, and lay its options under the command's own.

    A policy with a mistake is wrong usage, which names the file and the line.
    """
    from bncheck.config.keys import ConfigError
    from bncheck.config.load import find_policy, load_policy
    from bncheck.config.policy import Policy
    from bncheck.report.escape import escape

    isolated = ctx.meta.get(_ISOLATED, False)
    _refuse_both(path, isolated=isolated)
    ctx.meta[_CONFIG] = path
    try:
        found = path if path is not None or isolated else find_policy(os.getcwd())
        policy = Policy() if found is None else load_policy(found)
    except ConfigError as error:
        raise click.UsageError(escape(str(error))) from None
    ctx.obj = policy
    defaults = {_NAMES.get(key, key.replace("-", "_")): v for key, v in policy.options.items()}
    if path is None and found is not None:
        defaults = {key: _rooted(key, value, found) for key, value in defaults.items()}
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def read_isolated(
    ctx: click.Context,
    _parameter: click.Parameter,
    isolated: bool,  # noqa: FBT001 - click's call
) -> bool:
    """Remember that no policy is to be looked for."""
    _refuse_both(ctx.meta.get(_CONFIG), isolated=isolated)
    ctx.meta[_ISOLATED] = isolated
    return isolated


def _refuse_both(path: str | None, *, isolated: bool) -> None:
    if path is not None and isolated:
        raise click.UsageError("--config and --isolated exclude each other")


def _rooted(key: str, value: Any, source: str) -> Any:
    """Return a path of a policy that was found above as seen from the working directory."""
    directory = os.path.dirname(source)
    if os.path.realpath(directory) == os.path.realpath(os.getcwd()):
        return value
    if key == "baseline":
        return os.path.join(directory, value)
    return [os.path.join(directory, each) for each in value] if key == "paths" else value


def given_section(ctx: click.Context) -> Section:
    """Return what the command line and the environment say on what a policy's section may say."""
    from bncheck.cli.options import named_rules
    from bncheck.config.policy import Section

    def given(name: str) -> Any:
        return ctx.params[name] if ctx.get_parameter_source(name) in _GIVEN else None

    return Section(
        select=named_rules("--select", given("select") or ()),
        ignore=named_rules("--ignore", given("ignore") or ()),
        fail_on=given("fail_on"),
        momentum=given("momentum"),
        require_batch_norm=given("require_batch_norm"),
    )
