"""Which checkpoints a gate is about: paths, globs, and what lies below directories."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, NamedTuple

from bncheck.checkpoint.directory import all_in, is_keras_directory
from bncheck.checkpoint.location import Kind, saved_model
from bncheck.errors import BncheckError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAGIC = frozenset("*?[")


class Target(NamedTuple):
    """One checkpoint to audit, by the path that finds it, or why nothing is found there."""

    path: str
    problem: str = ""


def find_targets(paths: Sequence[str], *, recursive: bool) -> list[Target]:
    """Return the checkpoints that paths and globs (with `**`) mean, each once, in their order.

    A directory means what it means to `bncheck inspect`; with `recursive`, all that lie in it and
    below it. A glob that matches nothing finds nothing; any other path that leads to nothing is a
    target that cannot be audited.
    """
    found: dict[str, Target] = {}
    for path in paths:
        for target in _matched(path, recursive=recursive):
            found.setdefault(os.path.realpath(target.path), target)
    return list(found.values())


def _matched(path: str, *, recursive: bool) -> Iterator[Target]:
    if not _MAGIC & set(path) or os.path.lexists(path):
        yield from _at(path, recursive=recursive)
        return
    matches = sorted(glob.glob(path, recursive=True))
    for match in matches:
        if os.path.isdir(match) and not recursive and not _holds_some(match):
            continue  # `models/**` matches every directory on the way
        if os.path.isfile(match) and not _starts_one(match):
            continue  # and every data file
        yield from _at(match, recursive=recursive)


def _at(path: str, *, recursive: bool) -> Iterator[Target]:
    if recursive and os.path.isdir(path):
        yield from _below(path)
    else:
        yield Target(path.removesuffix(".index") if os.path.isfile(path) else path)


def _holds_some(directory: str) -> bool:
    try:
        return bool(saved_model(directory) or is_keras_directory(directory) or all_in(directory))
    except BncheckError:
        return False


def _starts_one(path: str) -> bool:
    """Whether a file stands for a checkpoint: no data, no graph, no state beside one."""
    directory, name = os.path.split(path)
    prefix = path[: -len(".index")] if path.endswith(".index") else path
    try:
        return any(each.prefix == prefix for each in all_in(directory or "."))
    except BncheckError:
        return bool(name)


def _below(directory: str) -> Iterator[Target]:
    """Yield every checkpoint in a directory and below it; links to directories are not followed."""
    for here, directories, _ in os.walk(directory, onerror=None):
        directories.sort()
        model = saved_model(here)
        if model is not None or is_keras_directory(here):
            directories.clear()
            yield Target(here)
            continue
        try:
            locations = all_in(here)
        except BncheckError as error:
            yield Target(here, str(error))
            continue
        for location in locations:
            if location.kind is not Kind.SAVED_MODEL:
                yield Target(location.prefix)
