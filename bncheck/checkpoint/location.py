"""The forms of a checkpoint on disk, and which of them lies at a prefix."""

from __future__ import annotations

import glob
import os
import re
from enum import Enum
from typing import Final, NamedTuple

from bncheck.checkpoint.files import LET_READ, RegularFile
from bncheck.checkpoint.sniff import (
    KERAS_ARCHIVE,
    ZIP_MAGIC,
    describe,
    is_hdf5,
    may_be_weights_map,
)
from bncheck.checkpoint.table import Table, has_table_footer
from bncheck.errors import AmbiguousError, NotFoundError

DATA_FILE: Final = re.compile(r"(?s)(?P<prefix>.*)\.data-\d{5}-of-\d{5}")
V1_SHARD: Final = re.compile(
    r"(?s)(?P<prefix>.*)-(?P<shard>\d{5}|\?{5})-of-(?P<count>(?!00000)\d{5})"
)
SAVED_MODEL: Final = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
# Where a SavedModel keeps its variables; the second name is of TensorFlow before 0.12.
_VARIABLES: Final = ("variables/variables", "variables/saved_model_variables")


class Kind(Enum):
    """The forms of a TensorFlow or Keras checkpoint on disk."""

    BUNDLE = "a V2 checkpoint"
    SLICES = "a V1 checkpoint"
    SAVED_MODEL = "a SavedModel"
    KERAS_HDF5 = "a Keras HDF5 file"
    KERAS_ARCHIVE = "a Keras archive"
    KERAS_DIRECTORY = "an unzipped Keras archive"
    KERAS_SHARDS = "Keras weights in several files"


class Location(NamedTuple):
    """A checkpoint that was found, and remarks for a person.

    `prefix` is what TensorFlow calls its place: the prefix of its files, a SavedModel's directory,
    or a Keras file itself. `files` are those of a V1 checkpoint; all others say themselves what
    belongs to them.
    """

    kind: Kind
    prefix: str
    files: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def at_prefix(prefix: str) -> Location | None:
    """Return the V2 or V1 checkpoint of a prefix, None where there is none.

    Raises NotFoundError where a shard of a V1 checkpoint is missing, AmbiguousError where there are
    two of different numbers of shards.
    """
    if os.path.isfile(prefix + ".index"):
        return _owner(prefix) or Location(Kind.BUNDLE, prefix)
    if os.path.isfile(prefix) and table_kind(prefix) is Kind.SLICES:
        return Location(Kind.SLICES, prefix, (prefix,))
    shard = V1_SHARD.fullmatch(prefix)
    if shard and "?" in shard["shard"]:
        prefix = shard["prefix"]
    count = shard["count"] if shard and "?" in shard["shard"] else "?????"
    files = [file for file in glob_files(prefix, f"-?????-of-{count}") if V1_SHARD.fullmatch(file)]
    return v1_shards(prefix, files) if files else None


def _owner(prefix: str) -> Location | None:
    """Return the SavedModel whose variables a prefix names."""
    directory, name = os.path.split(os.path.abspath(prefix))
    if f"variables/{name}" not in _VARIABLES or os.path.basename(directory) != "variables":
        return None
    outer = os.path.dirname(os.path.dirname(prefix)) or ("." if os.path.dirname(prefix) else "..")
    return saved_model(outer)


def v1_shards(prefix: str, files: list[str]) -> Location:
    """Return the V1 checkpoint that some of its files stand for.

    Raises as `at_prefix` does.
    """
    counts = {int(match["count"]) for match in map(V1_SHARD.fullmatch, files) if match}
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


def table_kind(path: str) -> Kind | None:
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


def keras_kind(file: RegularFile) -> Kind | None:
    """Return which of Keras' forms a file has, None where it has none."""
    if is_hdf5(file):
        return Kind.KERAS_HDF5
    if file.head(len(ZIP_MAGIC)) == ZIP_MAGIC and describe(file) == KERAS_ARCHIVE:
        return Kind.KERAS_ARCHIVE
    if may_be_weights_map(file):
        from bncheck.checkpoint.keras_archive import is_weights_map  # zipfile takes 7 ms

        return Kind.KERAS_SHARDS if is_weights_map(file) else None
    return None


def saved_model(directory: str) -> Location | None:
    """Return the SavedModel that a directory is, None where it is none."""
    there = any(os.path.lexists(os.path.join(directory, name)) for name in SAVED_MODEL)
    return Location(Kind.SAVED_MODEL, directory) if there else None


def variables_prefix(directory: str) -> str:
    """Return the prefix of a SavedModel's variables.

    Raises NotFoundError where there are none: then its values are constants of the graph.
    """
    prefixes = [os.path.join(directory, *name.split("/")) for name in _VARIABLES]
    for prefix in prefixes:
        if os.path.lexists(prefix + ".index") or glob_files(prefix, ".data-*"):
            return prefix
    raise NotFoundError(
        prefixes[0] + ".index",
        "this SavedModel has no variables here, so there are no statistics to audit",
        remedy="Copy its variables/ directory, too. If it is frozen, inspect the checkpoint that "
        "it was made from.",
    )


def glob_files(prefix: str, pattern: str) -> list[str]:
    """Return the files of a prefix whose rest fits a pattern, in order."""
    if "\0" in prefix:
        return []  # no file can be called so
    return sorted(glob.glob(glob.escape(prefix) + pattern))


def listed(directory: str) -> list[str]:
    """Return the names in a directory, in order; NotFoundError where it cannot be listed."""
    try:
        return sorted(os.listdir(directory or "."))
    except OSError as error:
        raise NotFoundError(
            directory,
            f"cannot be listed: {error.strerror}",
            remedy=LET_READ if isinstance(error, PermissionError) else None,
        ) from None
