"""How a policy's file meets the command line: what is given there, or in the environment, wins."""

from __future__ import annotations

import glob
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


_RANKS: Final = {
    None: 0,
    ParameterSource.DEFAULT: 0,
    ParameterSource.DEFAULT_MAP: 1,
    ParameterSource.ENVIRONMENT: 2,
    ParameterSource.COMMANDLINE: 3,
    ParameterSource.PROMPT: 3,
}


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
    defaults = {
        _NAMES.get(key, key.replace("-", "_")): _rooted(key, value, found or "")
        for key, value in policy.options.items()
    }
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
    """Return a path of a policy, which counts from its file, as seen from the working directory."""
    here = os.path.relpath(os.path.dirname(os.path.realpath(source)))
    if here == ".":
        return value
    if key in ("baseline", "write-baseline", "output", "graph"):
        # A program of the form package.module:function is no path.
        is_path = key != "graph" or os.path.exists(os.path.join(here, value))
        return os.path.join(here, value) if is_path else value
    if key == "paths":
        return [os.path.join(glob.escape(here), each) for each in value]
    if key == "report":
        pairs = (each.partition("=") for each in value)
        return [f"{form}={os.path.join(here, target)}" for form, _, target in pairs]
    return value


def settle(ctx: click.Context) -> None:
    """Let --graph and --no-graph exclude each other, but where one of them stands higher."""
    ranks = [_RANKS[ctx.get_parameter_source(name)] for name in ("graph", "no_graph")]
    if ctx.params["graph"] is None or not ctx.params["no_graph"]:
        return
    if ranks[0] == ranks[1]:
        raise click.UsageError("--graph and --no-graph exclude each other")
    if ranks[0] > ranks[1]:
        ctx.params["no_graph"] = False
    else:
        ctx.params["graph"] = None


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
