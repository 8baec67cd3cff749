"""What is at a path: a checkpoint's prefix, one of its files, or a directory with some.

The kind of a file is told by its content. V2 goes before V1 where both are there, as in
TensorFlow's CheckpointReader (tensorflow/c/checkpoint_reader.cc).
"""

from __future__ import annotations

import os

from bncheck.checkpoint.directory import all_in, from_state_file, in_directory, some
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
    table_kind,
    v1_shards,
)
from bncheck.checkpoint.sniff import describe
from bncheck.checkpoint.state_file import is_state_file
from bncheck.checkpoint.table import has_table_footer
from bncheck.errors import NotACheckpointError, NotFoundError, UnsupportedError


def locate(path: str) -> Location:
    """Find the checkpoint that `path` means.

    Raises NotFoundError, NotACheckpointError or AmbiguousError, each with what was found instead.
    """
    if not path:
        raise NotFoundError("''", "is an empty path")
    if not os.path.isabs(path) and not os.path.isdir("."):
        raise NotFoundError(
            path,
            "cannot be found: the working directory is gone",
            remedy="Change to one that is there.",
        )
    if os.path.isdir(path):
        # tf.train.load_checkpoint, too, asks first whether the path is a directory.
        return in_directory(path)
    if os.path.lexists(path):
        return _of_file(path)
    return _of_prefix(path)


def _of_prefix(prefix: str) -> Location:
    """Find the checkpoint of a prefix that is no file, or say which of its files is there."""
    found = at_prefix(prefix)
    if found:
        return found
    if DATA_FILE.fullmatch(next(iter(glob_files(prefix, ".data-*")), "")):
        raise NotFoundError(
            prefix + ".index",
            "the data files of this checkpoint are here, but its index is not",
            remedy="Copy the index, too: without it the data files have no names.",
        )
    if os.path.isfile(prefix + ".meta"):
        raise NotFoundError(
            prefix, "only the graph (.meta) is here", remedy="Copy the .index and .data files, too."
        )
    raise NotFoundError(
        prefix, "no such file, directory or checkpoint", remedy=_neighbours(prefix) or None
    )


def _of_file(path: str) -> Location:
    if os.path.isfile(path + ".index"):
        return at_prefix(path) or Location(Kind.BUNDLE, path)
    found = _by_content(path)
    if found is not None:
        return found
    kind = table_kind(path)
    shard = V1_SHARD.fullmatch(path)
    if kind is Kind.SLICES and shard:
        count = shard["count"]
        return v1_shards(shard["prefix"], glob_files(shard["prefix"], f"-?????-of-{count}"))
    if kind is Kind.SLICES:
        return Location(kind, path, (path,))
    if path.endswith(".index"):
        # Opening it says what is wrong with it, if anything is.
        prefix = path[: -len(".index")]
        return at_prefix(prefix) or Location(Kind.BUNDLE, prefix)
    if kind is Kind.BUNDLE:
        raise UnsupportedError(
            path,
            "is the index of a V2 checkpoint under another name",
            remedy="Its data files are found by its name: call it PREFIX.index.",
        )
    data = DATA_FILE.fullmatch(path)
    if data:
        return _of_prefix(data["prefix"])
    if path.endswith(".meta"):
        return _of_prefix(path[: -len(".meta")])
    with RegularFile(path) as file:
        what, remedy = describe(file)
    raise NotACheckpointError(
        path, f"is no TensorFlow checkpoint but {what}", remedy=remedy or None
    )


def _by_content(path: str) -> Location | None:
    """Return what a file means that is no table: a state file, Keras' own, a SavedModel's graph."""
    with RegularFile(path) as file:
        state = not has_table_footer(file) and is_state_file(file)
        keras = keras_kind(file)
    if state:
        return from_state_file(path)
    directory, name = os.path.split(path)
    if keras is None and name in SAVED_MODEL:
        return Location(Kind.SAVED_MODEL, directory or ".")
    return None if keras is None else Location(keras, path)


def _neighbours(prefix: str) -> str:
    """Name the checkpoints whose names are nearest to one that is not there."""
    directory = os.path.dirname(prefix)
    if not os.path.isdir(directory or "."):
        return f"The directory {directory} does not exist." if directory else ""
    from difflib import get_close_matches

    there = {os.path.basename(location.prefix): location for location in all_in(directory)}
    near = get_close_matches(os.path.basename(prefix), there, n=5, cutoff=0.4)
    return f"Did you mean {some([there[name] for name in near])}?" if near else ""
