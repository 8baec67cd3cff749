"""Which checkpoint a directory means: its state file's latest, or the only one that is there."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.location import (
    DATA_FILE,
    SAVED_MODEL,
    V1_SHARD,
    Kind,
    Location,
    at_prefix,
    glob_files,
    keras_kind,
    listed,
    saved_model,
    table_kind,
    v1_shards,
)
from bncheck.checkpoint.state_file import STATE_FILE, candidate_prefixes, read_state
from bncheck.checkpoint.table import has_table_footer
from bncheck.errors import AmbiguousError, BncheckError, DamagedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

_KERAS_PART = re.compile(r"(?s)(?P<name>.*)_\d{5}\.weights\.h5")
_NAMED_BY_STATE = (Kind.BUNDLE, Kind.SLICES, Kind.SAVED_MODEL)
# What Keras writes with save(zipped=False); the weights may be in several files.
_KERAS_CONFIG = "config.json"
_KERAS_WEIGHTS = ("model.weights.h5", "model.weights.json")


def in_directory(directory: str) -> Location:
    """Return the checkpoint that a directory means.

    Raises NotFoundError where it holds none, AmbiguousError where it holds several.
    """
    state = os.path.join(directory, STATE_FILE)
    if os.path.isfile(state):
        return from_state_file(state)
    if is_keras_directory(directory):
        return Location(Kind.KERAS_DIRECTORY, directory)
    model = saved_model(directory)
    found = [*([model] if model else []), *all_in(directory)]
    if len(found) == 1:
        return _whole(found[0])
    if found:
        raise AmbiguousError(
            directory,
            f"there are {len(found)} checkpoints here and no state file that names the latest",
            remedy=f"Name one: {some(found)}.",
        )
    beside = at_prefix(directory.rstrip("/")) if not directory.endswith("/") else None
    if beside:
        return beside
    below = [name for name in listed(directory) if _has_checkpoint(directory, name)]
    raise NotFoundError(
        directory,
        "there is no checkpoint in this directory",
        remedy=f"There may be one below it, in {', '.join(below[:5])}." if below else None,
    )


def is_keras_directory(directory: str) -> bool:
    """Whether a directory is an unzipped Keras archive."""
    weights = any(os.path.isfile(os.path.join(directory, name)) for name in _KERAS_WEIGHTS)
    # Whatever has that name: a link that leads nowhere is no reason to guess what it says.
    return weights and os.path.lexists(os.path.join(directory, _KERAS_CONFIG))


def _has_checkpoint(directory: str, name: str) -> bool:
    return any(os.path.isfile(os.path.join(directory, name, f)) for f in (STATE_FILE, *SAVED_MODEL))


def from_state_file(state: str) -> Location:
    """Return the checkpoint that a state file names, or the only one beside it.

    Raises as `in_directory` does.
    """
    directory = os.path.dirname(state)
    try:
        written = read_state(state)
        prefixes = candidate_prefixes(directory, written)
    except BncheckError as error:
        return _only_one(directory, error.problem)
    for prefix in prefixes:
        found = at_prefix(prefix) or _keras_at(prefix)
        if found and _is_outside(prefix, directory):
            remark = f"the state file points to another directory: {_short(written)}"
            return found._replace(remarks=(remark,))
        if found and prefix != prefixes[0]:
            remark = f"the state file's path is stale ({_short(written)}); read {prefix} instead"
            return found._replace(remarks=(remark,))
        if found:
            return found
    gone = f"names {_short(written)!r}, {_why_not(prefixes)}" if written else "names no checkpoint"
    return _only_one(directory, f"the state file {gone}")


def _keras_at(path: str) -> Location | None:
    """Return the Keras file that a state file names; tf.train.latest_checkpoint names it, too."""
    kind = _keras_kind(path) if os.path.isfile(path) else None
    return None if kind is None else Location(kind, path)


def _why_not(prefixes: list[str]) -> str:
    """Say why the checkpoint that a state file names cannot be read."""
    if any(map(os.path.isfile, prefixes)):
        return "which is no checkpoint, or cut off"
    if any(glob_files(prefix, ".data-*") for prefix in prefixes):
        return "whose index is missing"
    return "which is not there"


def _short(written: str) -> str:
    return written if len(written) <= 300 else written[:300] + "..."


def _is_outside(prefix: str, directory: str) -> bool:
    return os.path.realpath(os.path.dirname(prefix)) != os.path.realpath(directory or ".")


def _only_one(directory: str, problem: str) -> Location:
    """Fall back on the only checkpoint of a directory whose state file is of no use.

    Keras files are not what a state file speaks of.
    """
    found = [each for each in all_in(directory) if each.kind in _NAMED_BY_STATE]
    if len(found) == 1:
        return _whole(found[0])._replace(
            remarks=(f"{problem}; read the only checkpoint there: {found[0].prefix}",)
        )
    if not found:
        raise NotFoundError(
            directory or ".", f"{problem}, and there is no checkpoint in this directory"
        )
    raise AmbiguousError(
        directory or ".", problem, remedy=f"Name one of those that are there: {some(found)}."
    )


def all_in(directory: str) -> list[Location]:
    """Return the checkpoints whose files lie in the directory itself, by name."""
    found: dict[str, Location] = {}
    names = listed(directory)
    beside = _Beside(directory, names)
    for path in (os.path.join(directory, name) for name in names):
        if os.path.isfile(path):
            location = _checkpoint_of(path, beside)
            if location:
                found.setdefault(location.prefix, location)
    return list(found.values())


class _Beside:
    """The files of a directory by their prefixes, so that it is listed once for all of them."""

    def __init__(self, directory: str, names: Iterable[str]) -> None:
        self.with_data: set[str] = set()
        self.shards: dict[tuple[str, str], list[str]] = {}
        for path in (os.path.join(directory, name) for name in names):
            data = DATA_FILE.fullmatch(path)
            shard = V1_SHARD.fullmatch(path)
            if data:
                self.with_data.add(data["prefix"])
            elif shard:
                self.shards.setdefault((shard["prefix"], shard["count"]), []).append(path)


def _checkpoint_of(path: str, beside: _Beside) -> Location | None:
    """Return the checkpoint that a file of a directory stands for, None where it stands for none.

    A file that claims to be one and is damaged still counts: opening it will say what is wrong.
    """
    if path.endswith(".index"):
        prefix = path[: -len(".index")]
        whole = _has_footer(path) or prefix in beside.with_data
        return (at_prefix(prefix) or Location(Kind.BUNDLE, prefix)) if whole else None
    if DATA_FILE.fullmatch(path):
        return None
    keras = _keras_kind(path)
    if keras is not None:
        return None if _is_part_of_keras_weights(path) else Location(keras, path)
    if not _has_footer(path):
        return None
    shard = V1_SHARD.fullmatch(path)
    if shard:
        files = beside.shards[shard["prefix"], shard["count"]]
        return Location(Kind.SLICES, shard["prefix"], tuple(files))
    try:
        kind = table_kind(path)
    except NotFoundError:  # gone since it was listed
        return None
    except DamagedError:
        kind = Kind.SLICES
    return Location(kind, path, (path,)) if kind is Kind.SLICES else None


def _whole(location: Location) -> Location:
    """Check that a V1 checkpoint's files are all there; a listing does not."""
    if location.files and location.files != (location.prefix,):
        return v1_shards(location.prefix, list(location.files))
    return location


def _keras_kind(path: str) -> Kind | None:
    try:
        with RegularFile(path) as file:
            return keras_kind(file)
    except BncheckError:  # somebody else's file, or gone since it was listed
        return None


def _is_part_of_keras_weights(path: str) -> bool:
    """Whether a file is one of several that hold a model's weights; their list speaks for them."""
    part = _KERAS_PART.fullmatch(path)
    return part is not None and os.path.isfile(f"{part['name']}.weights.json")


def _has_footer(path: str) -> bool:
    try:
        with RegularFile(path) as file:
            return has_table_footer(file)
    except BncheckError:  # somebody else's file, or gone since it was listed
        return False


def some(found: list[Location]) -> str:
    """Name a few of several checkpoints."""
    names = [location.prefix for location in found]
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
