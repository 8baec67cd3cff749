"""The start of an HDF5 file, which says where it ends (HDF5 File Format Specification, II.A)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bncheck.checkpoint.sniff import HDF5_MAGIC

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE: Final = 64  # bytes that hold all that is needed
# Where the addresses begin, by the superblock's version: the base, one other, the end.
_ADDRESSES: Final = {0: 24, 1: 28, 2: 12, 3: 12}
_ADDRESS: Final = 8  # bytes, as Hdf5File has checked


def end_of(read: Callable[[int, int], bytes]) -> int:
    """Return the first byte behind an HDF5 file that could be opened.

    `read` returns the bytes from an offset on; the superblock may stand behind a user block of 512
    bytes or a power of 2 times that.
    """
    place = 0
    while not (head := read(place, _SIZE)).startswith(HDF5_MAGIC):
        place = max(512, 2 * place)
    first = _ADDRESSES[head[len(HDF5_MAGIC)]]
    last = first + 2 * _ADDRESS
    return int.from_bytes(head[last : last + _ADDRESS], "little")
