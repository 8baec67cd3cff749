"""The attributes of an HDF5 file: strings and lists of them, measured before they are read."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from bncheck import limits
from bncheck.checkpoint.hdf5_errors import Hdf5Errors
from bncheck.checkpoint.model import decode_name, element_count, quoted

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

    from bncheck.checkpoint.hdf5_heap import HeapGuard
    from bncheck.checkpoint.hdf5_strings import Headers


class Hdf5Attributes(Hdf5Errors):
    """The part of Hdf5File that reads attributes: `_file` is h5py's, `_guard` is read through."""

    _file: Any
    _guard: HeapGuard
    _headers: Headers

    @abstractmethod
    def _reopened(self) -> AbstractContextManager[Hdf5Attributes]:
        """Open the same file once more, of which nothing was read yet."""

    def text(self, group: str, attribute: str) -> str | None:
        """Return a group's attribute that is one string, None where there is none."""
        return self._text(self._group(group), group, attribute)

    def strings(self, group: str, attribute: str) -> list[str] | None:
        """Return a group's attribute that is a list of strings, None where there is none.

        Keras splits what is longer than 64 KB into `attribute0`, `attribute1`, and so on.
        """
        opened = self._group(group)
        whole = self._attribute(opened, group, attribute)
        if whole is not None:
            return whole
        pieces: list[str] = []
        count = 0
        while (piece := self._attribute(opened, group, f"{attribute}{count}")) is not None:
            pieces += piece
            count += 1
        return pieces if count else None

    def has_attribute(self, group: str, attribute: str) -> bool:
        """Whether a group has an attribute of that name."""
        from h5py import h5a

        opened = self._group(group)
        with self._errors(f"the attributes of {quoted(group)} cannot be read"):
            return bool(h5a.exists(opened, attribute.encode()))

    def _group(self, group: str) -> Any:
        from h5py import h5g

        with self._errors(f"the group {quoted(group)} cannot be read"):
            return h5g.open(self._file.id, encoded(group) or b"/")

    def _text(self, opened: Any, owner: str, attribute: str) -> str | None:
        strings = self._attribute(opened, owner, attribute)
        if strings is not None and len(strings) != 1:
            raise self.damaged(f"the attribute {attribute!r} of {quoted(owner)} is not one string")
        return strings[0] if strings else None

    def _attribute(self, opened: Any, owner: str, name: str) -> list[str] | None:
        """Return the strings of an attribute, whose size is checked before it is read."""
        from h5py import check_string_dtype, h5a, h5o

        what = f"the attribute {name!r} of {quoted(owner)}"
        with self._errors(f"{what} cannot be read"):
            if not h5a.exists(opened, name.encode()):
                return None
            attribute = h5a.open(opened, name.encode())
            shape, dtype = attribute.shape, attribute.dtype
        count = 0 if shape is None else element_count(shape)
        if count > limits.MOST_STRINGS or count * dtype.itemsize > limits.LONGEST_ATTRIBUTE:
            raise self.damaged(f"{what} declares {count} elements of {dtype.itemsize} bytes")
        if not count:
            return []
        if (string := check_string_dtype(dtype)) is None:
            raise self.damaged(f"{what} is no string")
        # A list may name one long string a thousand times: the longest one that was loaded, times
        # their number, is what it could take.
        longest = min(limits.LONGEST_ATTRIBUTE, limits.LONGEST_STRINGS // count)
        if string.length is None and self._guard.longest > longest:
            # That may be another attribute's, so that only what this one loads counts.
            with self._reopened() as again:
                return again.attribute_of(owner, name)
        if string.length is None:
            with self._errors(f"{what} cannot be read"):
                address = h5o.get_info(opened).addr  # which may load strings, too
            self._headers.check(address, name, count, what)
        elements = np.empty(shape, dtype)
        with self._errors(f"{what} cannot be read"), self._guard.at_most(longest):
            attribute.read(elements)
        return [decode_name(bytes(element)) for element in elements.flat]

    def attribute_of(self, owner: str, name: str) -> list[str] | None:
        """Return the strings of an attribute of a group or dataset, None where there is none."""
        return self._attribute(self._object(owner), owner, name)

    def _object(self, path: str) -> Any:
        from h5py import h5o

        with self._errors(f"{quoted(path)} cannot be opened"):
            return h5o.open(self._file.id, encoded(path) or b"/")


def encoded(path: str) -> bytes:
    """Return a path's bytes, which need not be UTF-8."""
    return path.encode("utf-8", "surrogateescape")
