"""A checkpoint of one HDF5 file or several: what all of Keras' formats have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.checkpoint.hdf5 import encoded
from bncheck.checkpoint.model import Checkpoint, Values, Variable
from bncheck.errors import BncheckError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bncheck.checkpoint.hdf5 import Hdf5File, Source
    from bncheck.checkpoint.structure import Structure


class Hdf5Checkpoint(Checkpoint):
    """A checkpoint whose variables are the datasets of HDF5 files; keys are their paths.

    Each of `sources` opens one of the files, and `places` says which of them holds a variable.
    """

    def __init__(
        self,
        path: str,
        form: str,
        sources: Sequence[Source],
        places: Mapping[str, int],
        variables: Mapping[str, Variable],
        structure: Structure,
    ) -> None:
        self.path = path
        self.format = form
        self.shards = len(sources)
        self.variables = {name: variables[name] for name in sorted(variables, key=encoded)}
        self.structure = structure
        self._sources = sources
        self._places = places

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
