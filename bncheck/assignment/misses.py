"""The assignment map's three sets: what is matched, and what only one of the two sides has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bncheck.assignment.matching import counterparts
from bncheck.batchnorm.objects import name_variables
from bncheck.checkpoint.object_graph import OBJECT_GRAPH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bncheck.checkpoint.model import Checkpoint
    from bncheck.graph.model import Graph


class Rename(NamedTuple):
    """Prefixes that would turn misses into matches: the checkpoint's, and the graph's instead."""

    from_prefix: str
    to_prefix: str
    matches: int


class Assignment(NamedTuple):
    """The map's three sets, each in the order of its source, and what could mend the misses.

    `matched` maps the checkpoint's keys to the graph's names.
    """

    matched: Mapping[str, str]
    graph_only: tuple[str, ...]
    checkpoint_only: tuple[str, ...]
    renames: tuple[Rename, ...]


def assign(graph: Graph, checkpoint: Checkpoint, collection: str) -> Assignment:
    """Lay the collection's variables beside the checkpoint's.

    Renames are looked for in all of the graph's variables: what the collection leaves out is not
    misnamed.
    """
    everything = counterparts(graph, checkpoint)
    targets = graph.collection(collection)
    matched = {key: name for key, name in everything.items() if name in targets}
    used = set(matched.values())
    graph_only = {name: v.shape for name, v in targets.items() if name not in used}
    checkpoint_only = tuple(
        key for key in checkpoint.variables if key not in matched and key != OBJECT_GRAPH
    )
    called = name_variables(checkpoint.variables, checkpoint.structure).names
    strangers = {
        called[key]: checkpoint.variables[key].shape
        for key in checkpoint_only
        if key in called and key not in everything
    }
    return Assignment(
        matched=matched,
        graph_only=tuple(graph_only),
        checkpoint_only=checkpoint_only,
        renames=tuple(suggest_renames(strangers, graph_only)),
    )


def suggest_renames(
    checkpoint_only: Mapping[str, tuple[int, ...]],
    graph_only: Mapping[str, tuple[int, ...] | None],
) -> list[Rename]:
    """Return the prefix changes that match variables of equal shape, those that gain most first.

    A change must gain two variables or more, to be told from chance, and no other may gain as many
    of the same.
    """
    wanted = {name: shape for name, shape in graph_only.items() if shape is not None}
    if not wanted or not checkpoint_only:
        return []
    from bncheck.assignment.proposals import Kind  # 5 ms, and most graphs find all they want
    from bncheck.assignment.renames import search

    renames = []
    for each in search(checkpoint_only, wanted, (), frozenset((Kind.PREFIX,))):
        if each.rivals:
            break
        renames.append(Rename(each.proposal.source, each.proposal.target, each.gains))
    return renames
