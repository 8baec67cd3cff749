"""The pipeline of `bncheck map`: path and graph, the map between them, a loader's outcome."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from bncheck.assignment.edits import Applied, apply_all, count_renamed
from bncheck.assignment.loaders import Loader, Outcome, Request, load, request_of
from bncheck.assignment.matching import counterparts, unique
from bncheck.assignment.renames import suggest
from bncheck.batchnorm.names import STATISTICS, Role
from bncheck.batchnorm.objects import name_variables
from bncheck.checkpoint import open_location
from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.model import Checkpoint
from bncheck.checkpoint.object_graph import OBJECT_GRAPH
from bncheck.checkpoint.unchanged import unchanged
from bncheck.errors import DamagedError, NotFoundError, UnsupportedError
from bncheck.graph import graph_beside, load_graph
from bncheck.pairing import Pairing
from bncheck.report.map_model import Fate, MapReport, Match, Place, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bncheck.assignment.edits import Edit, Suggestion
    from bncheck.checkpoint.location import Location
    from bncheck.checkpoint.model import Values, Variable
    from bncheck.graph.model import Graph
    from bncheck.rehearsal import Rehearsal

_ORDER = (*STATISTICS, *(role for role in Role if role not in STATISTICS))


@dataclass(frozen=True, slots=True)
class MapOptions:
    """What the user may ask of a mapping; see the command line's help for each."""

    graph: str | None = None
    collection: str | None = None
    loader: Loader = Loader.ASSIGNMENT_MAP
    renames: tuple[Edit, ...] = ()
    rehearse: bool = False


class CannotRehearseError(Exception):
    """What was asked for has no rehearsal; the message says why."""


def map_checkpoint(path: str, options: MapOptions | None = None) -> MapReport:
    """Lay the checkpoint at a path beside a graph, and say what a loader would restore of it.

    Without a graph in the options, what lies beside the checkpoint is used. Raises BncheckError
    where either cannot be read, or the graph does not tell what the loader goes by, and
    CannotRehearseError where a rehearsal is asked for that cannot be.
    """
    options = options or MapOptions()
    location = locate(path)
    with unchanged():
        checkpoint = open_location(location)
        if checkpoint.structure.problem:
            raise DamagedError(checkpoint.path, checkpoint.structure.problem, remedy="")
        graph = _graph(location, options)
    edits = options.renames

    def rename(name: str) -> str:
        return apply_all(edits, name)

    request = request_of(graph, checkpoint, options.collection, rename if edits else None)
    outcome = load(options.loader, request)
    rehearsal = _rehearsal(request, outcome) if options.rehearse else None
    # What the graph knows by its path among objects goes by the name that the program calls it.
    full_names = {key: name for name, key in unique(graph.structure.full_names).items() if name}
    pairs: dict[str, str] = {}
    for name, key in outcome.restored.items():
        pairs.setdefault(key, full_names.get(name, name))
    return MapReport(
        checkpoint=checkpoint,
        graph=request.graph,
        outcome=outcome,
        rows=tuple(_rows(request, outcome)),
        assignment_map=dict(sorted(pairs.items())),
        applied=tuple(_applied(request, edits)),
        suggestions=tuple(_suggestions(request)),
        rehearsal=rehearsal,
    )


def _rehearsal(request: Request, outcome: Outcome) -> Rehearsal:
    from bncheck.rehearsal import obstacle, rehearse  # starts processes, and is seldom asked for

    reason = obstacle(request.graph, request.checkpoint, outcome.loader)
    if reason:
        raise CannotRehearseError(reason)
    return rehearse(request.graph, request.checkpoint, outcome)


def _graph(location: Location, options: MapOptions) -> Graph:
    if options.graph is None:
        graph = graph_beside(location)
        if graph is None:
            raise NotFoundError(
                location.prefix,
                "has no graph beside it to be matched with",
                remedy="Name one with --graph.",
            )
    else:
        graph = load_graph(options.graph)
    if graph.kind == "checkpoint" and options.collection not in (None, "global"):
        raise UnsupportedError(
            graph.source,
            f"is a checkpoint, which does not say which variables are {options.collection}",
            remedy="Give the program's own graph, or leave --collection out.",
        )
    return graph


def _applied(request: Request, edits: tuple[Edit, ...]) -> Iterator[Applied]:
    """Yield what each edit, after those before it, gained in matches of equal shape."""
    if not edits:
        return
    renamed = count_renamed(edits, request.checkpoint.variables)
    before = _equal_shapes(request, ())
    for number, edit in enumerate(edits):
        after = _equal_shapes(request, edits[: number + 1])
        yield Applied(edit, renamed[number], after - before)
        before = after


def _equal_shapes(request: Request, edits: tuple[Edit, ...]) -> int:
    def rename(name: str) -> str:
        return apply_all(edits, name)

    graph, checkpoint = request.graph, request.checkpoint
    found = counterparts(graph, checkpoint, rename if edits else None)
    return sum(
        graph.variables[name].shape in (None, checkpoint.variables[key].shape)
        for key, name in found.items()
    )


def _suggestions(request: Request) -> list[Suggestion]:
    """Return what would match more; a variable that is matched goes by the graph's name."""
    graph, checkpoint = request.graph, request.checkpoint
    ours = name_variables(graph.variables, graph.structure).names
    theirs = name_variables(checkpoint.variables, checkpoint.structure).names
    found = counterparts(graph, checkpoint, request.rename)
    rename = request.rename or str
    names = {
        key: ours.get(found[key], found[key]) if key in found else rename(theirs[key])
        for key in theirs
        if key != OBJECT_GRAPH
    }
    return suggest(
        {name: checkpoint.variables[key].shape for key, name in names.items()},
        {called: graph.variables[name].shape for name, called in ours.items()},
    )


def _rows(request: Request, outcome: Outcome) -> list[Row]:
    """Return a row for each variable of either side, those of batch norm first."""
    graph, checkpoint = request.graph, request.checkpoint
    by_name, by_key = _places(checkpoint, graph)
    keys = {name: key for key, name in counterparts(graph, checkpoint, request.rename).items()}
    keys |= {name: key for name, (key, _) in outcome.refused.items() if key}
    keys |= outcome.restored
    rows = []
    for name in graph.variables:
        key = keys.get(name)
        place = by_name.get(name) or (by_key.get(key) if key is not None else None)
        fate, reason = _fate(outcome, name)
        rows.append(Row(key, name, _match(request, name, key), place, fate, reason))
    used = {OBJECT_GRAPH, *keys.values()}
    rows += [
        Row(key, None, Match.CHECKPOINT_ONLY, by_key.get(key))
        for key in checkpoint.variables
        if key not in used
    ]
    inside = [row for row in rows if row.place is not None]
    return sorted(inside, key=_rank) + [row for row in rows if row.place is None]


def _rank(row: Row) -> tuple[str, bool, int]:
    """Sort by layers, in each the statistics first, and last what the graph does not have."""
    if row.place is None:
        return ("", False, 0)
    return row.place.layer, row.name is None, _ORDER.index(row.place.role)


def _match(request: Request, name: str, key: str | None) -> Match:
    if key is None:
        return Match.GRAPH_ONLY
    wanted, saved = request.graph.variables[name], request.checkpoint.variables[key]
    if wanted.shape is not None and wanted.shape != saved.shape:
        return Match.SHAPE_DIFFERS
    if wanted.dtype and wanted.dtype != saved.dtype:
        return Match.TYPE_DIFFERS
    return Match.MATCHED


def _fate(outcome: Outcome, name: str) -> tuple[Fate, str]:
    if name in outcome.refused:
        return Fate.REFUSED, outcome.refused[name][1]
    if name in outcome.skipped:
        return Fate.SKIPPED, outcome.skipped[name]
    return Fate.RESTORED, ""


class _Nothing(Checkpoint):
    """A checkpoint without variables: beside it, a graph speaks for itself."""

    path = ""
    format = ""
    shards = 0
    variables: Mapping[str, Variable] = MappingProxyType({})

    def read(self, names: Iterable[str]) -> Values:
        """Return nothing; nothing can be asked for."""
        raise KeyError(*names)


def _places(
    checkpoint: Checkpoint, graph: Graph
) -> tuple[Mapping[str, Place], Mapping[str, Place]]:
    """Return what the batch-norm variables are, by the graph's names and by the checkpoint's keys.

    Each side is grouped alone: in one group, a `running_mean` of the checkpoint would take the
    place of the `moving_mean` that the graph asks for.
    """
    asking = Pairing(_Nothing(), graph, own=False)
    by_name = {
        asking.graph_variables[candidate.key].name: Place(each.name, role)
        for each in asking.group().layers
        for role, candidate in each.roles.items()
    }
    by_key = {
        candidate.key: Place(each.name, role)
        for each in Pairing(checkpoint, None, own=False).group().layers
        for role, candidate in each.roles.items()
    }
    return by_name, by_key
