"""How long the strings of an attribute claim to be, read from the object's header itself.

The HDF5 library sets up memory for a string of any length by the number beside its address in the
heap, and only then looks whether the heap holds as much: one damaged byte there asks for gigabytes,
and h5py does not tell the number. The format is in the HDF5 File Format Specification, IV.A: object
headers of both versions, the messages of types 12 (attribute) and 16 (continuation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bncheck.checkpoint.hdf5_errors import Hdf5Errors

_ATTRIBUTE: Final = 12
_CONTINUATION: Final = 16
_ADDRESS: Final = 8  # bytes; hdf5.py refuses files of any other size
_REFERENCE: Final = 16  # bytes of a string: its length in 4, its heap's address, 4 more
# Of a header of version 2: flags, and the first bytes of a block that continues one.
_ORDERED, _CHANGEABLE, _TIMED = 0x04, 0x10, 0x20
_SIGNATURE: Final = b"OHDR"
_CONTINUED: Final = b"OCHK"


class _Block(NamedTuple):
    data: bytes
    prefix: int  # bytes in front of a message's content
    is_first_version: bool


class Headers:
    """The object headers of a file of `size` bytes, read by `read`: a place, how many bytes.

    Addresses count from `base`; `errors` makes the errors that name the file.
    """

    def __init__(
        self, errors: Hdf5Errors, read: Callable[[int, int], bytes], base: int, size: int
    ) -> None:
        self._errors = errors
        self._read = read
        self._base = base
        self._size = size

    def check(self, address: int, name: str, count: int, what: str) -> None:
        """Refuse strings that claim to be longer than the file, before there is room for them.

        Raises DamagedError then, and UnsupportedError where the attribute is not in the header.
        """
        lengths = self.lengths(address, name.encode(), count)
        if lengths is None:
            raise self._errors.unsupported(f"{what} is not stored beside it", self._base + address)
        longest = max(lengths)
        if longest > min(self._size, limits.LONGEST_ATTRIBUTE):
            raise self._errors.damaged(
                f"{what} declares a string of {longest} bytes", self._base + address
            )

    def lengths(self, address: int, name: bytes, count: int) -> list[int] | None:
        """Return the lengths that an attribute of `count` strings claims for them.

        None where the object's header does not hold it.
        """
        for content in self._attributes(address):
            found = _strings(content, name)
            if found is not None and len(found) >= count * _REFERENCE:
                starts = range(0, count * _REFERENCE, _REFERENCE)
                return [int.from_bytes(found[at : at + 4], "little") for at in starts]
        return None

    def _attributes(self, address: int) -> Iterator[bytes]:
        left = self._size  # a header whose blocks lead in circles has more bytes than the file
        blocks = [self._first(address)]
        for block in blocks:  # grows while it is walked
            left -= len(block.data) + block.prefix
            if left < 0:
                return
            for kind, content in _messages(block):
                if kind == _ATTRIBUTE:
                    yield content
                elif kind == _CONTINUATION:
                    blocks.append(self._continuation(content, block))

    def _first(self, address: int) -> _Block:
        head = self._at(address, 64)
        if head[:4] != _SIGNATURE:
            size = int.from_bytes(head[8:12], "little")
            return _Block(self._at(address + 16, size), 8, is_first_version=True)
        flags = head[5] if len(head) > 5 else 0
        start = 6 + (16 if flags & _TIMED else 0) + (4 if flags & _CHANGEABLE else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(head[start : start + width], "little")
        prefix = 6 if flags & _ORDERED else 4
        return _Block(self._at(address + start + width, size), prefix, is_first_version=False)

    def _continuation(self, content: bytes, block: _Block) -> _Block:
        address = int.from_bytes(content[:_ADDRESS], "little")
        data = self._at(address, int.from_bytes(content[_ADDRESS : 2 * _ADDRESS], "little"))
        if not block.is_first_version:
            data = data[len(_CONTINUED) : -4]  # a checksum
        return block._replace(data=data)

    def _at(self, address: int, size: int) -> bytes:
        start = self._base + address
        return self._read(start, max(0, min(size, self._size - start)))


def _messages(block: _Block) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the content of each message of a block."""
    data, position = block.data, 0
    while position + block.prefix <= len(data):
        if block.is_first_version:
            kind = int.from_bytes(data[position : position + 2], "little")
            size = int.from_bytes(data[position + 2 : position + 4], "little")
        else:
            kind = data[position]
            size = int.from_bytes(data[position + 1 : position + 3], "little")
        position += block.prefix
        yield kind, data[position : position + size]
        position += size


def _strings(content: bytes, name: bytes) -> bytes | None:
    """Return the stored value of an attribute's message, None where it has another name."""
    if len(content) < 9:
        return None
    version = content[0]
    sizes = [int.from_bytes(content[at : at + 2], "little") for at in (2, 4, 6)]
    start = 9 if version == 3 else 8
    if content[start : start + sizes[0]].rstrip(b"\0") != name:
        return None
    if version == 1:  # each part ends at a multiple of 8 bytes
        sizes = [(size + 7) // 8 * 8 for size in sizes]
    return content[start + sum(sizes) :]
