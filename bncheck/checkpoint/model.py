"""What a checkpoint is to the rest of bncheck: named variables, and their values on demand."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.checkpoint.structure import NO_STRUCTURE, Structure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from numpy.typing import NDArray

_LONGEST_QUOTED: Final = 500  # characters of a name in a sentence


# Plain records are NamedTuples here and elsewhere: a frozen dataclass takes half a millisecond
# to define, a NamedTuple a seventh of that, and every run defines them all.
class Variable(NamedTuple):
    """One named tensor of a checkpoint; `dtype` is TensorFlow's name of its type."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Checksum(NamedTuple):
    """The stored CRC32Cs of a variable's bytes: one, or one for each slice of `layout`.

    Equal checksums of variables of equal type and shape mean equal bytes. `native` says that the
    bytes are of the machine's byte order, as those of the values that are read.
    """

    layout: tuple[tuple[tuple[int, int], ...], ...]
    crcs: tuple[int, ...]
    native: bool = True


@dataclass(frozen=True, slots=True)
class Values:
    """The tensors that were asked for: `arrays` by name, and in `unread` why one is not there.

    `broken_files` are the data files that `unread` speaks of.
    """

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    broken_files: set[str] = field(default_factory=set)


class Checkpoint(ABC):
    """A set of variables in some format.

    `path` is the prefix or file as a person would name it, `format` one of the JSON report's
    formats, `shards` the number of data files. `variables` is in the checkpoint's own order, that
    of the names' bytes. `structure` is what it tells of them beyond their names, `remarks` what a
    person should know of how it was read.
    """

    path: str
    format: str
    shards: int
    variables: Mapping[str, Variable]
    structure: Structure = NO_STRUCTURE
    remarks: tuple[str, ...] = ()

    def damaged_files(self) -> dict[str, str]:
        """Return the data files that are missing or too short, each with the reason.

        Only sizes are looked at. A checkpoint that was copied by half is told by this even if no
        value is asked for.
        """
        return {}

    def checksum(self, name: str) -> Checksum | None:  # noqa: ARG002 - of formats that store some
        """Return what the checkpoint stores to check a variable by, None where it stores nothing.

        Nothing is read for it.
        """
        return None

    @abstractmethod
    def read(self, names: Iterable[str]) -> Values:
        """Read the values of the named variables, and of no others.

        Each array has the variable's shape and a NumPy (or ml_dtypes) type of the machine's byte
        order; strings are arrays of `bytes` objects. Whatever prevents a variable from being read
        (a shard that is missing, a checksum that fails) is told in `unread`. Raises KeyError for a
        name that is not there.
        """


def element_count(shape: Iterable[int]) -> int:
    """Return the number of elements of a tensor of that shape; 1 for a scalar."""
    return math.prod(shape)


def decode_name(name: bytes) -> str:
    """Return a variable's name as text.

    Bytes that are no UTF-8 become lone surrogates, and stay distinct.
    """
    return name.decode("utf-8", "surrogateescape")


def key_of(name: str) -> bytes:
    """Return the bytes that a variable's name was made of."""
    return name.encode("utf-8", "surrogateescape")


def quoted(name: object) -> str:
    """Return a name for a sentence, cut where it is longer than any real one."""
    text = repr(name)
    if len(text) > _LONGEST_QUOTED:
        return f"{text[:_LONGEST_QUOTED]}... ({len(text)} characters)"
    return text
