"""How far the layers moved: all channels of all layers in one pass."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bncheck.batchnorm.names import ANY_AFFINE, STATISTICS, Role
from bncheck.changes.model import Change, LayerChange, Measure, RoleChange
from bncheck.changes.values import factor_of, is_copy, is_near, is_permuted, is_same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from bncheck.batchnorm.layers import Layer, Member
    from bncheck.batchnorm.statistics import Summary
    from bncheck.changes.model import LayerPair

    Vector = NDArray[np.float64]

_MEAN, _VARIANCE = STATISTICS
_DEAD: Final = 1e-6  # a variance below this, beside a mean of exactly 0, is that of no input
_SIMILAR: Final = 1e-3  # relative; how near summaries must be before every element is looked at


def measure_layers(
    pairs: Sequence[LayerPair], tolerance: float = 0.0, *, brief: bool = False
) -> list[LayerChange]:
    """Say of every role of every layer what became of it, and how far it moved.

    A variable of which no element differs by more than `tolerance`, relative to the largest
    magnitude in it, counts as unchanged. A `brief` account only says what moved: it looks for no
    other cause than training, and measures nothing.
    """
    roles = [_role_changes(pair, tolerance, brief=brief) for pair in pairs]
    if brief:
        return [LayerChange(pair, each, None) for pair, each in zip(pairs, roles, strict=True)]
    divergences = _measure_statistics(roles)
    return [
        LayerChange(pair, each, *divergence)
        for pair, each, divergence in zip(pairs, roles, divergences, strict=True)
    ]


def _role_changes(pair: LayerPair, tolerance: float, *, brief: bool) -> dict[Role, RoleChange]:
    changes = {}
    alike = _either(pair)
    for role in dict.fromkeys((*pair.before.members, *pair.after.members)):
        before, after = pair.before.saved(role), pair.after.saved(role)
        if alike and role is Role.GAMMA_OR_BETA:
            continue
        if alike and role is alike:
            before = before or pair.before.saved(Role.GAMMA_OR_BETA)
            after = after or pair.after.saved(Role.GAMMA_OR_BETA)
        if before is None and after is None:
            continue
        change = _change(role, before, after, tolerance)
        found = RoleChange(change, before, after)
        if brief:
            changes[role] = found
            continue
        if change is Change.MOVED and before is not None and after is not None:
            found = _classified(role, pair, before, after)
        if not found.change.is_none and role not in STATISTICS:
            found = found._replace(measure=_relative(before, after))
        changes[role] = found
    return changes


def _either(pair: LayerPair) -> Role | None:
    """Return the role that what may be gamma or beta has on the other side; None if it is not one.

    Keras 3 numbers the variables of `.weights.h5`, and one alone of the two has no name there.
    """
    if all(Role.GAMMA_OR_BETA not in layer.members for layer in (pair.before, pair.after)):
        return None
    sides = [{r for r in ANY_AFFINE if layer.saved(r)} for layer in (pair.before, pair.after)]
    unnamed = {Role.GAMMA_OR_BETA}
    named = sides[0] if sides[1] == unnamed else sides[1] if sides[0] == unnamed else set()
    return next(iter(named)) if len(named) == 1 and named != unnamed else None


def _change(role: Role, before: Member | None, after: Member | None, tolerance: float) -> Change:
    if before is None or before.variable is None:
        return Change.ADDED
    if after is None or after.variable is None:
        return Change.REMOVED
    if before.variable.shape != after.variable.shape and not _are_both_vectors(before, after):
        return Change.RESHAPED
    old, new = before.values, after.values
    if old is None or new is None:
        return Change.UNREAD
    if old.dtype == new.dtype and (old is new or old.tobytes() == new.tobytes()):
        return Change.IDENTICAL
    if old.dtype != new.dtype and is_copy(old, new):
        half = min(old.dtype.itemsize, new.dtype.itemsize) <= np.dtype(np.float16).itemsize
        return Change.HALF_COPY if half else Change.PRECISION_COPY
    if is_near(old, new, tolerance):
        return Change.WITHIN_TOLERANCE
    if after.initial and before.initial is False and role is not Role.GAMMA_OR_BETA:
        return Change.RESET
    return Change.MOVED


def _are_both_vectors(before: Member, after: Member) -> bool:
    """Whether shapes differ by dimensions of 1 alone: (1, 1, 1, 8) holds what (8) does."""
    if before.variable is None or after.variable is None:
        return False
    plain = [tuple(n for n in m.variable.shape if n != 1) for m in (before, after) if m.variable]
    return plain[0] == plain[1]


def _classified(role: Role, pair: LayerPair, before: Member, after: Member) -> RoleChange:
    """Look for something else than training that turns the one vector into the other."""
    moved = RoleChange(Change.MOVED, before, after)
    old, new = before.values, after.values
    mine, theirs = before.summary, after.summary
    if old is None or new is None or mine is None or theirs is None:
        return moved
    if mine.nonfinite or theirs.nonfinite or mine.is_uniform:
        return moved
    if (mine.minimum, mine.maximum) == (theirs.minimum, theirs.maximum) and is_permuted(old, new):
        return moved._replace(change=Change.PERMUTED)
    source = _source(role, pair.before, after)
    if source is not None:
        return moved._replace(change=Change.SWAPPED, source=source)
    if _may_be_scaled(mine, theirs):
        factor = factor_of(old, new)
        if factor is not None:
            return moved._replace(change=Change.SCALED, factor=factor)
    return moved


def _source(role: Role, layer: Layer, after: Member) -> Role | None:
    """Return the other role of the layer whose values a variable now has."""
    if after.values is None or after.summary is None:
        return None
    for other, member in layer.members.items():
        if other is role or member.values is None or member.summary is None or member.initial:
            continue
        if member.summary == after.summary and is_same(member, after):
            return other
    return None


def _may_be_scaled(mine: Summary, theirs: Summary) -> bool:
    """Whether the two ranges are in proportion; a negative factor exchanges their ends."""
    if not mine.std or not theirs.std:
        return False
    factor = theirs.std / mine.std
    slack = _SIMILAR * theirs.std
    if abs(factor - 1) < _SIMILAR and abs(theirs.mean - mine.mean) <= slack:
        return False  # hardly moved
    return abs(abs(theirs.mean) - factor * abs(mine.mean)) <= slack + _SIMILAR * abs(theirs.mean)


def _relative(before: Member | None, after: Member | None) -> Measure:
    if before is None or after is None or before.values is None or after.values is None:
        return Measure()
    old, new = before.values, after.values
    if old.size != new.size:
        return Measure()
    with np.errstate(all="ignore"):  # NaN is no distance, and is told as none
        first, second = old.reshape(-1).astype(np.float64), new.reshape(-1).astype(np.float64)
        step = second - first
        size, way = math.sqrt(first @ first), math.sqrt(step @ step)
    return Measure(way / size if size and math.isfinite(way / size) else None)


def _measure_statistics(
    roles: Sequence[dict[Role, RoleChange]],
) -> list[tuple[float | None, int]]:
    """Fill in the measures of all means and variances, and return each layer's divergence."""
    results: list[tuple[float | None, int]] = []
    measured: list[int] = []
    columns: list[tuple[Vector, ...]] = []
    for number, changes in enumerate(roles):
        vectors = _vectors(changes)
        unchanged = [changes[role].change is Change.IDENTICAL for role in STATISTICS if vectors]
        # Of NaN beside the same NaN nothing can be computed, and nothing is wanted.
        results.append((0.0, 0) if vectors and all(unchanged) else (None, 0))
        if vectors and not all(unchanged):
            measured.append(number)
            columns.append(vectors)
    if not measured:
        return results
    sizes = np.array([vectors[0].size for vectors in columns])
    old_mean, new_mean, old_var, new_var = (
        np.concatenate(each) for each in zip(*columns, strict=True)
    )
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    with np.errstate(all="ignore"):  # channels without a result are left out below
        z = (new_mean - old_mean) / np.sqrt(old_var)
        ratio = new_var / old_var
    positive = (old_var > 0) & (new_var > 0)
    shifts = _Columns(z, np.isfinite(z) & (old_var > 0), starts)
    ratios = _Columns(ratio, np.isfinite(ratio) & positive, starts)
    divergence, defined = _divergence(old_mean, old_var, new_mean, new_var)
    overall = _Columns(divergence, defined, starts).means()
    missing = np.add.reduceat(~defined, starts, dtype=np.int64).tolist()
    for number, shift, change_of_variance, mean, undefined in zip(
        measured, shifts.lengths(), ratios.factors(), overall, missing, strict=True
    ):
        results[number] = (mean, undefined)
        changes = roles[number]
        changes[_MEAN] = changes[_MEAN]._replace(measure=shift)
        changes[_VARIANCE] = changes[_VARIANCE]._replace(measure=change_of_variance)
    return results


def _divergence(
    old_mean: Vector, old_var: Vector, new_mean: Vector, new_var: Vector
) -> tuple[Vector, NDArray[np.bool_]]:
    """Return each channel's divergence, and whether it is defined: see LayerChange."""
    with np.errstate(all="ignore"):
        squared = (new_mean - old_mean) ** 2
        found = ((old_var + squared) / new_var + (new_var + squared) / old_var) / 2 - 1
    dead = (old_mean == 0) & (new_mean == 0) & (old_var < _DEAD) & (new_var < _DEAD)
    dead &= (old_var >= 0) & (new_var >= 0)
    positive = (old_var > 0) & (new_var > 0)
    found = np.where(dead, 0.0, found)
    return found, np.isfinite(found) & (positive | dead)


def divergences_between(
    old: NDArray[Any], new: NDArray[Any], spans: Mapping[str, slice]
) -> dict[str, float | None]:
    """Return the divergence of many layers whose means and variances are the rows of two arrays.

    `spans` says which columns are a layer's, in their order. Channels that did not change count 0.
    """
    if not spans:
        return {}
    (old_mean, old_var), (new_mean, new_var) = old.astype(np.float64), new.astype(np.float64)
    found, defined = _divergence(old_mean, old_var, new_mean, new_var)
    same = (old_mean == new_mean) & (old_var == new_var)
    found, defined = np.where(same, 0.0, found), defined | same
    starts = np.array([span.start for span in spans.values()])
    return dict(zip(spans, _Columns(found, defined, starts).means(), strict=True))


def _vectors(changes: Mapping[Role, RoleChange]) -> tuple[Vector, ...]:
    """Return mean before and after, variance before and after; nothing where one is not there."""
    found: list[Vector] = []
    for role in STATISTICS:
        change = changes.get(role)
        if change is None or change.change is Change.RESHAPED:
            return ()
        for member in (change.before, change.after):
            values: NDArray[Any] | None = None if member is None else member.values
            if values is None or not values.size:
                return ()
            with np.errstate(invalid="ignore"):  # a signaling NaN becomes a quiet one
                found.append(values.reshape(-1).astype(np.float64))
    return tuple(found) if len({vector.size for vector in found}) == 1 else ()


class _Columns:
    """One number for each channel of many layers, of which some are not to be counted."""

    def __init__(self, values: Vector, valid: NDArray[np.bool_], starts: NDArray[np.int64]) -> None:
        self._values = values
        self._valid = valid
        self._starts = starts
        self._counts = np.add.reduceat(valid, starts, dtype=np.int64)

    def means(self) -> list[float | None]:
        """Return the mean of each layer, None where no channel counts."""
        return self._mean_of(self._values)

    def lengths(self) -> list[Measure]:
        """Return the root mean square of each layer, and the largest magnitude."""
        with np.errstate(over="ignore", invalid="ignore"):
            squares = self._mean_of(self._values**2)
        most = np.maximum.reduceat(np.where(self._valid, np.abs(self._values), 0), self._starts)
        return [
            Measure() if square is None else Measure(square**0.5, None, float(largest))
            for square, largest in zip(squares, most, strict=True)
        ]

    def factors(self) -> list[Measure]:
        """Return the geometric mean of each layer, and its ends."""
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = self._mean_of(np.log(self._values))
        least = np.minimum.reduceat(np.where(self._valid, self._values, np.inf), self._starts)
        most = np.maximum.reduceat(np.where(self._valid, self._values, -np.inf), self._starts)
        return [
            Measure() if log is None else Measure(float(np.exp(log)), float(low), float(high))
            for log, low, high in zip(logs, least, most, strict=True)
        ]

    def _mean_of(self, values: Vector) -> list[float | None]:
        sums = np.add.reduceat(np.where(self._valid, values, 0.0), self._starts)
        means = (sums / np.maximum(self._counts, 1)).tolist()
        return [
            mean if count else None
            for mean, count in zip(means, self._counts.tolist(), strict=True)
        ]
