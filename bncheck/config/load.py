"""Reading a policy: `bncheck.toml`, or `[tool.bncheck]` of a `pyproject.toml`.

Every mistake names the file, the line, and the nearest right word. `config-schema-v1.json` beside
this file says the same for editors.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from bncheck import limits
from bncheck.config.keys import ConfigError, Table, check_options, names
from bncheck.config.lines import line_of
from bncheck.config.policy import Exemption, Policy, Section
from bncheck.rules import find_rule

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE: Final = "bncheck.toml"
_PROJECT: Final = "pyproject.toml"


def find_policy(directory: str) -> str | None:
    """Return the policy's file in a directory, or the nearest one above it; None without one.

    A `pyproject.toml` counts where it has `[tool.bncheck]`.
    """
    here = os.path.realpath(directory)
    while True:
        own, project = (os.path.join(here, name) for name in (FILE, _PROJECT))
        if os.path.lexists(own):
            return own
        if os.path.isfile(project) and _section(_read(project), project) is not None:
            return project
        parent = os.path.dirname(here)
        if parent == here:
            return None
        here = parent


def load_policy(path: str) -> Policy:
    """Read a policy; raises ConfigError with the file and line of the first mistake."""
    text = _read(path)
    content = _section(text, path)
    if content is None:
        raise ConfigError(path, 0, "has no [tool.bncheck]")
    prefix = ("tool", "bncheck") if os.path.basename(path) == _PROJECT else ()
    top = Table(path, text, prefix, content)
    exemptions = tuple(_exemptions(top))
    sections = (_section_of(top, "*"), *_path_sections(top))
    options = check_options(top)
    return Policy(path, options, sections, exemptions)


def _read(path: str) -> str:
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigError(path, 0, "is not a regular file")
    try:
        with open(path, "rb") as file:
            data = file.read(limits.LARGEST_POLICY + 1)
    except OSError as error:
        raise ConfigError(path, 0, f"cannot be read: {error.strerror}") from None
    if len(data) > limits.LARGEST_POLICY:
        raise ConfigError(path, 0, "is too long for a policy")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(path, 0, "is not UTF-8") from None


def _section(text: str, path: str) -> dict[str, Any] | None:
    """Return the policy within a file's text; None where a project has none."""
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(path, 0, "is no TOML: it is nested too deep") from None
    except ValueError as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise ConfigError(path, 0, f"is no TOML: {error}") from None
    if os.path.basename(path) != _PROJECT:
        return content
    tool = content.get("tool")
    section = tool.get("bncheck") if isinstance(tool, dict) else None
    if section is not None and not isinstance(section, dict):
        line = line_of(text, ("tool", "bncheck"))
        raise ConfigError(path, line, "tool.bncheck must be a table")
    return section


def _section_of(table: Table, path: str) -> Section:
    """Take out of a table what a section of a path may say, too."""
    momentum = table.take("momentum", (int, float, dict))
    general: float | None = None
    momenta: tuple[tuple[str, float], ...] = ()
    if isinstance(momentum, dict):
        inner = table.below("momentum", momentum)
        momenta = tuple((glob, inner.fraction(glob)) for glob in momentum)
    elif momentum is not None:
        table.put_back("momentum", momentum)
        general = table.fraction("momentum")
    fail_on = table.choice("fail-on", ("error", "warning", "note", "never"))
    require = table.take("require-batch-norm", (bool,))
    return Section(
        path=path,
        select=table.rules("select"),
        ignore=table.rules("ignore"),
        fail_on=fail_on,
        levels=table.levels(),
        momentum=general,
        momenta=momenta,
        thresholds=table.thresholds(),
        require_batch_norm=require,
    )


def _path_sections(top: Table) -> Iterator[Section]:
    sections = top.take("path", (dict,)) or {}
    for pattern, content in sections.items():
        inner = top.below("path", sections)
        if not isinstance(content, dict):
            raise inner.error(pattern, "must be a table: [path.'models/gan/*']")
        table = inner.below(pattern, content)
        yield _section_of(table, pattern)
        table.refuse_the_rest(names(Section))


def _exemptions(top: Table) -> Iterator[Exemption]:
    for number, content in enumerate(top.take("exceptions", (list,)) or []):
        line = line_of(top.text, (*top.prefix, "exceptions"), number)
        table = Table(top.path, top.text, (*top.prefix, "exceptions"), content, line)
        rule = table.take("rule", (str,))
        found = find_rule(rule) if rule else None
        if found is None:
            raise table.error("rule", table.unknown_rule(rule) if rule else "is missing")
        reason = table.take("reason", (str,))
        if not reason or not reason.strip():
            raise table.error("reason", "is missing: say why this finding is right")
        yield Exemption(
            rule=found.code,
            layer=table.pattern("layer"),
            checkpoint=table.pattern("checkpoint"),
            reason=reason,
            expires=table.date("expires"),
            line=line,
        )
        table.refuse_the_rest(("rule", "layer", "checkpoint", "reason", "expires"))
