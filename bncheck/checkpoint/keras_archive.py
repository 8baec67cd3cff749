"""Keras' archives: a `.keras` zip, or the same files in a directory.

`config.json` describes the model, `model.weights.h5` holds its weights (keras_weights.py), and
nothing is ever unpacked to disk. Keras stores its members without compression, and those are read
where they are in the zip; what somebody compressed later is read into memory, within limits.
`model.weights.npz` is a pickle, and is never loaded.

A compressed member's CRC-32 is checked. That of a stored one is checked up to 64 MiB; beyond that
it would take longer than all the rest, and damage shows only where HDF5 sees it.
"""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING, Final

from bncheck import limits
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.hdf5 import Hdf5File
from bncheck.checkpoint.keras_config import load_json, read_config
from bncheck.checkpoint.keras_weights import open_weights
from bncheck.checkpoint.location import listed
from bncheck.checkpoint.model import quoted
from bncheck.checkpoint.zip_archive import Text, Zip
from bncheck.errors import (
    BncheckError,
    DamagedError,
    NotACheckpointError,
    NotFoundError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from bncheck.checkpoint.hdf5 import Source
    from bncheck.checkpoint.hdf5_checkpoint import Hdf5Checkpoint
    from bncheck.checkpoint.keras_config import Layer

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.weights.h5"
WEIGHTS_MAP: Final = "model.weights.json"
PICKLED: Final = "model.weights.npz"


def open_archive(path: str) -> Hdf5Checkpoint:
    """Open a `.keras` archive; see Zip for the errors."""
    with Zip(path) as archive:
        return _open(archive, archive.members())


def open_directory(path: str) -> Hdf5Checkpoint:
    """Open an archive that is a directory, as `model.save(path, zipped=False)` writes it.

    Raises NotFoundError where it cannot be listed.
    """
    return _open(_Directory(path), listed(path))


def open_sharded(path: str) -> Hdf5Checkpoint:
    """Open weights in shards by their map, `NAME.weights.json`."""
    folder, name = os.path.split(path)
    return _open_shards(_Directory(folder or "."), name, path, "keras-weights-h5", None)


def _open(store: Zip | _Directory, names: Collection[str]) -> Hdf5Checkpoint:
    if CONFIG not in names:
        raise NotACheckpointError(store.path, f"is no Keras archive: there is no {CONFIG} in it")
    text = store.read(CONFIG)
    model = read_config(text.content, text.path, text.what, text.start)
    if WEIGHTS in names:
        return open_weights(store.path, "keras-archive", [store.source(WEIGHTS)], model)
    if WEIGHTS_MAP in names:
        return _open_shards(store, WEIGHTS_MAP, store.path, "keras-archive", model)
    if PICKLED in names:
        raise UnsupportedError(
            store.path,
            f"keeps its weights in {PICKLED}, a pickle, which bncheck never loads",
            remedy="Load the model in Keras and save it again: the weights become HDF5.",
        )
    raise NotFoundError(
        store.path, f"holds no weights ({WEIGHTS})", remedy="Save the whole model again."
    )


def _open_shards(
    store: Zip | _Directory, name: str, path: str, form: str, model: Layer | None
) -> Hdf5Checkpoint:
    text = store.read(name)
    shards = read_weights_map(text)
    files = dict.fromkeys(file for each in shards.values() for file in each)
    sources = [store.source(file) for file in files]
    return open_weights(path, form, sources, model, (text.path, shards))


def is_weights_map(file: RegularFile) -> bool:
    """Whether a file is the map of weights in shards; no other JSON maps weights to HDF5 files."""
    if file.size > limits.LARGEST_JSON or not file.head(1024).lstrip().startswith(b"{"):
        return False
    try:
        weight_map = _weight_map(Text(file.head(limits.LARGEST_JSON), file.path))
    except BncheckError:
        return False
    return any(".h5" in str(value) for value in weight_map.values())


def _weight_map(text: Text) -> dict[str, Any]:
    loaded = load_json(text.content, text.path, text.what, text.start)
    weight_map = loaded.get("weight_map") if isinstance(loaded, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise NotACheckpointError(text.path, f"{text.what} maps no weights to files")
    return weight_map


def read_weights_map(text: Text) -> dict[str, list[str]]:
    """Return the shards of each group; UnsupportedError where one is not beside the map."""
    shards = {}
    for group, value in _weight_map(text).items():
        files = value if isinstance(value, list) else [value]
        for file in files:
            if not isinstance(file, str) or not file.endswith(".h5"):
                raise DamagedError(
                    text.path, f"{text.what} maps {quoted(group)} to {quoted(file)}, no HDF5 file"
                )
            if re.search(r"[/\\:\0]", file):
                raise UnsupportedError(
                    text.path,
                    f"{text.what} leads out of its directory, to {quoted(file)}",
                    remedy="Keras writes all files beside their map: where is it from?",
                )
        shards[group] = files
    return shards


class _Directory:
    """The files of an unzipped archive, or of weights in shards."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, name: str) -> Text:
        with RegularFile(os.path.join(self.path, name)) as file:
            if file.size > limits.LARGEST_JSON:
                raise DamagedError(
                    file.path, f"is {file.size} bytes long, more than any model needs"
                )
            return Text(file.head(limits.LARGEST_JSON), file.path)

    def source(self, name: str) -> Source:
        return partial(Hdf5File, os.path.join(self.path, name))
