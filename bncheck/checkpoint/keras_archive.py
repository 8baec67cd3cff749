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
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from bncheck import limits
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.hdf5 import Hdf5File
from bncheck.checkpoint.keras_config import load_json, read_config
from bncheck.checkpoint.keras_weights import open_weights
from bncheck.checkpoint.location import listed
from bncheck.checkpoint.model import quoted
from bncheck.checkpoint.window import Window
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

_CHUNK: Final = 1 << 20
_STORED: Final = 0
_DEFLATED: Final = 8
_ENCRYPTED: Final = 1  # a flag bit
_LOCAL_HEADER: Final = 30
_COPY_AGAIN: Final = "Copy the file again."


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
    if file.size > limits.LARGEST_JSON or not file.head(1024).lstrip().startswith(b"{"):
        return False
    try:
        weight_map = _weight_map(file.head(limits.LARGEST_JSON), file.path, "it")
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
                raise DamagedError(
                    path, f"{what} maps {quoted(group)} to {quoted(file)}, no HDF5 file"
                )
            if re.search(r"[/\\:\0]", file):
                raise UnsupportedError(
                    path, f"{what} leads out of its directory, to {quoted(file)}"
                )
        shards[group] = files
    return shards


class _Directory:
    """The files of an unzipped archive, or of weights in shards."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, name: str) -> bytes:
        with RegularFile(os.path.join(self.path, name)) as file:
            if file.size > limits.LARGEST_JSON:
                raise DamagedError(
                    file.path, f"is {file.size} bytes long, more than any model needs"
                )
            return file.head(limits.LARGEST_JSON)

    def source(self, name: str) -> Source:
        return partial(Hdf5File, os.path.join(self.path, name))


class _Member(NamedTuple):
    """A member of a zip archive, as the archive's directory describes it.

    `path` is the archive, `offset` the place of the member's own header, `packed` the bytes that
    it takes there, `size` those that it unpacks to.
    """

    path: str
    name: str
    offset: int
    packed: int
    size: int
    crc: int
    method: int

    def check_size(self, largest: int) -> None:
        """Refuse what would unpack to more than it may, before anything is unpacked."""
        bomb = self.size > limits.MEMBER_FLOOR and self.size > limits.MEMBER_RATIO * self.packed
        if self.size > largest or bomb:
            raise self.damaged(f"declares {self.size} bytes in {self.packed}")

    def window(self, file: RegularFile) -> Window:
        """Return the member's bytes as they are stored."""
        header = file.read(self.offset, _LOCAL_HEADER, f"the header of {self.name}")
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = self.offset + _LOCAL_HEADER + lengths
        if header[:4] != b"PK\x03\x04" or start + self.packed > file.size:
            raise self.damaged("is not where the archive says")
        if self.method == _STORED and self.packed != self.size:
            raise self.damaged("is stored, and declares two sizes")
        return Window(file, start, self.packed)

    def chunks(self, file: RegularFile) -> Iterator[bytes]:
        """Yield the content in pieces, and check its length and its CRC-32 at the end."""
        length = crc = 0
        for chunk in self._inflated(self.window(file)):
            length += len(chunk)
            crc = zlib.crc32(chunk, crc)
            if length > self.size:
                break
            yield chunk
        if length != self.size:
            relation = "longer" if length > self.size else "shorter"
            raise self.damaged(f"is {relation} than the archive says")
        if crc != self.crc:
            raise self.damaged("does not have the CRC-32 that the archive says")

    def _inflated(self, window: Window) -> Iterator[bytes]:
        if self.method == _STORED:
            while chunk := window.read(_CHUNK):
                yield chunk
            return
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        while not inflate.eof:
            packed = inflate.unconsumed_tail or window.read(_CHUNK)
            try:
                chunk = inflate.decompress(packed, _CHUNK)
            except zlib.error as error:
                raise self.damaged(f"cannot be unpacked: {error}") from None
            if not packed and not chunk:
                return
            yield chunk

    def content(self, file: RegularFile) -> io.BytesIO:
        """Return the content in memory, once: in pieces, each dropped when it was appended."""
        content = io.BytesIO()
        for chunk in self.chunks(file):
            content.write(chunk)
        content.seek(0)
        return content

    def damaged(self, what: str) -> DamagedError:
        return DamagedError(self.path, f"{self.name} {what}", remedy=_COPY_AGAIN)


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
            stream = Window(self._file, 0, self._file.size, limits.LARGEST_ZIP_DIRECTORY)
            infos = zipfile.ZipFile(cast("BinaryIO", stream)).infolist()
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError) as error:
            self._file.close()
            raise DamagedError(
                path, f"is a damaged zip archive: {error}", remedy=_COPY_AGAIN
            ) from None
        except BaseException:
            self._file.close()
            raise
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

    def _member(self, name: str) -> _Member:
        info: zipfile.ZipInfo | None = self._infos.get(name)
        if info is None:
            raise NotFoundError(self.path, f"there is no {quoted(name)} in the archive")
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
        return _Member(
            self.path,
            name,
            info.header_offset,
            info.compress_size,
            info.file_size,
            info.CRC,
            info.compress_type,
        )

    def read(self, name: str) -> bytes:
        """Return the content of a member that is JSON, whose CRC-32 is checked."""
        member = self._member(name)
        member.check_size(limits.LARGEST_JSON)
        return member.content(self._file).getvalue()

    def source(self, name: str) -> Source:
        """Return what opens a member as an HDF5 file, on its own and as often as is wanted.

        The archive's directory is read no more for it.
        """
        member = self._member(name)
        if member.method == _DEFLATED:
            member.check_size(limits.LARGEST_UNPACKED)
        elif member.size <= limits.LARGEST_CHECKED:
            for _ in member.chunks(self._file):
                pass
        return partial(_open_member, member)


@contextmanager
def _open_member(member: _Member) -> Iterator[Hdf5File]:
    with RegularFile(member.path) as file:
        deflated = member.method == _DEFLATED
        stream = member.content(file) if deflated else cast("BinaryIO", member.window(file))
        with Hdf5File(member.path, stream, member.name) as opened:
            yield opened
