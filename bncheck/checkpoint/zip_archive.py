"""Zip archives, whose members are read where they are: nothing is ever unpacked to disk."""

from __future__ import annotations

import io
import zlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from bncheck import limits
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.hdf5 import Hdf5File
from bncheck.checkpoint.model import quoted
from bncheck.checkpoint.window import Window
from bncheck.errors import DamagedError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Collection, Iterator
    from typing import BinaryIO

    from bncheck.checkpoint.hdf5 import Source

_CHUNK: Final = 1 << 20
_STORED: Final = 0
_DEFLATED: Final = 8
# Flag bits.
_ENCRYPTED: Final = 1
_DESCRIBED_BEHIND: Final = 8
_DESCRIPTOR: Final = b"PK\x07\x08"
_LOCAL_HEADER: Final = 30
_SAVE_AGAIN: Final = "Save the whole model again."
_NO_COMPRESSION: Final = "Keras compresses nothing: zip the files again without compression."


class Text(NamedTuple):
    """A text that is stored in a file: `what` it is there, and the byte that it `start`s at.

    That is None where it is packed.
    """

    content: bytes
    path: str
    what: str = "it"
    start: int | None = 0


class Member(NamedTuple):
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

    @property
    def is_stored(self) -> bool:
        """Whether it is as it was, without compression."""
        return self.method == _STORED

    def window(self, file: RegularFile) -> Window:
        """Return the member's bytes as they are stored."""
        return Window(file, *self.place(file))

    def place(self, file: RegularFile) -> tuple[int, int]:
        """Return where the member's bytes start, and how many there are."""
        header = file.read(self.offset, _LOCAL_HEADER, f"the header of {self.name}")
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = self.offset + _LOCAL_HEADER + lengths
        if header[:4] != b"PK\x03\x04" or start + self.packed > file.size:
            raise self.damaged("is not where the archive says")
        if self.method == _STORED and self.packed != self.size:
            raise self.damaged("is stored, and declares two sizes")
        return start, self.packed

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
        self.check_crc(crc)

    def check_crc(self, crc: int) -> None:
        """Raise DamagedError where the content's CRC-32 is not the one that the archive says."""
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
        """Return the error that something in this member breaks the rules."""
        return DamagedError(self.path, f"{self.name} {what}", offset=self.offset)


class Zip:
    """A zip archive whose members are read without unpacking it to disk.

    Raises DamagedError where it breaks the format, and UnsupportedError where a member is encrypted
    or compressed by anything but deflate. `directory_start` is the first byte of its directory.
    """

    def __init__(self, path: str) -> None:
        import zipfile  # 9 ms, and only Keras' archives need it

        self.path = path
        self._file = RegularFile(path)
        try:
            stream = Window(self._file, 0, self._file.size, limits.LARGEST_ZIP_DIRECTORY)
            opened = zipfile.ZipFile(cast("BinaryIO", stream))
            infos = opened.infolist()
            self.directory_start: int = opened.start_dir
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError) as error:
            self._file.close()
            raise DamagedError(path, f"is a damaged zip archive: {error}") from None
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
        """Return the names of the members, in the order in which they lie in the file."""
        return sorted(self._infos, key=lambda name: self._infos[name].header_offset)

    def spans(self) -> list[tuple[int, int]]:
        """Return where each member starts with its header, and the bytes that it takes.

        Raises DamagedError where there is no header.
        """
        return [
            (info.header_offset, self._size_of(self.member(name), info.flag_bits))
            for name, info in self._infos.items()
        ]

    def _size_of(self, member: Member, flags: int) -> int:
        start, size = member.place(self._file)
        end = start + size
        if flags & _DESCRIBED_BEHIND:
            # CRC-32 and two sizes, of 4 bytes each or 8 in a large one; perhaps with a signature.
            signed = self._file.read(end, min(4, self._file.size - end), "it") == _DESCRIPTOR
            end += 12 + 4 * signed + 8 * (max(member.packed, member.size) > 0xFFFFFFFF)
        return end - member.offset

    def member(self, name: str) -> Member:
        """Return a member; NotFoundError, DamagedError or UnsupportedError as the class says."""
        info: zipfile.ZipInfo | None = self._infos.get(name)
        if info is None:
            raise NotFoundError(
                self.path, f"there is no {quoted(name)} in the archive", remedy=_SAVE_AGAIN
            )
        if name in self._twice:
            raise DamagedError(self.path, f"holds {name} twice", offset=info.header_offset)
        if info.flag_bits & _ENCRYPTED:
            raise UnsupportedError(
                self.path,
                f"{name} is encrypted",
                offset=info.header_offset,
                remedy="Unpack it, and zip the files again without a password.",
            )
        if info.compress_type not in (_STORED, _DEFLATED):
            raise UnsupportedError(
                self.path,
                f"{name} is compressed by the method {info.compress_type}",
                offset=info.header_offset,
                remedy=_NO_COMPRESSION,
            )
        return Member(
            self.path,
            name,
            info.header_offset,
            info.compress_size,
            info.file_size,
            info.CRC,
            info.compress_type,
        )

    def read(self, name: str) -> Text:
        """Return a member that is JSON, whose CRC-32 is checked."""
        member = self.member(name)
        member.check_size(limits.LARGEST_JSON)
        content = member.content(self._file).getvalue()
        start = member.window(self._file).start if member.is_stored else None
        return Text(content, self.path, name, start)

    def source(self, name: str) -> Source:
        """Return what opens a member as an HDF5 file, on its own and as often as is wanted.

        The archive's directory is read no more for it.
        """
        member = self.member(name)
        if member.method == _DEFLATED:
            member.check_size(limits.LARGEST_UNPACKED)
        elif member.size <= limits.LARGEST_CHECKED:
            for _ in member.chunks(self._file):
                pass
        return partial(_open_member, member)


@contextmanager
def _open_member(member: Member) -> Iterator[Hdf5File]:
    with RegularFile(member.path) as file:
        if member.is_stored:
            window = member.window(file)
            stream, start = cast("BinaryIO", window), window.start
        else:
            stream, start = cast("BinaryIO", member.content(file)), None
        with Hdf5File(member.path, stream, member.name, start) as opened:
            yield opened
