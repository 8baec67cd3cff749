"""Which checkpoints a gate is about: paths, globs, and what lies below directories.

A gate must not pass what it did not see: whatever claims to be a checkpoint by its name is a
target, damaged or not, and so is a directory that cannot be listed.
"""

from __future__ import annotations

import glob
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.checkpoint.directory import all_in, is_keras_directory
from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.location import DATA_FILE, SAVED_MODEL, V1_SHARD, glob_files
from bncheck.checkpoint.state_file import STATE_FILE, all_prefixes
from bncheck.errors import BncheckError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MAGIC: Final = frozenset("*?[")
_CLAIMS: Final = re.compile(r"(?s).*\.(index|keras|h5|hdf5|weights\.json)")
_KERAS_PART: Final = re.compile(r"(?s)(?P<name>.*)_\d{5}\.weights\.h5")
_OWN_PARTS: Final = ("variables", "assets", "assets.extra")
_KERAS_WEIGHTS: Final = ("model.weights.h5", "model.weights.json")


class Target(NamedTuple):
    """One checkpoint to audit, by the path that finds it, or why nothing is found there.

    `prefix` is what TensorFlow calls its place; empty where there is none.
    """

    path: str
    problem: str = ""
    prefix: str = ""


def find_targets(paths: Sequence[str], *, recursive: bool) -> list[Target]:
    """Return the checkpoints that paths and globs (with `**`) mean, each once, in their order.

    A directory means what it means to `bncheck inspect`; with `recursive`, all that lie in it and
    below it; links to directories below it are not followed. A path that leads to nothing, a glob
    that matches nothing beside other paths included, is a target that cannot be audited.
    """
    found: dict[str, Target] = {}
    for path in paths:
        here = [_located(each) for each in _matched(path, recursive=recursive)]
        if not here and len(paths) > 1:
            here = [Target(path, "matches no checkpoint")]
        for target in here:
            found.setdefault(os.path.realpath(target.prefix or target.path), target)
    return list(found.values())


def _located(target: Target) -> Target:
    if target.problem:
        return target
    try:
        return target._replace(prefix=locate(target.path).prefix)
    except BncheckError:  # the audit will say why
        return target


def _matched(path: str, *, recursive: bool) -> Iterator[Target]:
    if not _MAGIC & set(path) or os.path.lexists(path):
        yield from _at(path, recursive=recursive)
        return
    for match in sorted(glob.glob(path, recursive=True)):
        if os.path.isdir(match) and not recursive:
            # `models/**` matches every directory on the way, and every file in it.
            if any(_in(match)):
                yield Target(match)
        elif os.path.isdir(match):
            yield from _below(match)
        elif any(each.path in (match, match.removesuffix(".index")) for each in _beside(match)):
            yield Target(match.removesuffix(".index"))


def _at(path: str, *, recursive: bool) -> Iterator[Target]:
    if recursive and os.path.isdir(path):
        yield from _below(path)
    else:
        yield Target(path)


def _beside(path: str) -> Iterator[Target]:
    return _in(os.path.dirname(path) or ".") if os.path.dirname(path) else _plain(_in("."))


def _plain(targets: Iterable[Target]) -> Iterator[Target]:
    """Yield targets of the working directory as a glob without a directory names them."""
    for target in targets:
        yield target._replace(path=target.path.removeprefix("./"))


def _below(directory: str) -> Iterator[Target]:
    """Yield every checkpoint in a directory and below it, and what cannot be listed."""
    problems: list[Target] = []

    def note(error: OSError) -> None:
        where = str(error.filename or directory)
        problems.append(Target(where, f"cannot be listed: {error.strerror}"))

    for here, directories, files in os.walk(directory, onerror=note):
        if any(name in files for name in SAVED_MODEL):
            directories[:] = [name for name in directories if name not in _OWN_PARTS]
        directories.sort()
        yield from _in(here)
    yield from problems


def _in(directory: str) -> Iterator[Target]:
    """Yield whatever in a directory itself is a checkpoint, or claims to be one."""
    try:
        names = sorted(os.listdir(directory))
        locations = all_in(directory)
    except (BncheckError, OSError) as error:
        yield Target(directory, str(error))
        return
    keras = is_keras_directory(directory)
    own = set(_KERAS_WEIGHTS) if keras else set()
    found = [e.prefix for e in locations if os.path.basename(e.prefix) not in own]
    models = [name for name in names if name in SAVED_MODEL]
    if models or keras:
        # By its file where a state file or another checkpoint beside it would be meant instead.
        alone = not found and STATE_FILE not in names
        yield Target(directory if alone or keras else os.path.join(directory, models[0]))
    covered = {*found, *(path for each in locations for path in each.files)}
    yield from map(Target, found)
    claims = (_claim(os.path.join(directory, name), own) for name in names)
    listed = _listed(os.path.join(directory, STATE_FILE)) if STATE_FILE in names else ()
    for prefix in dict.fromkeys([*filter(None, claims), *listed]):
        if prefix not in covered:
            yield Target(prefix)


def _claim(path: str, own: Iterable[str]) -> str:
    """Return the checkpoint that a file's name says it is, or is part of; empty if it says none."""
    name = os.path.basename(path)
    data, shard, part = (each.fullmatch(path) for each in (DATA_FILE, V1_SHARD, _KERAS_PART))
    if data:
        return data["prefix"]
    if part and os.path.lexists(f"{part['name']}.weights.json"):
        return ""
    if name in own or not (_CLAIMS.fullmatch(name) or (shard and os.path.isfile(path))):
        return ""
    return shard["prefix"] if shard else path.removesuffix(".index")


def _listed(state: str) -> Iterator[str]:
    """Yield the checkpoints beside a state file that it lists and that have any file.

    What it lists elsewhere may be what the directory was copied from.
    """
    here = os.path.realpath(os.path.dirname(state))
    try:
        prefixes = [
            prefix
            for each in all_prefixes(state)
            for prefix in each
            if os.path.realpath(os.path.dirname(prefix)) == here
        ]
    except BncheckError as error:
        yield error.path
        return
    for prefix in prefixes:
        if os.path.isfile(prefix) or glob_files(prefix, ".data-*"):
            yield prefix
