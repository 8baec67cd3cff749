"""BN205 and BN206: how far did the averages get from where they started?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bncheck.batchnorm.layers import Status
from bncheck.batchnorm.names import MOVING_MEAN, MOVING_VARIANCE, STATISTICS
from bncheck.rules.rule import Draft, Evidence, Level, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bncheck.batchnorm.layers import Layer, Member
    from bncheck.graph.model import Graph


@rule("BN205", "undertrained-statistics", Level.WARNING)
def undertrained_statistics(evidence: Evidence) -> Iterator[Draft]:
    """More than 5 % of each statistic's value is still its initializer.

    What: After n updates the initial value's weight is momentum**n. The momentum comes from the
    graph's update ops or from --momentum, n from the checkpoint's step or --step.

    Why: With momentum 0.999, as slim and contrib default to, 1000 steps leave 37 % of the initial 0
    and 1: the model trains well and predicts badly, and slowly gets better with more steps.

    Right: Statistics that did not start at 0 and 1 are not concerned: a variance below momentum**n
    proves that (no batch's variance is negative), and makes it a note for the other layers of the
    same model, which were restored with it, or are new. Nor are zero-debiased averages (contrib
    debiases the mean alone), or layers that the configuration calls frozen.

    Fix: Train longer, use a smaller momentum (0.9 to 0.99), or run the update ops over more
    training data before saving.
    """
    if not evidence.step or evidence.step < 0 or _is_of_another_program(evidence):
        return
    found = [each for layer in evidence.layers for each in _initial_weight(layer, evidence)]
    restored = any(each.is_disproved for each in found)
    for layer, weight, updates, momentum, is_disproved in found:
        if is_disproved:
            continue
        debiased = MOVING_MEAN in layer.zero_debiased
        yield Draft(
            layer=layer.name,
            variables=layer.names(*(STATISTICS[1:] if debiased else STATISTICS)),
            message=f"{weight:.0%} of "
            f"{'moving_variance' if debiased else 'the statistics'} is still the initial "
            f"{'1' if debiased else '0 and 1'}: "
            f"{updates} updates at momentum {momentum:g}, unless they were restored"
            + (", as other layers were" if restored else ""),
            level=Level.NOTE if restored else None,
            evidence={"momentum": momentum, "updates": updates, "initial_weight": weight},
        )


def _is_of_another_program(evidence: Evidence) -> bool:
    """Whether the momentum is that of a program for serving, which did not train these values."""
    graph = evidence.graph
    return (
        graph is not None
        and not evidence.graph_is_own
        and graph.role == "serving"
        and graph.kind in ("meta-graph", "graph-def")
    )


class _Initial(NamedTuple):
    """How much of a layer's statistics is the initializer, and whether a value disproves it."""

    layer: Layer
    weight: float
    updates: int
    momentum: float
    is_disproved: bool


def _initial_weight(layer: Layer, evidence: Evidence) -> Iterator[_Initial]:
    momentum = evidence.momentum_of(layer)
    variance = layer.members.get(MOVING_VARIANCE)
    if (
        momentum is None
        or not 0 <= momentum <= 1
        or MOVING_VARIANCE in layer.zero_debiased
        or layer.status is not Status.TRAINED
        or (layer.config is not None and layer.config.trainable is False)
        or variance is None
        or variance.summary is None
        or variance.expected != 1
        or _starts_elsewhere(variance)
    ):
        return
    updates = (evidence.step or 0) * _updates_in_a_step(layer, evidence.graph)
    weight = momentum**updates
    if weight > evidence.thresholds.initial_weight:
        # float32 rounds each of the updates; a thousandth of slack is far more than that adds up
        # to.
        yield _Initial(layer, weight, updates, momentum, variance.summary.minimum < weight * 0.999)


def _starts_elsewhere(variance: Member) -> bool:
    """Whether the graph initializes a variance from an array or a checkpoint, not from 1."""
    known = variance.graph_variable
    return known is not None and known.initial_known and known.initial != 1


def _updates_in_a_step(layer: Layer, graph: Graph | None) -> int:
    """Return how many update ops a layer has: D(real) and D(fake) update it twice."""
    variance = layer.members[MOVING_VARIANCE].graph_variable
    return graph.updates.get(variance.name, 1) if graph is not None and variance is not None else 1


@rule("BN206", "dead-channels", Level.NOTE)
def dead_channels(evidence: Evidence) -> Iterator[Draft]:
    """Some channels never had an input other than 0.

    What: The mean is exactly 0 and the variance has decayed from its initial 1 towards 0, as
    momentum**n does.

    Why: The channel is constant in front of this layer, mostly because a ReLU there is always off.
    It costs capacity, not correctness.

    Right: A channel that lives never has a mean of exactly 0.

    Fix: Nothing has to be done for serving. In training, a lower learning rate or another
    initializer keeps channels alive.
    """
    for layer in evidence.layers:
        mean, variance = layer.members.get(MOVING_MEAN), layer.members.get(MOVING_VARIANCE)
        if (
            layer.status is not Status.TRAINED
            or mean is None
            or variance is None
            or mean.summary is None
            or mean.summary.zeros == 0
            or mean.values is None
            or variance.values is None
            or mean.values.size != variance.values.size
        ):
            continue
        decayed = variance.values.reshape(-1) < (variance.expected or 1)
        dead = int(((mean.values.reshape(-1) == 0) & decayed).sum())
        if dead:
            yield Draft(
                layer=layer.name,
                variables=layer.names(*STATISTICS),
                message=f"{dead} of {mean.values.size} channels never had an input other than 0",
                evidence={"dead": dead, "channels": mean.values.size},
            )
