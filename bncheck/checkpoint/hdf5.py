"""HDF5 files, opened with care: h5py reads them, this module decides what it may touch.

HDF5 can point outside of its file (external links, external storage, virtual datasets), declare
terabytes that are stored in no byte, and link its groups in circles. Keras writes none of that, so
every such file is refused as soon as it is opened. The HDF5 library is C code: beyond what a single
damaged byte leads into (hdf5_heap.py, hdf5_strings.py), a file made to break the library itself is
not what can be checked here.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from bncheck import limits
from bncheck.checkpoint.dtypes import NAMES, numpy_dtype
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.hdf5_attributes import Hdf5Attributes, encoded
from bncheck.checkpoint.hdf5_heap import HeapGuard
from bncheck.checkpoint.hdf5_strings import Headers
from bncheck.checkpoint.hdf5_superblock import end_of
from bncheck.checkpoint.model import Variable, decode_name, element_count, quoted
from bncheck.checkpoint.sniff import is_hdf5
from bncheck.checkpoint.window import Window
from bncheck.errors import NotACheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, BinaryIO

    from numpy.typing import NDArray

# Deflate, shuffle, Fletcher32, szip, n-bit, scale-offset, and the LZF that comes with h5py. For any
# other, HDF5 would look for a plugin on this machine and load it.
_FILTERS: Final = frozenset((1, 2, 3, 4, 5, 6, 32000))

# Opens one file of a checkpoint.
Source = Callable[[], AbstractContextManager["Hdf5File"]]

# Bytes of an address and of a length in the file; h5py's default, and what HeapGuard expects.
_SIZES: Final = (8, 8)
_HARD: Final = 0
_LINK_KINDS: Final = {1: "a soft link", 64: "an external link"}
_PLAIN_TYPES: Final = frozenset(NAMES.values()) - {"string", "resource", "variant"}
_AFTER_SLASH: Final = "0"  # the next character
# Two bytes without a type; the newer layout names it beside them, the older one does not.
_BFLOAT16: Final = ("bfloat16", None)


class Hdf5File(Hdf5Attributes):
    """One HDF5 file, open for reading: its datasets as variables, its groups, their attributes.

    `path` names the file in errors, and `member` the part of it where `stream` is one, which is
    stored from byte `start` on, or packed (None). Opening
    raises NotFoundError, NotACheckpointError or DamagedError; the whole file is listed, and refused
    with UnsupportedError or DamagedError, when `variables` or `groups` are first asked for.
    """

    def __init__(
        self,
        path: str,
        stream: BinaryIO | None = None,
        member: str = "",
        start: int | None = 0,
    ) -> None:
        super().__init__(path, member, start)
        self._given = stream
        self._own: RegularFile | None = None
        try:
            whole = self._open_path() if stream is None else stream
            self._guard = HeapGuard(whole, self.damaged)
            self._file = self._open()
        except BaseException:
            self._close_own()
            raise
        self.size = self._guard.seek(0, os.SEEK_END)
        self._headers = Headers(self, self._guard.at, self._file.userblock_size, self.size)
        self._last: tuple[bytes, Any] | None = None  # the group that was opened last, by its path
        self._stored_left = self.size
        self._unstored_left = limits.MOST_UNSTORED

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a stream stays open."""
        self._file.close()
        self._close_own()

    def _close_own(self) -> None:
        if self._own is not None:
            self._own.close()

    def _reopened(self) -> Hdf5File:
        return Hdf5File(self.path, self._given, self._member, self._start)

    def _open_path(self) -> BinaryIO:
        """Return the file at the path as a stream, where it is HDF5."""
        self._own = file = RegularFile(self.path)
        if not is_hdf5(file):
            raise NotACheckpointError(
                self.path, "is no HDF5 file", remedy=file.lfs_remedy() or None
            )
        return cast("BinaryIO", Window(file, 0, file.size))

    def _open(self) -> Any:
        import h5py  # 25 ms beside NumPy, and only Keras' files need it

        # A stream is never locked: looking at a file must not keep a training from writing it.
        with self._errors("cannot be opened as HDF5"):
            file = h5py.File(self._guard, "r")
            created = file.id.get_create_plist()
            sizes, self._base = created.get_sizes(), created.get_userblock()
        if sizes != _SIZES:
            raise self.unsupported(f"counts bytes in numbers of {sizes[1]} bytes")
        return file

    @property
    def variables(self) -> Mapping[str, Variable]:
        """All datasets, by their paths."""
        return self._contents[0]

    @property
    def groups(self) -> Mapping[str, None]:
        """The paths of all groups but the root, each after the one that it is in."""
        return self._contents[1]

    @cached_property
    def _contents(self) -> tuple[dict[str, Variable], dict[str, None]]:
        """List every object by its path, each of them once, and refuse what leads elsewhere."""
        from h5py import h5g, h5o

        variables: dict[str, Variable] = {}
        groups: dict[str, None] = {}
        with self._errors("its root group cannot be read"):
            seen = {h5o.get_info(self._file.id).addr: b"/"}
        pending = [(b"", 0)]
        left = limits.PATHS_RATIO * self.size
        while pending:
            parent, depth = pending.pop()
            with self._errors(f"the group {_shown(parent)} cannot be read"):
                group = h5g.open(self._file.id, parent or b"/")
            for name, kind, address in self._links(group, parent, limits.MOST_LINKS - len(seen)):
                path = parent + b"/" + name if parent else name
                at = self._base + address if kind == _HARD else None
                left -= len(path)
                if left < 0:
                    raise self.damaged("its groups have far longer names than the file can hold")
                self._check_link(path, kind)
                if address in seen:
                    raise self.unsupported(
                        f"{_shown(path)} is a second link to {_shown(seen[address])}", at
                    )
                seen[address] = path
                with self._errors(f"{_shown(path)} cannot be opened", at):
                    opened = h5o.open(group, name)
                if isinstance(opened, h5g.GroupID):
                    if depth == limits.DEEPEST_GROUP:
                        raise self.damaged(
                            f"nests its groups deeper than {limits.DEEPEST_GROUP}", at
                        )
                    groups[decode_name(path)] = None
                    pending.append((path, depth + 1))
                else:
                    variable = self._variable(opened, decode_name(path), at)
                    variables[variable.name] = variable
        return variables, groups

    def _check_link(self, path: bytes, kind: int) -> None:
        """Refuse a link of any kind but the one that names an object of this file."""
        if kind != _HARD:
            raise self.unsupported(
                f"{_shown(path)} is {_LINK_KINDS.get(kind, 'a user-defined link')}"
            )

    def _links(self, group: Any, parent: bytes, most: int) -> list[tuple[bytes, int, int]]:
        """Return the name, the kind and, of a hard link, the address of each link of a group."""
        links: list[tuple[bytes, int, int]] = []

        def take(name: bytes, info: Any) -> bool | None:
            links.append((name, info.type, info.u))
            return True if len(links) > most else None

        with self._errors(f"the group {_shown(parent)} cannot be listed"):
            group.links.iterate(take, info=True)
        if len(links) > most:
            raise self.damaged(f"holds more than {limits.MOST_LINKS} groups and datasets")
        return links

    def _variable(self, opened: Any, path: str, at: int | None = None) -> Variable:
        """Return what a dataset is; `at` is the byte of its header, where that is known."""
        from h5py import h5d

        if not isinstance(opened, h5d.DatasetID):
            raise self.unsupported(f"{quoted(path)} is neither a group nor a dataset", at)
        with self._errors(f"the dataset {quoted(path)} cannot be read", at):
            plist = opened.get_create_plist()
            virtual = plist.get_layout() == h5d.VIRTUAL
            external = plist.get_external_count()
            shape = opened.shape
            item = opened.get_type().get_size()
            stored = opened.get_storage_size()
        if virtual:
            raise self.unsupported(
                f"{quoted(path)} is a virtual dataset: its values are in other files", at
            )
        if external:
            raise self.unsupported(f"{quoted(path)} keeps its values in another file", at)
        shape = (0,) if shape is None else tuple(shape)
        declared = element_count(shape) * item
        if declared > limits.DATASET_FLOOR and declared > limits.DATASET_RATIO * stored:
            raise self.damaged(
                f"{quoted(path)} declares {declared} bytes, and {stored} are stored", at
            )
        return Variable(path, self._type_name(opened, path), shape)

    def _type_name(self, opened: Any, path: str) -> str:
        """Return TensorFlow's name of a dataset's type, `DataType(...)` where it has none."""
        import h5py

        try:
            dtype = opened.dtype
        except (TypeError, ValueError, KeyError, OSError, RuntimeError):
            return "DataType(unknown to NumPy)"
        if h5py.check_string_dtype(dtype) is not None:
            return "string"
        opaque = dtype.names is None and dtype.subdtype is None
        if dtype.str == "|V2" and opaque and self._text(opened, path, "dtype") in _BFLOAT16:
            return "bfloat16"
        return dtype.name if dtype.name in _PLAIN_TYPES else f"DataType({dtype.str})"

    def below(self, group: str) -> list[str]:
        """Return the datasets in a group and all groups in it, by their paths within it."""
        start = f"{group}/"
        names = self._sorted
        first, end = bisect_left(names, start), bisect_left(names, f"{group}{_AFTER_SLASH}")
        return [name[len(start) :] for name in names[first:end]]

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.variables)

    def has_group(self, name: str) -> bool:
        """Whether the root holds something of that name; nothing is listed for it."""
        with self._errors("its root group cannot be read"):
            return encoded(name) in self._file.id

    def read(self, variable: Variable) -> NDArray[Any]:
        """Return the values of a dataset that was listed, in the machine's byte order.

        Raises DamagedError where they are not whole, or the dataset is not as it was listed, and
        UnsupportedError where no plain numbers are stored, or in a way that Keras does not use.
        """
        from h5py import Dataset

        dtype = numpy_dtype(variable.dtype)
        if dtype is None:
            raise self.unsupported(f"bncheck reads no values of type {variable.dtype} from HDF5")
        opened = self._opened(encoded(variable.name))
        at = self._place(opened)
        if self._variable(opened, variable.name) != variable:
            raise self.damaged("the file was changed after it was listed")
        if opened.shape is None:
            raise self.damaged("it holds no value at all", at)
        self._allow(variable, opened, at)
        with self._errors("it cannot be read", at):
            array: NDArray[Any] = np.asarray(Dataset(opened)[()])
            return array.view(dtype) if array.dtype.kind == "V" else array.astype(dtype, copy=False)

    @property
    def end(self) -> int:
        """The first byte behind all that belongs to the file, as its superblock has it."""
        return end_of(self._guard.at)

    def check_stored(self, variable: Variable) -> int:
        """Check that a dataset's values are there, and return the bytes that they take.

        What is stored in one piece only has to lie in the file. Numbers in chunks are unpacked, one
        chunk at a time, and checked by their filters. Raises as `read` does.
        """
        from h5py import Dataset

        opened = self._opened(encoded(variable.name))
        at = self._place(opened)
        self._allow(variable, opened, at)
        with self._errors("it cannot be read", at):
            size: int = opened.get_storage_size()
            place = opened.get_offset()
            dataset = Dataset(opened)
            chunk = dataset.chunks
        if place is not None and place + size > self.size:
            raise self.damaged(
                f"its values end at byte {place + size}, the file at {self.size}", at
            )
        if chunk is None or not size or numpy_dtype(variable.dtype) is None:
            return size
        count = element_count(-(-n // m) for n, m in zip(variable.shape, chunk, strict=True))
        unpacked = element_count(chunk) * opened.get_type().get_size()
        if count > limits.MOST_CHUNKS or unpacked > limits.LARGEST_CHUNK:
            raise self.unsupported(f"it is stored in {count} chunks of {unpacked} bytes", at)
        with self._errors("it cannot be read", at):
            for each in dataset.iter_chunks():
                dataset[each]
        return size

    def _allow(self, variable: Variable, opened: Any, at: int | None) -> None:
        """Refuse a dataset whose values another program would have to unpack, or too many."""
        with self._errors("it cannot be read", at):
            plist = opened.get_create_plist()
            filters = {plist.get_filter(index)[0] for index in range(plist.get_nfilters())}
            item = opened.get_type().get_size()
        if filters - _FILTERS:
            raise self.unsupported(
                f"it is compressed with the filter {min(filters - _FILTERS)}", at
            )
        self._spend(element_count(variable.shape) * item, opened, at)

    def _place(self, opened: Any) -> int | None:
        """Return the byte of a dataset's values, where they are in one piece, else its header's."""
        from h5py import h5o

        with self._errors("it cannot be read"):
            values: int | None = opened.get_offset()
            return self._base + int(h5o.get_info(opened).addr) if values is None else values

    def _spend(self, declared: int, opened: Any, at: int | None) -> None:
        """Refuse what takes more memory than the file accounts for; each dataset is read once."""
        with self._errors("it cannot be read", at):
            stored = opened.get_storage_size()
        unstored = max(0, declared - limits.DATASET_RATIO * stored)
        if unstored > self._unstored_left:
            raise self.damaged(f"it declares {declared} bytes, and {stored} are stored", at)
        if stored > self._stored_left:
            raise self.damaged("its datasets store more bytes than the file has", at)
        self._unstored_left -= unstored
        self._stored_left -= stored

    def _opened(self, path: bytes) -> Any:
        """Open an object by its path, link by link: the file may have changed since its listing."""
        from h5py import h5o

        parent, _, name = path.rpartition(b"/")
        if self._last is None or self._last[0] != parent:
            self._last = (parent, self._opened(parent) if parent else self._file.id)
        group = self._last[1]
        with self._errors("it cannot be found"):
            kind = group.links.get_info(name).type
        self._check_link(path, kind)
        with self._errors("it cannot be opened"):
            return h5o.open(group, name)


def _shown(path: bytes) -> str:
    return quoted(decode_name(path or b"/"))
