"""A checkpoint beside a graph: which variable is which, and which of them make up one layer."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from bncheck.assignment import counterparts
from bncheck.batchnorm.grouping import Candidate, Group, Grouping, group
from bncheck.batchnorm.names import MOVING_MEAN, MOVING_VARIANCE, STATISTICS, read_name
from bncheck.batchnorm.objects import is_other_class, name_variables
from bncheck.records import records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bncheck.checkpoint.model import Checkpoint
    from bncheck.graph.model import Graph, GraphVariable


class Pairing:
    """A checkpoint's variables and a graph's under the names that layers are told by.

    `own` says that the graph is the one that was saved with the checkpoint. `naming` is the
    checkpoint's; `graph_variables` are those of the graph, by the checkpoint's key where it has
    one.
    """

    def __init__(self, checkpoint: Checkpoint, graph: Graph | None, *, own: bool) -> None:
        self._checkpoint = checkpoint
        self._graph = graph
        self._own = own
        self.naming = name_variables(checkpoint.variables, checkpoint.structure)
        self._found = counterparts(graph, checkpoint) if graph is not None else {}
        if own and graph is not None and graph.saved_as:
            # What the graph's own Saver saved under another name goes by the graph's name for it.
            self._found |= {
                saved: name
                for name, saved in graph.saved_as.items()
                if saved != name and name not in checkpoint.variables
            }
        self._told_by_ops = {} if graph is None else dict(_named_by_ops(graph))
        self.graph_variables: dict[str, GraphVariable] = {}
        if graph is not None:
            used = set(self._found.values())
            self.graph_variables = {n: v for n, v in graph.variables.items() if n not in used}
            for key, name in self._found.items():
                if name in graph.variables:
                    self.graph_variables[key] = graph.variables[name]

    def group(self) -> Grouping:
        """Group the checkpoint's variables, and those that only the graph has.

        A gamma and beta that the graph has, without any statistics beside them, are no batch norm
        whose statistics went missing; nor are those of an object that is known to have no others.
        """
        expected = self._graph.variables if self._graph is not None and not self._own else ()
        grouping = group(self._candidates(), expected)
        layers: list[Group] = []
        unknown: list[Group] = []
        for each in grouping.layers:
            config = self.naming.configs.get(each.name)
            without = MOVING_MEAN not in each.roles and MOVING_VARIANCE not in each.roles
            if without and config is not None and is_other_class(config):
                continue  # a LayerNormalization may be called bn1
            # A name that says batch norm is worth a note.
            whole = without and each.name in self.naming.whole
            (unknown if whole or self._lacks_statistics(each) else layers).append(each)
        for each in grouping.unknown:
            config = self.naming.configs.get(each.name)
            if config is not None and not is_other_class(config) and config.momentum is not None:
                layers.append(each)
            elif each.name not in self.naming.whole and not self._lacks_statistics(each):
                unknown.append(each)
        # The notes are on the checkpoint: what only the graph has (its optimizer's slots) is none.
        # Nor is what the ops of a frozen graph tell, which has lost the statistics.
        unknown = [
            each
            for each in unknown
            if any(c.in_checkpoint for c in each.roles.values())
            and not any(c.name in self._told_by_ops.values() for c in each.roles.values())
        ]
        by_name = attrgetter("name")
        return Grouping(sorted(layers, key=by_name), sorted(unknown, key=by_name))

    def _candidates(self) -> list[Candidate]:
        variables = self._checkpoint.variables
        if self._graph is None:
            names = self.naming.names
            saved = [variables[key] for key in names]
            shapes, dtypes = [each.shape for each in saved], [each.dtype for each in saved]
            in_checkpoint = [True] * len(saved)
            return list(records(Candidate, names, names.values(), shapes, dtypes, in_checkpoint))
        candidates = []
        for key, called in self.naming.names.items():
            saved_by_graph = self._own and key == called
            name = self._found.get(key, called) if saved_by_graph else called
            name = self._told_by_ops.get(name, name)
            candidates.append(Candidate(key, name, variables[key].shape, variables[key].dtype))
        there = {candidate.name for candidate in candidates} | set(self._found.values())
        naming = name_variables(self._graph.variables, self._graph.structure)
        return candidates + [
            Candidate(
                name,
                self._told_by_ops.get(name, naming.names[name]),
                variable.shape,
                variable.dtype,
                in_checkpoint=False,
            )
            for name, variable in self._graph.variables.items()
            if name not in there and name in naming.names
        ]

    def _lacks_statistics(self, each: Group) -> bool:
        """Whether the graph has this layer's affine, and nobody has any statistics of it."""
        if self._graph is None or self._graph.kind in ("checkpoint", "names"):
            return False
        return all(role not in each.roles for role in STATISTICS) and any(
            candidate.key in self.graph_variables for candidate in each.roles.values()
        )


def _named_by_ops(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield names for the variables whose own tell no role, where the graph's ops do.

    `Variable_2`, which an op takes as its scale, becomes `net/bn/gamma`: the layer is called as its
    other variables say, else as its ops.
    """
    for layer in graph.layers:
        readings = {name: read_name(name) for name in layer.roles.values()}
        scopes = {reading.scope for reading in readings.values() if reading is not None}
        scope = scopes.pop() if len(scopes) == 1 else layer.name
        for role, name in layer.roles.items():
            if readings[name] is None:
                yield name, f"{scope}/{role}" if scope else role
