"""What is at a path: a checkpoint's prefix, one of its files, or a directory with some.

The kind of a file is told by its content. V2 goes before V1 where both are there, as in
TensorFlow's CheckpointReader (tensorflow/c/checkpoint_reader.cc).
"""

from __future__ import annotations

import glob
import os
import re
from enum import Enum
from typing import NamedTuple

from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.sniff import describe
from bncheck.checkpoint.state_file import (
    STATE_FILE,
    candidate_prefixes,
    is_state_file,
    read_state,
)
from bncheck.checkpoint.table import Table, has_table_footer
from bncheck.errors import (
    AmbiguousError,
    BncheckError,
    DamagedError,
    NotACheckpointError,
    NotFoundError,
    UnsupportedError,
)

_DATA_FILE = re.compile(r"(?s)(?P<prefix>.*)\.data-\d{5}-of-\d{5}")
_V1_SHARD = re.compile(r"(?s)(?P<prefix>.*)-(?P<shard>\d{5}|\?{5})-of-(?P<count>(?!00000)\d{5})")
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")


class Kind(Enum):
    """The forms of a TensorFlow checkpoint on disk."""

    BUNDLE = "a V2 checkpoint"
    SLICES = "a V1 checkpoint"


class Location(NamedTuple):
    """A checkpoint that was found: its prefix, its V1 files, and remarks for a person.

    `files` is empty for a bundle, whose header says how many data files there are.
    """

    kind: Kind
    prefix: str
    files: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def locate(path: str) -> Location:
    """Find the checkpoint that `path` means.

    Raises NotFoundError, NotACheckpointError or AmbiguousError, each with what was found instead.
    """
    if not path:
        raise NotFoundError("''", "is an empty path")
    if not os.path.isabs(path) and not os.path.isdir("."):
        raise NotFoundError(path, "cannot be found: the working directory is gone")
    if os.path.isdir(path):
        # tf.train.load_checkpoint, too, asks first whether the path is a directory.
        return _in_directory(path)
    if os.path.lexists(path):
        return _of_file(path)
    return _of_prefix(path)


def _of_prefix(prefix: str) -> Location:
    """Find the checkpoint of a prefix that is no file, or say which of its files is there."""
    found = _at_prefix(prefix)
    if found:
        return found
    if _DATA_FILE.fullmatch(next(iter(_glob(prefix, ".data-*")), "")):
        raise NotFoundError(
            prefix + ".index",
            "the data files of this checkpoint are here, but its index is not",
            remedy="Copy the index, too: without it the data files have no names.",
        )
    if os.path.isfile(prefix + ".meta"):
        raise NotFoundError(
            prefix, "only the graph (.meta) is here", remedy="Copy the .index and .data files, too."
        )
    raise NotFoundError(prefix, "no such file, directory or checkpoint", remedy=_neighbours(prefix))


def _at_prefix(prefix: str) -> Location | None:
    if os.path.isfile(prefix + ".index"):
        return Location(Kind.BUNDLE, prefix)
    if os.path.isfile(prefix) and _table_kind(prefix) is Kind.SLICES:
        return Location(Kind.SLICES, prefix, (prefix,))
    shard = _V1_SHARD.fullmatch(prefix)
    if shard and "?" in shard["shard"]:
        prefix = shard["prefix"]
    count = shard["count"] if shard and "?" in shard["shard"] else "?????"
    files = [file for file in _glob(prefix, f"-?????-of-{count}") if _V1_SHARD.fullmatch(file)]
    return _v1_shards(prefix, files) if files else None


def _v1_shards(prefix: str, files: list[str]) -> Location:
    counts = {int(match["count"]) for match in map(_V1_SHARD.fullmatch, files) if match}
    if len(counts) > 1:
        raise AmbiguousError(
            prefix,
            f"there are V1 checkpoints of {' and of '.join(map(str, sorted(counts)))} shards here",
            remedy="Name the first file of the one that you mean.",
        )
    count = counts.pop()
    expected = [f"{prefix}-{shard:05d}-of-{count:05d}" for shard in range(min(count, 1 << 16))]
    missing = sorted(set(expected) - set(files))
    if missing:
        raise NotFoundError(
            missing[0],
            f"{len(missing)} of {count} files of this V1 checkpoint are missing",
            remedy="Copy all of them: each lists only its own variables.",
        )
    return Location(Kind.SLICES, prefix, tuple(expected))


def _of_file(path: str) -> Location:
    if os.path.isfile(path + ".index"):
        return Location(Kind.BUNDLE, path)
    with RegularFile(path) as file:
        state = not has_table_footer(file) and is_state_file(file)
    if state:
        return _from_state_file(path)
    kind = _table_kind(path)
    shard = _V1_SHARD.fullmatch(path)
    if kind is Kind.SLICES and shard:
        count = shard["count"]
        return _v1_shards(shard["prefix"], _glob(shard["prefix"], f"-?????-of-{count}"))
    if kind is Kind.SLICES:
        return Location(kind, path, (path,))
    if path.endswith(".index"):
        # Opening it says what is wrong with it, if anything is.
        return Location(Kind.BUNDLE, path[: -len(".index")])
    if kind is Kind.BUNDLE:
        raise UnsupportedError(
            path,
            "is the index of a V2 checkpoint under another name",
            remedy="Its data files are found by its name: call it PREFIX.index.",
        )
    data = _DATA_FILE.fullmatch(path)
    if data:
        return _of_prefix(data["prefix"])
    if path.endswith(".meta"):
        return _of_prefix(path[: -len(".meta")])
    with RegularFile(path) as file:
        raise NotACheckpointError(path, f"is no TensorFlow checkpoint but {describe(file)}")


def _table_kind(path: str) -> Kind | None:
    """Tell a V1 table from a V2 index by its header.

    None where the file is no table, or has no header.
    """
    with RegularFile(path) as file:
        if not has_table_footer(file):
            return None
        first = Table(file).first()
    if first is None or first[0] != b"":
        return None  # LevelDB's own tables end with the same magic number
    # SavedTensorSlices starts with the length-delimited field 1, a BundleHeaderProto with a number.
    return Kind.SLICES if first[1][:1] == b"\x0a" else Kind.BUNDLE


def _in_directory(directory: str) -> Location:
    state = os.path.join(directory, STATE_FILE)
    if os.path.isfile(state):
        return _from_state_file(state)
    found = _all_in(directory)
    if len(found) == 1:
        return _whole(found[0])
    if found:
        raise AmbiguousError(
            directory,
            f"there are {len(found)} checkpoints here and no state file that names the latest",
            remedy=f"Name one: {_some(found)}.",
        )
    beside = _at_prefix(directory.rstrip("/")) if not directory.endswith("/") else None
    if beside:
        return beside
    if any(os.path.isfile(os.path.join(directory, name)) for name in _SAVED_MODEL):
        raise UnsupportedError(
            directory,
            "is a SavedModel, which this version does not read",
            remedy="Inspect the checkpoint that it was exported from.",
        )
    below = [name for name in _listed(directory) if _has_state_file(directory, name)]
    raise NotFoundError(
        directory,
        "there is no checkpoint in this directory",
        remedy=f"There may be one below it, in {', '.join(below[:5])}." if below else "",
    )


def _has_state_file(directory: str, name: str) -> bool:
    return os.path.isfile(os.path.join(directory, name, STATE_FILE))


def _from_state_file(state: str) -> Location:
    directory = os.path.dirname(state)
    try:
        written = read_state(state)
        prefixes = candidate_prefixes(directory, written)
    except BncheckError as error:
        return _only_one(directory, str(error))
    for prefix in prefixes:
        found = _at_prefix(prefix)
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


def _why_not(prefixes: list[str]) -> str:
    """Say why the checkpoint that a state file names cannot be read."""
    if any(map(os.path.isfile, prefixes)):
        return "which is no checkpoint, or cut off"
    if any(_glob(prefix, ".data-*") for prefix in prefixes):
        return "whose index is missing"
    return "which is not there"


def _short(written: str) -> str:
    return written if len(written) <= 300 else written[:300] + "..."


def _is_outside(prefix: str, directory: str) -> bool:
    return os.path.realpath(os.path.dirname(prefix)) != os.path.realpath(directory or ".")


def _only_one(directory: str, problem: str) -> Location:
    """Fall back on the only checkpoint of a directory whose state file is of no use."""
    found = _all_in(directory)
    if len(found) == 1:
        return _whole(found[0])._replace(
            remarks=(f"{problem}; read the only checkpoint there: {found[0].prefix}",)
        )
    if not found:
        raise NotFoundError(
            directory or ".", f"{problem}, and there is no checkpoint in this directory"
        )
    raise AmbiguousError(
        directory or ".", problem, remedy=f"Name one of those that are there: {_some(found)}."
    )


def _all_in(directory: str) -> list[Location]:
    """Return the checkpoints whose files lie in the directory itself, by name."""
    found: dict[str, Location] = {}
    for path in (os.path.join(directory, name) for name in _listed(directory)):
        if os.path.isfile(path):
            location = _checkpoint_of(path)
            if location:
                found.setdefault(location.prefix, location)
    return list(found.values())


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory or "."))
    except OSError as error:
        raise NotFoundError(directory, f"cannot be listed: {error.strerror}") from None


def _checkpoint_of(path: str) -> Location | None:
    """Return the checkpoint that a file of a directory stands for, None where it stands for none.

    A file that claims to be one and is damaged still counts: opening it will say what is wrong.
    """
    if path.endswith(".index"):
        prefix = path[: -len(".index")]
        whole = _has_footer(path) or _glob(prefix, ".data-*")
        return Location(Kind.BUNDLE, prefix) if whole else None
    if _DATA_FILE.fullmatch(path) or not _has_footer(path):
        return None
    shard = _V1_SHARD.fullmatch(path)
    if shard:
        count = shard["count"]
        files = _glob(shard["prefix"], f"-?????-of-{count}")
        return Location(Kind.SLICES, shard["prefix"], tuple(files))
    try:
        kind = _table_kind(path)
    except DamagedError:
        kind = Kind.SLICES
    return Location(kind, path, (path,)) if kind is Kind.SLICES else None


def _whole(location: Location) -> Location:
    """Check that a V1 checkpoint's files are all there; a listing does not."""
    if location.files and location.files != (location.prefix,):
        return _v1_shards(location.prefix, list(location.files))
    return location


def _has_footer(path: str) -> bool:
    try:
        with RegularFile(path) as file:
            return has_table_footer(file)
    except BncheckError:  # somebody else's file, or gone since it was listed
        return False


def _glob(prefix: str, pattern: str) -> list[str]:
    return sorted(glob.glob(glob.escape(prefix) + pattern))


def _some(found: list[Location]) -> str:
    names = [location.prefix for location in found]
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _neighbours(prefix: str) -> str:
    """Name the checkpoints whose names are nearest to one that is not there."""
    directory = os.path.dirname(prefix)
    if not os.path.isdir(directory or "."):
        return f"The directory {directory} does not exist." if directory else ""
    from difflib import get_close_matches

    there = {os.path.basename(location.prefix): location for location in _all_in(directory)}
    near = get_close_matches(os.path.basename(prefix), there, n=5, cutoff=0.4)
    return f"Did you mean {_some([there[name] for name in near])}?" if near else ""
