"""Keras' archives: a `.keras` zip, or the same files in a directory.

`config.json` describes the model, `model.weights.h5` holds its weights (keras_weights.py), and
nothing is ever unpacked to disk. Keras stores its members without compression, and those are read
where they are in the zip; what somebody compressed later is read into memory, within limits.
`model.weights.npz` is a pickle, and is never loaded.

A compressed member's CRC-32 is checked. That of a stored one is checked up to 64 MiB; beyond that
it would take longer than all the rest, and damage shows only where HDF5 sees it.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.hdf5 import Hdf5File
from bncheck.checkpoint.keras_config import LARGEST, load_json, read_config
from bncheck.checkpoint.keras_weights import open_weights
from bncheck.errors import (
    BncheckError,
    DamagedError,
    NotACheckpointError,
    NotFoundError,
    UnsupportedError,
)

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Collection, Iterator
    from typing import Any, BinaryIO

    from bncheck.checkpoint.hdf5 import Source
    from bncheck.checkpoint.hdf5_checkpoint import Hdf5Checkpoint
    from bncheck.checkpoint.keras_config import Layer

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.weights.h5"
WEIGHTS_MAP: Final = "model.weights.json"
PICKLED: Final = "model.weights.npz"

LARGEST_UNPACKED: Final = 1 << 30  # bytes of a compressed member, which has to fit into memory
LARGEST_CHECKED: Final = 1 << 26  # bytes of a stored member whose CRC-32 is computed
_LONGEST_READ: Final = 1 << 24  # bytes of the zip's directory: zipfile reads it at once
_CHUNK: Final = 1 << 20
_STORED: Final = 0
_DEFLATED: Final = 8
_ENCRYPTED: Final = 1  # a flag bit
_LOCAL_HEADER: Final = 30


def open_archive(path: str) -> Hdf5Checkpoint:
    """Open a `.keras` archive; see Zip for the errors."""
    with Zip(path) as archive:
        return _open(archive, archive.members())


def open_directory(path: str) -> Hdf5Checkpoint:
    """Open an archive that is a directory, as `model.save(path, zipped=False)` writes it."""
    return _open(_Directory(path), os.listdir(path))


def open_sharded(path: str) -> Hdf5Checkpoint:
    """Open weights in shards by their map, `NAME.weights.json`."""
    folder, name = os.path.split(path)
    return _open_shards(_Directory(folder or "."), name, path, "keras-weights-h5", None)


def _open(store: Zip | _Directory, names: Collection[str]) -> Hdf5Checkpoint:
    if CONFIG not in names:
        raise NotACheckpointError(store.path, f"is no Keras archive: there is no {CONFIG} in it")
    model = read_config(store.read(CONFIG), store.path, CONFIG)
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
    raise NotFoundError(store.path, f"holds no weights ({WEIGHTS})")


def _open_shards(
    store: Zip | _Directory, name: str, path: str, form: str, model: Layer | None
) -> Hdf5Checkpoint:
    shards = read_weights_map(store.read(name), path, name)
    files = dict.fromkeys(file for each in shards.values() for file in each)
    return open_weights(path, form, [store.source(file) for file in files], model, shards)


def is_weights_map(file: RegularFile) -> bool:
    """Whether a file is the map of weights in shards; no other JSON maps weights to HDF5 files."""
    if file.size > LARGEST or not file.head(1024).lstrip().startswith(b"{"):
        return False
    try:
        weight_map = _weight_map(file.head(LARGEST), file.path, "it")
    except BncheckError:
        return False
    return any(".h5" in str(value) for value in weight_map.values())


def _weight_map(text: bytes, path: str, what: str) -> dict[str, Any]:
    loaded = load_json(text, path, what)
    weight_map = loaded.get("weight_map") if isinstance(loaded, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise NotACheckpointError(path, f"{what} maps no weights to files")
    return weight_map


def read_weights_map(text: bytes, path: str, what: str) -> dict[str, list[str]]:
    """Return the shards of each group; UnsupportedError where one is not beside the map."""
    shards = {}
    for group, value in _weight_map(text, path, what).items():
        files = value if isinstance(value, list) else [value]
        for file in files:
            if not isinstance(file, str) or not file.endswith(".h5"):
                raise DamagedError(path, f"{what} maps {group!r} to {file!r}, no HDF5 file")
            if re.search(r"[/\\:\0]", file):
                raise UnsupportedError(path, f"{what} leads out of its directory, to {file!r}")
        shards[group] = files
    return shards


class _Directory:
    """The files of an unzipped archive, or of weights in shards."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, name: str) -> bytes:
        with RegularFile(os.path.join(self.path, name)) as file:
            if file.size > LARGEST:
                raise DamagedError(
                    file.path, f"is {file.size} bytes long, more than any model needs"
                )
            return file.head(LARGEST)

    def source(self, name: str) -> Source:
        return partial(Hdf5File, os.path.join(self.path, name))


class _Window(io.RawIOBase):
    """A part of an open file as a stream of its own."""

    def __init__(
        self, file: RegularFile, start: int, size: int, longest: int | None = None
    ) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._size = size
        self._longest = longest
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._position))
        if self._longest is not None and count > self._longest:
            raise DamagedError(self._file.path, f"has a directory of {count} bytes")
        buffer[:count] = self._file.read(self._start + self._position, count, "a part of it")
        self._position += count
        return count


class Zip:
    """A zip archive whose members are read without unpacking it to disk.

    Raises DamagedError where it breaks the format, and UnsupportedError where a member is encrypted
    or compressed by anything but deflate.
    """

    def __init__(self, path: str) -> None:
        import zipfile  # 9 ms, and only Keras' archives need it

        self.path = path
        self._file = RegularFile(path)
        try:
            with self._errors():
                stream = _Window(self._file, 0, self._file.size, _LONGEST_READ)
                self._zip = zipfile.ZipFile(cast("BinaryIO", stream))
        except BaseException:
            self._file.close()
            raise
        infos = self._zip.infolist()
        self._infos = {info.filename: info for info in infos}
        # Which of them is meant depends on who reads the archive.
        self._twice = {info.filename for info in infos if info is not self._infos[info.filename]}

    def __enter__(self) -> Zip:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def members(self) -> Collection[str]:
        """Return the names of the members."""
        return self._infos.keys()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Tell what zipfile raises as DamagedError; no line of bncheck's own belongs inside."""
        from zipfile import BadZipFile

        try:
            yield
        except (BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
            raise DamagedError(
                self.path, f"is a damaged zip archive: {error}", remedy="Copy the file again."
            ) from None

    def _info(self, name: str) -> zipfile.ZipInfo:
        info = self._infos.get(name)
        if info is None:
            raise NotFoundError(self.path, f"there is no {name} in the archive")
        if name in self._twice:
            raise DamagedError(self.path, f"holds {name} twice")
        if info.flag_bits & _ENCRYPTED:
            raise UnsupportedError(self.path, f"{name} is encrypted")
        if info.compress_type not in (_STORED, _DEFLATED):
            raise UnsupportedError(
                self.path,
                f"{name} is compressed by the method {info.compress_type}",
                remedy="Keras compresses nothing: zip the files again without compression.",
            )
        return info

    def read(self, name: str, largest: int = LARGEST) -> bytes:
        """Return the content of a member, whose CRC-32 is checked."""
        info = self._info(name)
        if info.file_size > largest:
            raise DamagedError(self.path, f"{name} declares {info.file_size} bytes")
        chunks = []
        with self._errors(), self._zip.open(info) as member:
            # In pieces, so that memory grows with what is there, not with what is declared.
            while chunk := member.read(_CHUNK):
                chunks.append(chunk)
        content = b"".join(chunks)
        if len(content) != info.file_size:
            raise DamagedError(self.path, f"{name} is shorter than the archive says")
        return content

    def source(self, name: str) -> Source:
        """Return what opens a member as an HDF5 file, on its own and as often as is wanted."""
        self._check(name)
        return partial(_open_member, self.path, name)

    def _check(self, name: str) -> None:
        """Check a stored member's CRC-32 where that costs little, by reading it."""
        info = self._info(name)
        if info.compress_type == _STORED and info.file_size <= LARGEST_CHECKED:
            with self._errors(), self._zip.open(info) as member:
                while member.read(_CHUNK):
                    pass

    def stream(self, name: str) -> BinaryIO:
        """Return a member as a stream: a window onto the file, or what it unpacks to."""
        info = self._info(name)
        if info.compress_type == _DEFLATED:
            return io.BytesIO(self.read(name, LARGEST_UNPACKED))
        header = self._file.read(info.header_offset, _LOCAL_HEADER, f"the header of {name}")
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = info.header_offset + _LOCAL_HEADER + lengths
        if header[:4] != b"PK\x03\x04" or start + info.file_size > self._file.size:
            raise DamagedError(self.path, f"{name} is not where the archive says")
        if info.compress_size != info.file_size:
            raise DamagedError(self.path, f"{name} is stored, and declares two sizes")
        return cast("BinaryIO", _Window(self._file, start, info.file_size))


@contextmanager
def _open_member(path: str, name: str) -> Iterator[Hdf5File]:
    with Zip(path) as archive, Hdf5File(path, archive.stream(name), name) as file:
        yield file
