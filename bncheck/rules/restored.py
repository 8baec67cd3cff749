"""BN4xx: will what is in the checkpoint reach the graph's variables?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.batchnorm.names import STATISTICS, Role
from bncheck.rules.rule import Draft, Evidence, Level, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bncheck.batchnorm.layers import Layer, Member
    from bncheck.graph.model import Graph


def is_asked_for(member: Member, graph: Graph | None, *, own: bool) -> bool:
    """Whether the graph expects this variable from this checkpoint.

    The graph beside a checkpoint may save a part of its variables on purpose (a generator without
    its discriminator): its Saver's list says which. Any other graph asks for all that it has.
    """
    if member.graph_variable is None or graph is None:
        return False
    return not own or graph.saved_as is None or member.graph_variable.name in graph.saved_as


@rule("BN401", "not-restored", Level.ERROR)
def not_restored(evidence: Evidence) -> Iterator[Draft]:
    """A batch-norm variable of the graph has no counterpart in the checkpoint.

    What: The graph has the variable among its global variables, and the checkpoint has none of its
    name. With the graph beside the checkpoint, only what its own Saver lists is expected.

    Why: A Saver fails on it. An assignment map, as every loader that matches names builds one,
    skips it without a word: the variable keeps its initializer.

    Right: Variables that the graph's own Saver leaves out together with their whole layer are not
    expected here.

    Fix: Give the graph's scopes the checkpoint's names, or map them:
    tf.train.Saver({checkpoint_name: variable}). If the variable is in no checkpoint at all, see
    BN101.
    """
    for layer in evidence.layers if evidence.graph is not None else ():
        lost = {
            role: member
            for role, member in layer.members.items()
            if member.variable is None
            and is_asked_for(member, evidence.graph, own=evidence.graph_is_own)
        }
        if lost:
            there = any(member.variable for member in layer.members.values())
            yield Draft(
                layer=layer.name,
                variables=tuple(member.name for member in lost.values()),
                message=(
                    "the graph's "
                    if there
                    else "no variable of this layer is in the checkpoint: the graph's "
                )
                + f"{', '.join(role.value for role in lost)} would keep the initial value",
                help=_rename_help(evidence, lost),
                evidence={"keeps_initializer": [role.value for role in lost]},
            )


def _rename_help(evidence: Evidence, lost: dict[Role, Member]) -> str:
    if evidence.assignment is None:
        return ""
    for rename in evidence.assignment.renames:
        if all(member.name.startswith(rename.to_prefix) for member in lost.values()):
            return (
                f"The checkpoint has variables of the same names and shapes under "
                f"{rename.from_prefix or 'no scope'!r} where the graph has "
                f"{rename.to_prefix or 'no scope'!r} "
                f"({rename.matches} in all): rename the scope, or map the names with "
                "tf.train.Saver({checkpoint_name: variable})."
            )
    return ""


@rule("BN402", "restore-shape-mismatch", Level.ERROR)
def restore_shape_mismatch(evidence: Evidence) -> Iterator[Draft]:
    """A batch-norm variable has another shape in the graph than in the checkpoint.

    What: The names match, the shapes do not.

    Why: A Saver refuses to restore it. Loaders that skip what does not fit leave it at its
    initializer. Either way the graph is not the model that was saved.

    Right: A graph that does not fix the shape is not judged.

    Fix: Build the graph with the number of channels that the checkpoint was trained with.
    """
    for layer in evidence.layers if evidence.graph is not None else ():
        shapes = {
            role: (member.variable.shape, member.graph_variable.shape)
            for role, member in layer.members.items()
            if member.variable is not None
            and member.graph_variable is not None
            and member.graph_variable.shape is not None
            and member.variable.shape != member.graph_variable.shape
        }
        if shapes:
            yield Draft(
                layer=layer.name,
                variables=layer.names(*shapes),
                message="shapes differ: "
                + ", ".join(
                    f"{role.value} is {list(saved)} in the checkpoint and {list(expected)} "
                    "in the graph"
                    for role, (saved, expected) in shapes.items()
                ),
                evidence={
                    role.value: {"checkpoint": list(saved), "graph": list(expected)}
                    for role, (saved, expected) in shapes.items()
                },
            )


@rule("BN403", "statistics-skipped-by-trainable-map", Level.WARNING)
def statistics_skipped_by_trainable_map(evidence: Evidence) -> Iterator[Draft]:
    """An assignment map built from this collection would drop the statistics.

    What: The checkpoint and the graph have the statistics, but the collection that --collection
    names does not. Without that option the map is built from the global variables, and this rule is
    silent.

    Why: get_assignment_map_from_checkpoint(tf.trainable_variables(), ...) is copied from BERT,
    which has no batch norm. In a model that has, it restores gamma and beta and leaves every
    moving_mean and moving_variance at 0 and 1, without a word.

    Right: The statistics are never trainable; only the choice of the collection is wrong.

    Fix: Build the map from tf.global_variables().
    """
    if evidence.graph is None or evidence.collection == "global":
        return
    mapped = evidence.graph.collection(evidence.collection)
    for layer in evidence.layers:
        dropped = [
            member
            for role in STATISTICS
            if (member := layer.saved(role)) is not None
            and member.graph_variable is not None
            and member.graph_variable.name not in mapped
        ]
        if dropped:
            empty = "" if mapped else ", of which the graph has none,"
            yield Draft(
                layer=layer.name,
                variables=tuple(member.name for member in dropped),
                message=f"a map of the {evidence.collection} variables{empty} drops "
                f"{len(dropped)} statistics: they would keep the initial values",
                evidence={"collection": evidence.collection},
            )


@rule("BN404", "unused-statistics", Level.NOTE)
def unused_statistics(evidence: Evidence) -> Iterator[Draft]:
    """There are statistics in the checkpoint that the graph does not ask for.

    What: The checkpoint has the layer's statistics, and no variable of the graph has their names.

    Why: Either the graph is a part of the model that was saved, which is fine, or it calls the
    layer by another name, and then BN401 says so from the other side.

    Right: Serving a part of a model leaves variables over; therefore it is a note. What a change of
    prefix would match is left to BN401.

    Fix: If the layer should be restored, give it the checkpoint's name.
    """
    if evidence.graph is None or not evidence.graph.variables:
        return  # a frozen graph has constants instead, and restores nothing
    for layer in evidence.layers:
        unused = [role for role in STATISTICS if _is_unused(layer, role, evidence.graph)]
        if unused and not any(_is_renamed(layer.members[role].name, evidence) for role in unused):
            yield Draft(
                layer=layer.name,
                variables=layer.names(*unused),
                message="the graph has no variable for "
                + " and ".join(role.value for role in unused),
            )


def _is_unused(layer: Layer, role: Role, graph: Graph) -> bool:
    member = layer.saved(role)
    return (
        member is not None and member.graph_variable is None and member.name not in graph.variables
    )


def _is_renamed(name: str, evidence: Evidence) -> bool:
    """Whether the graph has the variable under another prefix, which BN401 then says."""
    if evidence.graph is None or evidence.assignment is None:
        return False
    return any(
        name.startswith(rename.from_prefix)
        and rename.to_prefix + name[len(rename.from_prefix) :] in evidence.graph.variables
        for rename in evidence.assignment.renames
    )
