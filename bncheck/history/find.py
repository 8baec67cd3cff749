"""Which checkpoints a run has, in the order in which they were written as far as names tell."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from bncheck.checkpoint.directory import all_in
from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.location import Kind, at_prefix, glob_files, listed, saved_model
from bncheck.checkpoint.state_file import STATE_FILE, all_prefixes
from bncheck.errors import BncheckError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bncheck.checkpoint.location import Location

_NUMBER: Final = re.compile(r"\d+")
_DECIMAL: Final = re.compile(r"\d+\.\d+")  # a loss, as in weights.05-0.83.h5


def find_checkpoints(paths: Sequence[str]) -> list[Location]:
    """Return the checkpoints in directories, and those that are named themselves, each once.

    A directory has what lies in it and what its state file lists; where that is nothing, the
    SavedModels right below it. Raises NotFoundError where a path has none, and what `locate`
    raises of a path that is no directory.
    """
    found: dict[str, Location] = {}
    places: dict[str, int] = {}
    for path in paths:
        if os.path.isdir(path):
            here, told = _in_directory(path), _listed_by_state(path)
        else:
            here = [locate(path)]
            told = [_real(each.prefix) for each in here]
        for prefix in told:
            places.setdefault(prefix, len(places))
        for location in here:
            found.setdefault(_real(location.prefix), location)
    order = {prefix: _order(each, places.get(prefix, -1)) for prefix, each in found.items()}
    return [found[prefix] for prefix in sorted(found, key=lambda each: order[each])]


def _real(prefix: str) -> str:
    directory, name = os.path.split(os.path.abspath(prefix))
    return os.path.join(os.path.realpath(directory), name)


def number_of(location: Location) -> int | None:
    """Return the step that a checkpoint's name ends in: `model.ckpt-120`, `epoch-03.weights.h5`."""
    name = os.path.basename(location.prefix.rstrip("/")).partition(".h5")[0]
    numbers = _NUMBER.findall(_DECIMAL.sub("", name))
    return int(numbers[-1]) if numbers and len(numbers[-1]) < 19 else None


def files_of(location: Location) -> list[str]:
    """Return the files that tell when a checkpoint was written, as far as they are there now.

    Of a V2 checkpoint that is the index: TensorFlow writes it last, and deletes it first.
    """
    prefix = location.prefix
    if location.kind is Kind.SAVED_MODEL:
        files = glob_files(os.path.join(prefix, "variables", ""), "*.index")
    elif location.kind is Kind.BUNDLE:
        files = [prefix + ".index"]
    elif location.kind in (Kind.KERAS_DIRECTORY, Kind.KERAS_SHARDS):
        directory = prefix if os.path.isdir(prefix) else os.path.dirname(prefix)
        files = glob_files(os.path.join(directory, ""), "*")
    else:
        files = list(location.files or [prefix])
    return [path for path in files if os.path.exists(path)]


def _order(location: Location, place: int) -> tuple[float, int, float, str]:
    """Sort by the number in the name, then as the state file or the command line lists them."""
    number = number_of(location)
    modified = max((_modified(path) for path in files_of(location)), default=0.0)
    return (float("inf") if number is None else number, place, modified, location.prefix)


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:  # gone since it was listed
        return 0.0


def _in_directory(directory: str) -> Iterable[Location]:
    """Return what lies in a directory; what its state file lists elsewhere belongs to it, too."""
    here = _real(os.path.join(directory, ""))
    elsewhere = (p for p in _listed_by_state(directory) if os.path.dirname(p) != here.rstrip("/"))
    found = [*filter(None, map(_at, elsewhere)), *all_in(directory)]
    if not found:
        below = (os.path.join(directory, name) for name in listed(directory))
        own = saved_model(directory)
        found = [own] if own else [model for path in below if (model := saved_model(path))]
    if not found:
        raise NotFoundError(directory, "there is no checkpoint in this directory")
    return found


def _at(prefix: str) -> Location | None:
    try:
        return at_prefix(prefix)
    except BncheckError:  # a shard is missing: it is being deleted, or was copied by half
        return None


def _listed_by_state(directory: str) -> list[str]:
    """Return the prefixes that the state file lists, the oldest first; nothing where it has none.

    Most of what it ever listed is deleted by now.
    """
    state = os.path.join(directory, STATE_FILE)
    try:
        return [_real(prefix) for each in all_prefixes(state) for prefix in each[:1]]
    except BncheckError:  # absent, being written just now, or damaged: the directory tells as much
        return []
