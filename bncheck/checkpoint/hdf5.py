"""HDF5 files, opened with care: h5py reads them, this module decides what it may touch.

HDF5 can point outside of its file (external links, external storage, virtual datasets), declare
terabytes that are stored in no byte, and link its groups in circles. Keras writes none of that, so
every such file is refused as soon as it is opened. The limits are those of Keras' own loader
(keras/src/saving/saving_lib.py, safe_get_h5_dataset) where it has any. The HDF5 library is C code:
a file made to break the library itself is beyond what can be checked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from bncheck.checkpoint.dtypes import NAMES, numpy_dtype
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.model import Variable, decode_name, element_count
from bncheck.checkpoint.sniff import is_hdf5
from bncheck.errors import DamagedError, NotACheckpointError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, BinaryIO

    from numpy.typing import NDArray

# Every limit on what a file may make bncheck do.
MOST_LINKS: Final = 2_000_000  # groups and datasets; the largest models have some ten thousand
DEEPEST: Final = 100  # groups within groups
LONGEST_ATTRIBUTE: Final = 1 << 26  # bytes; a model_config of 10,000 layers takes 10 MB
MOST_STRINGS: Final = 1 << 20  # elements of an attribute
BOMB_FLOOR: Final = 1 << 32  # bytes that a dataset may declare without storing a thousandth of them
BOMB_RATIO: Final = 1000
# Deflate, shuffle, Fletcher32, szip, n-bit, scale-offset, and the LZF that comes with h5py. For any
# other, HDF5 would look for a plugin on this machine and load it.
_FILTERS: Final = frozenset((1, 2, 3, 4, 5, 6, 32000))

# Opens one file of a checkpoint.
Source = Callable[[], AbstractContextManager["Hdf5File"]]

_LINK_KINDS: Final = {1: "a soft link", 64: "an external link"}
_PLAIN_TYPES: Final = frozenset(NAMES.values()) - {"string", "resource", "variant"}
_COPY_AGAIN: Final = "Copy the file again, or save the model once more."
# HDF5's own sentence stands in the parentheses: "Unable to synchronously open file (truncated ...)"
_REASON: Final = re.compile(r"(?s).*?\((.*)\)")


class Hdf5File:
    """One HDF5 file, open for reading: its datasets as variables, its groups, their attributes.

    `path` names the file in errors, and `member` the part of it where `stream` is one. Opening
    raises NotFoundError, NotACheckpointError or DamagedError; the whole file is listed, and refused
    with UnsupportedError or DamagedError, when `variables` or `groups` are first asked for.
    """

    def __init__(self, path: str, stream: BinaryIO | None = None, member: str = "") -> None:
        self.path = path
        self._member = member
        if stream is None:
            with RegularFile(path) as file:
                self.size = file.size
                if not is_hdf5(file):
                    raise NotACheckpointError(path, "is no HDF5 file", remedy=file.lfs_remedy())
        else:
            self.size = stream.seek(0, 2)
        self._file = self._open(stream)
        self._last: tuple[bytes, Any] | None = None  # the group that was opened last, by its path
        self._left = max(BOMB_FLOOR, BOMB_RATIO * self.size)

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a stream stays open."""
        self._file.close()

    def _open(self, stream: BinaryIO | None) -> Any:
        import h5py  # 25 ms beside NumPy, and only Keras' files need it

        with self._errors("cannot be opened as HDF5"):
            if stream is not None:
                return h5py.File(stream, "r")
            # Without a lock, so that looking at a file never keeps a training from writing it.
            return h5py.File(self.path, "r", locking=False)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Tell what h5py raises as DamagedError; no line of bncheck's own belongs inside."""
        try:
            yield
        # h5py turns the library's errors into all of these, and a UnicodeError is a ValueError.
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError) as error:
            text = str(error.args[0]) if error.args else type(error).__name__
            match = _REASON.match(text)
            raise self.damaged(f"{what}: {match[1] if match else text}") from None

    def damaged(self, what: str) -> DamagedError:
        """Return the error that something in this file breaks the rules."""
        return DamagedError(self.path, self._told(what), remedy=_COPY_AGAIN)

    def unsupported(self, what: str) -> UnsupportedError:
        """Return the error that something in this file is of a kind that Keras does not write."""
        return UnsupportedError(
            self.path, self._told(what), remedy="Keras writes no such files: where is it from?"
        )

    def not_keras(self) -> NotACheckpointError:
        """Return the error that this file is another program's."""
        return NotACheckpointError(
            self.path,
            self._told("is an HDF5 file, and none of Keras' weights"),
            remedy="Its groups are those of another program.",
        )

    def _told(self, what: str) -> str:
        return f"{self._member}: {what}" if self._member else what

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
        while pending:
            parent, depth = pending.pop()
            with self._errors(f"the group {_shown(parent)} cannot be read"):
                group = h5g.open(self._file.id, parent or b"/")
            for name, kind, address in self._links(group, parent, MOST_LINKS - len(seen)):
                path = parent + b"/" + name if parent else name
                self._check_link(path, kind)
                if address in seen:
                    raise self.unsupported(
                        f"{_shown(path)} is a second link to {_shown(seen[address])}"
                    )
                seen[address] = path
                with self._errors(f"{_shown(path)} cannot be opened"):
                    opened = h5o.open(group, name)
                if isinstance(opened, h5g.GroupID):
                    if depth == DEEPEST:
                        raise self.damaged(f"nests its groups deeper than {DEEPEST}")
                    groups[decode_name(path)] = None
                    pending.append((path, depth + 1))
                else:
                    variable = self._variable(opened, decode_name(path))
                    variables[variable.name] = variable
        return variables, groups

    def _check_link(self, path: bytes, kind: int) -> None:
        """Refuse a link of any kind but the one that names an object of this file."""
        if kind:
            raise self.unsupported(
                f"{_shown(path)} is {_LINK_KINDS.get(kind, 'a user-defined link')}"
            )

    def _links(self, group: Any, parent: bytes, most: int) -> list[tuple[bytes, int, int]]:
        """Return the name, the kind (0 is a hard link) and the address of each link of a group."""
        links: list[tuple[bytes, int, int]] = []

        def take(name: bytes, info: Any) -> bool | None:
            links.append((name, info.type, info.u))
            return True if len(links) > most else None

        with self._errors(f"the group {_shown(parent)} cannot be listed"):
            group.links.iterate(take, info=True)
        if len(links) > most:
            raise self.damaged(f"holds more than {MOST_LINKS} groups and datasets")
        return links

    def _variable(self, opened: Any, path: str) -> Variable:
        from h5py import h5d

        if not isinstance(opened, h5d.DatasetID):
            raise self.unsupported(f"{path!r} is neither a group nor a dataset")
        with self._errors(f"the dataset {path!r} cannot be read"):
            plist = opened.get_create_plist()
            virtual = plist.get_layout() == h5d.VIRTUAL
            external = plist.get_external_count()
            shape = opened.shape
            item = opened.get_type().get_size()
            stored = opened.get_storage_size()
        if virtual:
            raise self.unsupported(f"{path!r} is a virtual dataset: its values are in other files")
        if external:
            raise self.unsupported(f"{path!r} keeps its values in another file")
        shape = (0,) if shape is None else tuple(shape)
        declared = element_count(shape) * item
        if declared > BOMB_FLOOR and declared > BOMB_RATIO * stored:
            raise self.damaged(f"{path!r} declares {declared} bytes, and {stored} are stored")
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
        if dtype.str == "|V2" and self._text(opened, path, "dtype") in ("bfloat16", None):
            # The bits alone; the newer layout names the type beside them, the older one does not.
            return "bfloat16"
        return dtype.name if dtype.name in _PLAIN_TYPES else f"DataType({dtype.str})"

    def below(self, group: str) -> list[str]:
        """Return the datasets in a group and all groups in it, by their paths within it."""
        start = f"{group}/"
        return [name[len(start) :] for name in self.variables if name.startswith(start)]

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

    def has_group(self, name: str) -> bool:
        """Whether the root holds something of that name; nothing is listed for it."""
        with self._errors("its root group cannot be read"):
            return encoded(name) in self._file.id

    def has_attribute(self, group: str, attribute: str) -> bool:
        """Whether a group has an attribute of that name."""
        from h5py import h5a

        opened = self._group(group)
        with self._errors(f"the attributes of {group!r} cannot be read"):
            return bool(h5a.exists(opened, attribute.encode()))

    def _group(self, group: str) -> Any:
        from h5py import h5g

        with self._errors(f"the group {group!r} cannot be read"):
            return h5g.open(self._file.id, encoded(group) or b"/")

    def _text(self, opened: Any, owner: str, attribute: str) -> str | None:
        strings = self._attribute(opened, owner, attribute)
        if strings is not None and len(strings) != 1:
            raise self.damaged(f"the attribute {attribute!r} of {owner!r} is not one string")
        return strings[0] if strings else None

    def _attribute(self, opened: Any, owner: str, name: str) -> list[str] | None:
        """Return the strings of an attribute, whose size is checked before it is read."""
        from h5py import check_string_dtype, h5a

        what = f"the attribute {name!r} of {owner!r}"
        with self._errors(f"{what} cannot be read"):
            if not h5a.exists(opened, name.encode()):
                return None
            attribute = h5a.open(opened, name.encode())
            shape, dtype = attribute.shape, attribute.dtype
        count = 0 if shape is None else element_count(shape)
        if count > MOST_STRINGS or count * dtype.itemsize > LONGEST_ATTRIBUTE:
            raise self.damaged(f"{what} declares {count} elements of {dtype.itemsize} bytes")
        if not count:
            return []
        if check_string_dtype(dtype) is None:
            raise self.damaged(f"{what} is no string")
        elements = np.empty(shape, dtype)
        with self._errors(f"{what} cannot be read"):
            attribute.read(elements)
        return [decode_name(bytes(element)) for element in elements.flat]

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
        if self._variable(opened, variable.name) != variable:
            raise self.damaged("the file was changed after it was listed")
        with self._errors("it cannot be read"):
            plist = opened.get_create_plist()
            filters = {plist.get_filter(index)[0] for index in range(plist.get_nfilters())}
        if filters - _FILTERS:
            raise self.unsupported(f"it is compressed with the filter {min(filters - _FILTERS)}")
        # Each dataset may pass the check of its own size, and all of them together ask for more
        # memory than any file of this size can fill.
        self._left -= element_count(variable.shape) * dtype.itemsize
        if self._left < 0:
            raise self.damaged("its datasets declare far more bytes than the file can hold")
        with self._errors("it cannot be read"):
            array: NDArray[Any] = np.asarray(Dataset(opened)[()])
        if array.dtype.kind == "V":
            return array.view(dtype)
        return array.astype(dtype, copy=False)

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


def encoded(path: str) -> bytes:
    """Return a path's bytes, which need not be UTF-8."""
    return path.encode("utf-8", "surrogateescape")


def _shown(path: bytes) -> str:
    return repr(decode_name(path or b"/"))
