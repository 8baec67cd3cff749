"""One checkpoint, read as far as its batch norm goes: layers with their values, and its step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from bncheck import limits
from bncheck.batchnorm.layers import Known, Layer, build_layers
from bncheck.batchnorm.names import Kind
from bncheck.batchnorm.others import kind_of_variable, step_of, step_variables
from bncheck.checkpoint.dtypes import numpy_dtype
from bncheck.checkpoint.model import element_count
from bncheck.checkpoint.object_graph import OBJECT_GRAPH
from bncheck.errors import UnsupportedError
from bncheck.pairing import Pairing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from bncheck.batchnorm.grouping import Group, Grouping
    from bncheck.batchnorm.objects import Naming
    from bncheck.checkpoint.model import Checkpoint, Values
    from bncheck.graph.model import Graph


@dataclass(frozen=True)
class Snapshot:
    """The layers of a checkpoint with the values of their variables; no other value was read.

    `unknown` are groups that may be any normalization, `step` is what the checkpoint's counters say
    and `step_source` the variable that says it, `saves` tf.train.Checkpoint's count of saves.
    `unread` is what could not be read, with the reasons, data files that are not whole included;
    `aside` are variables of layers that were not asked for.
    """

    checkpoint: Checkpoint
    naming: Naming
    layers: tuple[Layer, ...]
    unknown: tuple[Group, ...]
    step: int | None
    step_source: str | None
    saves: int | None
    unread: Mapping[str, str]
    aside: frozenset[str] = frozenset()

    @cached_property
    def others(self) -> dict[str, Kind]:
        """The variables in no layer that hold numbers of their own: no duplicates, descriptions."""
        inside = self.aside | {
            member.name for layer in self.layers for member in layer.members.values()
        }
        kinds = {
            name: kind_of_variable(self.checkpoint, name)
            for name in self.checkpoint.variables
            if name not in inside
        }
        return {k: kind for k, kind in kinds.items() if kind not in (Kind.COPY, Kind.DESCRIPTION)}

    def of_layers(self, layers: Iterable[Layer]) -> Snapshot:
        """Return the snapshot with these layers alone; the others are set aside."""
        members = {member.name for layer in self.layers for member in layer.members.values()}
        return replace(self, layers=tuple(layers), aside=self.aside | members)

    def named(self, pattern: str) -> Snapshot:
        """Return the snapshot with the layers alone whose names fit a shell's pattern."""
        return self.of_layers(each for each in self.layers if fnmatchcase(each.name, pattern))

    def of_checkpoint(self, checkpoint: Checkpoint) -> Snapshot:
        """Return the snapshot with something else in the place of the checkpoint it is of."""
        return replace(self, checkpoint=checkpoint)


class Groups:
    """The groups of the last checkpoint that was seen: those of one run have them in common."""

    def __init__(self) -> None:
        self._last: tuple[Checkpoint, Graph | None, bool] | None = None
        self._pairing: Pairing | None = None
        self._grouping: Grouping | None = None

    def of(
        self, checkpoint: Checkpoint, graph: Graph | None, *, own: bool
    ) -> tuple[Pairing, Grouping]:
        """Return which of the variables are one layer."""
        if self._pairing is None or self._grouping is None or not self._is_last(checkpoint, graph):
            self._pairing = Pairing(checkpoint, graph, own=own)
            self._grouping = self._pairing.group()
        self._last = (checkpoint, graph, own)
        return self._pairing, self._grouping

    def _is_last(self, checkpoint: Checkpoint, graph: Graph | None) -> bool:
        if self._last is None:
            return False
        last, last_graph, _ = self._last
        return (
            last_graph is graph
            and last.variables == checkpoint.variables
            and last.structure == checkpoint.structure
        )


def take_snapshot(
    checkpoint: Checkpoint,
    graph: Graph | None = None,
    *,
    own: bool = False,
    groups: Groups | None = None,
) -> Snapshot:
    """Read the batch norm of an open checkpoint, told by its names, objects, and the graph's.

    `own` says that the graph is the one that was saved with the checkpoint. `groups` remembers the
    layers of a checkpoint of the same variables. Raises UnsupportedError where they are too large.
    """
    pairing, grouping = (groups or Groups()).of(checkpoint, graph, own=own)
    steps = step_variables(checkpoint)
    saves = checkpoint.structure.saves
    names = _names_to_read(grouping, [*steps, *([saves] if saves else [])])
    _check_size(checkpoint, names)
    values = checkpoint.read(names)
    known = Known(graph, pairing.graph_variables, pairing.naming.configs)
    step = step_of(values, steps)
    return Snapshot(
        checkpoint=checkpoint,
        naming=pairing.naming,
        layers=tuple(build_layers(grouping.layers, checkpoint.variables, values, known)),
        unknown=tuple(grouping.unknown),
        step=step,
        step_source=steps[0] if step is not None else None,
        saves=None if saves is None else step_of(values, [saves]),
        unread=_unread(checkpoint, values),
    )


def _check_size(checkpoint: Checkpoint, names: Iterable[str]) -> None:
    """Refuse, before anything is read, values that no memory need hold."""
    variables = map(checkpoint.variables.__getitem__, names)
    # Most of them share their type and shape with many others.
    forms = Counter([variable[1:] for variable in variables])
    size = 0
    for (dtype, shape), count in forms.items():
        known = numpy_dtype(dtype)
        size += count * element_count(shape) * (1 if known is None else known.itemsize)
    if size > limits.LARGEST_VALUES:
        raise UnsupportedError(
            checkpoint.path,
            f"has {size} bytes of what is called like batch norm, more than any model's",
            remedy="Is it damaged, or are its weights called so? bncheck map reads no values.",
        )


def _names_to_read(grouping: Grouping, counters: Iterable[str]) -> Collection[str]:
    names = [
        candidate.key
        for each in grouping.layers
        for candidate in each.roles.values()
        if candidate.in_checkpoint
    ]
    return dict.fromkeys([*names, *counters])


def _unread(checkpoint: Checkpoint, values: Values) -> dict[str, str]:
    """Return every value that could not be read, and every other data file that is not whole."""
    problem = checkpoint.structure.problem
    found = {OBJECT_GRAPH: problem} if problem else {}
    found |= values.unread
    return found | {
        path: reason
        for path, reason in checkpoint.damaged_files().items()
        if path not in values.broken_files
    }
