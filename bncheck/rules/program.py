"""BN503 and BN505: does the program save the statistics, and leave them to their averages?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.batchnorm.names import AFFINE, STATISTICS, Kind, kind_of
from bncheck.rules.rule import Draft, Evidence, Level, rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bncheck.batchnorm.layers import Layer, Member
    from bncheck.graph.model import Graph


_DEEPEST = 64  # scopes that an optimizer may put in front


@rule("BN503", "statistics-not-saved", Level.ERROR)
def statistics_not_saved(evidence: Evidence) -> Iterator[Draft]:
    """The graph's own Saver does not list the statistics.

    What: The names that the graph's save ops write (SaveV2, SaveSlices) hold the layer's gamma or
    beta, or all trainable variables, but not its statistics.

    Why: The Saver was built from tf.trainable_variables(), and the statistics are not trainable. No
    checkpoint of this program will ever hold them, however well it trains.

    Right: A Saver that leaves out whole layers saves a part of the model on purpose. Statistics
    that the checkpoint holds were saved by another one.

    Fix: Save all global variables: tf.train.Saver(tf.global_variables()), which is what
    tf.train.Saver() does. The statistics of this run are lost unless its process still lives: save
    again from there.
    """
    graph = evidence.graph
    if graph is None or graph.saved_as is None:
        return
    saves_trainables = is_saver_of_trainables(graph)
    for layer in evidence.layers:
        unsaved = [
            role
            for role in STATISTICS
            if role in layer.members
            and layer.members[role].variable is None
            and (known := layer.members[role].graph_variable) is not None
            and known.name not in graph.saved_as
        ]
        if unsaved and (saves_trainables or _affine_is_saved(layer, graph.saved_as)):
            names = " and ".join(role.value for role in unsaved)
            yield Draft(
                layer=layer.name,
                variables=layer.names(*unsaved),
                message=f"the graph's Saver does not save {names}, "
                + (
                    "only the trainable variables"
                    if saves_trainables
                    else "though it saves the layer's gamma or beta"
                ),
                evidence={"saved": len(graph.saved_as), "variables": len(graph.variables)},
                explains=("BN101", "BN102", "BN401"),
            )


def is_saver_of_trainables(graph: Graph) -> bool:
    """Whether the graph's own Saver saves every trainable variable, and not every variable."""
    saved, trainable = graph.saved_as, graph.collections.get("trainable_variables", ())
    if saved is None or not trainable:
        return False
    return all(name in saved for name in trainable) and any(n not in saved for n in graph.variables)


def _affine_is_saved(layer: Layer, saved_as: Mapping[str, str]) -> bool:
    members = [layer.members[role] for role in AFFINE if role in layer.members]
    return any(
        member.graph_variable and member.graph_variable.name in saved_as for member in members
    )


@rule("BN505", "statistics-optimized", Level.WARNING)
def statistics_optimized(evidence: Evidence) -> Iterator[Draft]:
    """The statistics are trainable, or an optimizer keeps slots for them.

    What: moving_mean or moving_variance is in the graph's TRAINABLE_VARIABLES, or the checkpoint
    has an optimizer's slot below it (moving_mean/Adam).

    Why: A gradient step on a statistic is no running average: variances can become negative, and
    whatever the batches say is overwritten. Weight decay pulls them towards 0.

    Right: Moving averages of the statistics (ExponentialMovingAverage, biased, local_step) are not
    slots.

    Fix: Create them with trainable=False and keep them out of minimize(var_list=...) and of
    apply_gradients: differentiate model.trainable_variables, not model.variables. Who put them into
    TRAINABLE_VARIABLES so that a Saver of those would hold them should save tf.global_variables()
    instead.
    """
    slots = _slots_by_variable(evidence)
    for layer in evidence.layers:
        optimized = {}
        for role in STATISTICS:
            member = layer.members.get(role)
            if member is None:
                continue
            if member.name in slots:
                optimized[role] = f"has the optimizer slot {slots[member.name]}"
            elif _is_trainable(member, evidence.graph):
                optimized[role] = "is in TRAINABLE_VARIABLES"
        if optimized:
            yield Draft(
                layer=layer.name,
                variables=layer.names(*optimized),
                message=", ".join(f"{role.value} {what}" for role, what in optimized.items()),
                evidence={role.value: what for role, what in optimized.items()},
            )


def _is_trainable(member: Member, graph: Graph | None) -> bool:
    if graph is None or member.graph_variable is None:
        return False
    return member.graph_variable.name in graph.collections.get("trainable_variables", ())


def _slots_by_variable(evidence: Evidence) -> dict[str, str]:
    """Return the name of a slot for each statistic that has one.

    An optimizer built inside of a scope puts that scope in front: `train/net/bn/moving_mean/Adam`.
    """
    statistics = {
        member.name
        for layer in evidence.layers
        for role in STATISTICS
        if (member := layer.members.get(role)) is not None
    }
    leaves = {name.rpartition("/")[2] for name in statistics}
    slots = {owner: slot for slot, owner in evidence.slots.items() if owner in statistics}
    for name in evidence.variables:
        owner = name.rpartition("/")[0]
        if owner.rpartition("/")[2] not in leaves:
            continue
        if name in evidence.slots or kind_of(name) is not Kind.SLOT:
            continue
        for _ in range(_DEEPEST):
            if owner in statistics:
                slots.setdefault(owner, name)
                break
            owner = owner.partition("/")[2]
    return slots
