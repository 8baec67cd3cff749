"""A checkpoint of one HDF5 file or several: what all of Keras' formats have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bncheck.checkpoint.dtypes import is_floating
from bncheck.checkpoint.hdf5 import encoded
from bncheck.checkpoint.keras_config import AFFINE, STATISTICS
from bncheck.checkpoint.model import Checkpoint, Values, Variable, element_count, quoted
from bncheck.errors import BncheckError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bncheck.checkpoint.hdf5 import Hdf5File, Source
    from bncheck.checkpoint.structure import Structure


_MEAN: Final = "moving_mean"
_ROLES: Final = (*AFFINE, *STATISTICS)


class Hdf5Checkpoint(Checkpoint):
    """A checkpoint whose variables are the datasets of HDF5 files; keys are their paths.

    Each of `sources` opens one of the files, and `places` says which of them holds a variable.
    `remarks` are its reader's own.
    """

    def __init__(
        self,
        path: str,
        form: str,
        sources: Sequence[Source],
        places: Mapping[str, int],
        variables: Mapping[str, Variable],
        structure: Structure,
        remarks: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.format = form
        self.shards = len(sources)
        self.variables = {name: variables[name] for name in sorted(variables, key=encoded)}
        self.structure = structure
        members = _members(structure, variables)
        self.remarks = (*remarks, *_remarks(members))
        # Keras stores numbers: a role of another type is no layer without that role, but damage.
        self._untyped = [each for each in members if each.dtype.startswith("DataType(")]
        self._sources = sources
        self._places = places

    def damaged_files(self) -> dict[str, str]:
        """Return the file where a batch normalization has a variable that is of no known type."""
        if not self._untyped:
            return {}
        return {self.path: _remark(self._untyped, f"are of no type: {self._untyped[0].dtype}")}

    def read(self, names: Iterable[str]) -> Values:
        """Read the values of the named variables alone, file by file."""
        wanted: dict[int, list[str]] = {}
        for name in names:
            wanted.setdefault(self._places[name], []).append(name)
        values = Values()
        for place, here in sorted(wanted.items()):
            try:
                with self._sources[place]() as file:
                    _read_each(file, [self.variables[name] for name in here], values)
            except BncheckError as error:
                values.unread.update({name: str(error) for name in here})
                values.broken_files.add(error.path)
        return values


def _members(structure: Structure, variables: Mapping[str, Variable]) -> list[Variable]:
    """Return the variables of the batch normalizations."""
    batch_norms = [each.attributes for each in structure.objects if _MEAN in each.attributes]
    return [variables[key] for each in batch_norms for role, key in each.items() if role in _ROLES]


def _remarks(members: Sequence[Variable]) -> Iterator[str]:
    """Say which statistics are of a kind that Keras does not train."""
    other = [each for each in members if not is_floating(each.dtype)]
    other = [each for each in other if not each.dtype.startswith("DataType(")]
    if other:
        yield _remark(other, f"are stored as {other[0].dtype}, not as floating-point numbers")
    empty = [each for each in members if not element_count(each.shape)]
    if empty:
        yield _remark(empty, "have no elements, so that nothing was trained in them")


def _remark(variables: Sequence[Variable], what: str) -> str:
    shown = ", ".join(quoted(variable.name) for variable in variables[:3])
    more = ", ..." if len(variables) > 3 else ""
    return f"batch-norm variables {what}: {shown}{more}"


def _read_each(file: Hdf5File, variables: Iterable[Variable], values: Values) -> None:
    for variable in variables:
        name = variable.name
        try:
            values.arrays[name] = file.read(variable)
        except BncheckError as error:
            values.unread[name] = error.what
            values.broken_files.add(file.path)
        except MemoryError:
            values.unread[name] = "there is not enough memory for it"
