"""BN601 to BN603: did the statistics follow the weights from one checkpoint to the next?"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from bncheck.batchnorm.layers import is_exact
from bncheck.batchnorm.names import ANY_AFFINE, STATISTICS, Role
from bncheck.changes.model import Change
from bncheck.rules.rule import Draft, Evidence, Level, rule
from bncheck.rules.trained import initial_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bncheck.batchnorm.layers import Member
    from bncheck.changes.model import Comparison, LayerChange, RoleChange

_NEARLY: Final = 0.05  # how near to 0 and 1 every channel is a few steps after a reset
_BACK: Final = 0.2  # of the way from the initial values, what is left of it after a reset
_SAME_BITS: Final = (Change.IDENTICAL, Change.HALF_COPY, Change.PRECISION_COPY)
_MOST: Final = 0.5  # the share of the weights beside a layer above which training reaches it
_UNTRAINED: Final = ("BN201", "BN202", "BN203")


class _Weights:
    """How many of the weights moved, by the scopes that they are in."""

    def __init__(self, comparison: Comparison) -> None:
        # Where layers are under other numbers, so are the weights beside them.
        self._weights = {} if comparison.pairs.shifts else comparison.others.moved

    @cached_property
    def _scopes(self) -> tuple[Counter[str], Counter[str]]:
        """Count all weights below each scope, and those that moved; few comparisons need it."""
        everything: Counter[str] = Counter()
        different: Counter[str] = Counter()
        for name, moved in self._weights.items():
            scope = name
            while scope:
                scope = scope.rpartition("/")[0]
                everything[scope] += 1
                different[scope] += moved
        return everything, different

    def share_moved(self, change: LayerChange) -> float | None:
        """Return which share of the weights beside a layer moved.

        Those are the weights of the innermost scope that has any: a part of the model that was not
        trained, such as a GAN's other network, has a scope of its own. None where there are no
        weights, or their numbers may be shifted.
        """
        everything, different = self._scopes
        scope = change.pair.after.name
        while scope:
            scope = scope.rpartition("/")[0]
            if everything[scope]:
                return different[scope] / everything[scope]
        return None


def _affine_moved(change: LayerChange) -> bool | None:
    """Say whether gamma or beta moved; None where the layer has none that can be compared."""
    affine = [change.roles[role].change for role in ANY_AFFINE if role in change.roles]
    known = [each for each in affine if each not in (Change.ADDED, Change.REMOVED, Change.UNREAD)]
    return any(each not in _SAME_BITS for each in known) if known else None


def _certain(evidence: Evidence) -> Iterator[LayerChange]:
    if evidence.comparison is not None:
        for change in evidence.comparison.layers:
            if change.is_certain and change.statistics():
                yield change


def _is_initial(change: RoleChange) -> bool:
    return change.after is not None and bool(change.after.initial)


def _names(*changes: RoleChange) -> tuple[str, ...]:
    return tuple(each.after.name for each in changes if each.after is not None)


def _roles(change: LayerChange, *kinds: Change) -> str:
    found = [
        role.value
        for role in STATISTICS
        if role in change.roles and change.roles[role].change in kinds
    ]
    return " and ".join(found)


def _steps(evidence: Evidence) -> dict[str, int | None]:
    comparison = evidence.comparison
    if comparison is None:
        return {}
    return {"step_before": comparison.before.step, "step_after": comparison.after.step}


@rule("BN601", "statistics-frozen", Level.ERROR)
def statistics_frozen(evidence: Evidence) -> Iterator[Draft]:
    """Weights moved between the two checkpoints, and the statistics did not.

    What: gamma, beta or most of the weights beside the layer changed, while its statistics are bit
    by bit the same: an error where they are still initial, a warning where they were trained
    before.

    Why: Every update changes the bits, so no update ran in between. Where the statistics are
    initial they never were updated at all. Where they are trained, they belong to other weights
    than those that they are saved with, the more so the longer it goes on.

    Right: Fine-tuning with frozen batch norm (training=False, trainable=False) looks just like
    this, which is why it is a warning then. A network of its own that was not trained at all (a
    GAN's other half, a frozen backbone), or a layer that nothing trains, is silent. So are
    statistics in half precision, where small updates round to nothing.

    Fix: Run the update ops with every training step: in TensorFlow 1 let it depend on
    tf.get_collection(tf.GraphKeys.UPDATE_OPS); in TensorFlow 2 call the model with training=True.
    If batch norm is frozen on purpose, --ignore BN601.
    """
    comparison = evidence.comparison
    if comparison is None:
        return
    weights = _Weights(comparison)
    for change in _certain(evidence):
        statistics = change.statistics()
        frozen = [each for each in statistics if each.change in _SAME_BITS]
        if not frozen or _is_damaged(change):
            continue
        affine, share = _affine_moved(change), weights.share_moved(change)
        # Where most of the weights beside it stand still, the layer may well do so, too: it is in
        # front of what is trained.
        if not (affine or (share or 0) > _MOST):
            continue
        draft = _frozen_draft(change, frozen, affine=affine)
        if draft is None:
            continue
        message, level = draft
        yield Draft(
            layer=change.pair.after.name,
            variables=_names(*frozen),
            message=message,
            level=level,
            evidence={"affine_moved": affine, "weights_moved": share, **_steps(evidence)},
            explains=_UNTRAINED,
        )


def _frozen_draft(
    change: LayerChange, frozen: list[RoleChange], *, affine: bool | None
) -> tuple[str, Level | None] | None:
    """Return message and level for statistics that stood still; None where that is all right."""
    statistics = change.statistics()
    exact = all(is_exact(each.after) for each in frozen if each.after is not None)
    initial = all(map(_is_initial, frozen))
    if len(frozen) < len(statistics):
        # What is initial on one side alone is BN202's; a dead layer's mean stays 0. And the other
        # may have moved by less than the tolerance.
        quiet = initial or not exact or all(each.change.is_none for each in statistics)
        return None if quiet else _half_frozen(change)
    if initial:
        unused = affine is False and _affine_initial(change)  # nothing trains this layer
        return None if unused else _never_updated(change, exact=exact)
    return _stopped(affine=bool(affine)) if exact else None


def _is_damaged(change: LayerChange) -> bool:
    """Whether a statistic holds NaN now: no update changes that, and BN301 says it."""
    return any(
        each.after is not None and each.after.summary is not None and each.after.summary.nonfinite
        for each in change.statistics()
    )


def _affine_initial(change: LayerChange) -> bool:
    affine = [change.roles[role] for role in ANY_AFFINE if role in change.roles]
    return all(each.after is not None and each.after.moved is not True for each in affine)


def _never_updated(change: LayerChange, *, exact: bool) -> tuple[str, Level | None]:
    message = (
        f"weights moved, and the statistics are still initial: {initial_values(change.pair.after)}"
    )
    if exact:
        return message, None
    return f"{message}; they are in half precision, so updates may have rounded to nothing", (
        Level.WARNING
    )


def _stopped(*, affine: bool) -> tuple[str, Level | None]:
    if affine:
        what = "gamma and beta moved, and the statistics are bit by bit what they were"
    else:
        what = "weights moved, and all of this layer is bit by bit what it was: frozen, or left out"
    return what, Level.WARNING


def _half_frozen(change: LayerChange) -> tuple[str, Level | None]:
    still = _roles(change, *_SAME_BITS)
    moved = next(r.value for r in STATISTICS if change.roles[r].change not in _SAME_BITS)
    return f"{moved} moved, and {still} is bit by bit what it was", Level.WARNING


@rule("BN602", "statistics-reset", Level.ERROR)
def statistics_reset(evidence: Evidence) -> Iterator[Draft]:
    """The statistics were trained in the first checkpoint, and are initial in the second.

    What: At least one statistic is bit-exactly what the initializer writes, and was not before. A
    warning where every channel is within 0.05 of the initial values, and was far from them.

    Why: The program that wrote the second checkpoint did not restore the statistics of the first: a
    Saver, an assignment map or a warm start of the trainable variables alone leaves them at their
    initializers. What is trained after that starts again from 0 and 1.

    Right: Statistics do not return to 0 and 1 in all channels by training. Two runs that have
    nothing to do with each other, compared the wrong way round, look like this, too.

    Fix: Restore all of tf.global_variables(): `bncheck map` shows what a loader leaves out. In
    TensorFlow 2, copy model.weights and not model.trainable_weights, and call assert_consumed().
    """
    for change in _certain(evidence):
        reset = [each for each in change.statistics() if each.change is Change.RESET]
        affine = [change.roles[role].change for role in ANY_AFFINE if role in change.roles]
        if reset:
            message = f"{_roles(change, Change.RESET)} went back to the initial values"
            if affine and all(each is Change.RESET for each in affine):
                message += ", as gamma and beta did: nothing was restored"
        elif _is_nearly_reset(change):
            reset = change.statistics()
            message = (
                f"both statistics are within {_NEARLY:g} of their initial values in every channel, "
                "and were far from them: they were reset, and updated a few times since"
            )
        else:
            continue
        exact = any(each.change is Change.RESET for each in reset)
        yield Draft(
            layer=change.pair.after.name,
            variables=_names(*reset),
            message=message,
            level=None if exact else Level.WARNING,
            evidence=_steps(evidence),
            explains=(*_UNTRAINED, "BN205", "BN304"),
        )


def _is_nearly_reset(change: LayerChange) -> bool:
    statistics = change.statistics()
    return len(statistics) == len(STATISTICS) and all(
        each.change in (Change.MOVED, Change.SCALED) and _is_back(each.before, each.after)
        for each in statistics
    )


def _is_back(before: Member | None, after: Member | None) -> bool:
    """Whether a statistic is near its initial value, and was far from it."""
    if before is None or after is None or before.values is None or after.values is None:
        return False
    summary = after.summary
    if after.expected is None or summary is None or summary.size < 2:
        return False
    if not max(after.expected - summary.minimum, summary.maximum - after.expected) <= _NEARLY:
        return False
    with np.errstate(all="ignore"):  # NaN is near nothing
        old = np.abs(before.values.astype(np.float64) - after.expected)
        new = np.abs(after.values.astype(np.float64) - after.expected)
        far = float(np.sqrt((old**2).mean()))
        return bool(np.sqrt((new**2).mean()) <= _BACK * far)


@rule("BN603", "statistics-moved-alone", Level.WARNING)
def statistics_moved_alone(evidence: Evidence) -> Iterator[Draft]:
    """The statistics changed, while gamma, beta and the weights beside them did not.

    What: Every weight of the innermost scope around the layer, and its gamma and beta, are bit by
    bit the same; a statistic is not.

    Why: Something ran the updates, or wrote the statistics, without training: an evaluation or a
    serving loop with update ops in it; a frozen layer of Keras before TensorFlow 2, whose
    statistics move on although trainable=False; a conversion that exchanged, scaled or reordered
    arrays; a replica that saw other data.

    Right: Statistics that were estimated again on purpose, for another domain or for averaged
    weights, look just like this; therefore it is a warning.

    Fix: Call the layer with training=False outside of training. After a conversion, compare the
    order of channels, and which array is the mean and which the variance.
    """
    comparison = evidence.comparison
    if comparison is None:
        return
    weights = _Weights(comparison)
    quiet = (Change.RESET, Change.RESHAPED, Change.UNREAD)
    for change in _certain(evidence):
        affine = _affine_moved(change)
        if affine:
            continue
        share = weights.share_moved(change)
        moved = [
            each
            for each in change.statistics()
            if not each.change.is_none and each.change not in quiet
        ]
        if (
            not moved
            or _is_damaged(change)
            or affine
            or share
            or (affine is None and share is None)
        ):
            continue
        yield Draft(
            layer=change.pair.after.name,
            variables=_names(*moved),
            message="gamma, beta and weights are what they were, and "
            + " and ".join(
                _told(role, change.roles[role]) for role in STATISTICS if _has(change, role, moved)
            ),
            evidence={
                "changes": {
                    role.value: change.roles[role].change.value
                    for role in STATISTICS
                    if role in change.roles
                },
                "divergence": change.divergence,
                **_steps(evidence),
            },
        )


def _has(change: LayerChange, role: Role, among: list[RoleChange]) -> bool:
    return any(change.roles.get(role) is each for each in among)


def _told(role: Role, change: RoleChange) -> str:
    if change.change is Change.PERMUTED:
        return f"{role.value} has its channels in another order"
    if change.change is Change.SCALED and change.factor is not None:
        return f"{role.value} is {change.factor:.6g} times what it was"
    if change.change is Change.SWAPPED and change.source is not None:
        return f"{role.value} has the values that {change.source.value} had"
    return f"{role.value} moved"
