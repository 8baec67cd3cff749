"""What a comparison of two checkpoints consists of."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from bncheck.batchnorm.names import STATISTICS, Kind, Role
from bncheck.changes.values import NEAR, distance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bncheck.assignment.edits import Suggestion
    from bncheck.batchnorm.layers import Layer, Member
    from bncheck.snapshot import Snapshot


class PairedBy(str, Enum):
    """What tells that two layers are one.

    INDEX is another number of the same name, as when a layer was inserted in front; VALUES are
    numbers that are the same, or nearly, under another name.
    """

    NAME = "name"
    INDEX = "index"
    VALUES = "values"
    RENAME = "rename"
    SHAPE = "shape"


class LayerPair(NamedTuple):
    """One layer, before and after."""

    before: Layer
    after: Layer
    by: PairedBy


class Shift(NamedTuple):
    """A run of numbers that moved: `layers` are the names before and after.

    `proof` is "values" where the numbers in the layers tell it, "shapes" where only other shapes
    rule the old numbers out.
    """

    stem: str
    offset: int
    layers: tuple[tuple[str, str], ...]
    proof: str


class Pairs(NamedTuple):
    """Which layer, and which variable, of the one checkpoint is which of the other.

    `variables` maps the keys of the first to those of the second. `nameless` says that a side
    numbers its layers, so that no name can have changed.
    """

    layers: tuple[LayerPair, ...]
    only_before: tuple[Layer, ...] = ()
    only_after: tuple[Layer, ...] = ()
    variables: Mapping[str, str] = {}
    renames: tuple[Suggestion, ...] = ()
    shifts: tuple[Shift, ...] = ()
    nameless: bool = False


class Change(str, Enum):
    """What became of one variable of a layer.

    A copy in another precision has the values of the first, rounded.
    """

    IDENTICAL = "identical"
    WITHIN_TOLERANCE = "within-tolerance"
    HALF_COPY = "half-precision-copy"
    PRECISION_COPY = "precision-copy"
    MOVED = "moved"
    RESET = "reset"
    PERMUTED = "permuted"
    SCALED = "scaled"
    SWAPPED = "swapped"
    RESHAPED = "reshaped"
    ADDED = "added"
    REMOVED = "removed"
    UNREAD = "unread"

    @property
    def is_none(self) -> bool:
        """Whether the values are the same, as far as both types and the tolerance can tell."""
        return self in _SAME


_SAME = frozenset(
    (Change.IDENTICAL, Change.WITHIN_TOLERANCE, Change.HALF_COPY, Change.PRECISION_COPY)
)


class Measure(NamedTuple):
    """How far a variable moved, over the channels where both sides are finite.

    Of a mean: `shift` is the root mean square over channels of (after - before) / sqrt(variance
    before), `most` the largest. Of a variance: `shift` is the geometric mean of after / before,
    `least` and `most` its ends. Of any other: `shift` is |after - before| / |before|, Euclidean
    norms. None where it is not defined (a variance of 0, a gamma of 0).
    """

    shift: float | None = None
    least: float | None = None
    most: float | None = None


class RoleChange(NamedTuple):
    """One variable of a layer, before and after.

    `factor` is that of a SCALED one, `source` the role that a SWAPPED one took its values from.
    """

    change: Change
    before: Member | None
    after: Member | None
    measure: Measure = Measure()
    factor: float | None = None
    source: Role | None = None

    @property
    def is_related(self) -> bool:
        """Whether the numbers themselves show that the one became the other."""
        if self.before is None or self.after is None or self.before.initial or self.after.initial:
            return False
        apart = distance(self.before, self.after)
        return apart is not None and apart < NEAR


class LayerChange(NamedTuple):
    """What became of one layer.

    `divergence` is the mean over channels of the symmetric Kullback-Leibler divergence (Jeffreys'
    J; Kullback and Leibler 1951, On Information and Sufficiency, equation 2.5) of N(mean before,
    variance before) and N(mean after, variance after), in nats:
    J = ((v + d^2) / w + (w + d^2) / v) / 2 - 1, with the variances v and w and the difference d of
    the means. Channels that are dead on both sides (mean exactly 0, variance below 1e-6) count 0;
    `undefined` counts those where it does not exist: a variance that is not positive, NaN, Inf.
    """

    pair: LayerPair
    roles: Mapping[Role, RoleChange]
    divergence: float | None
    undefined: int = 0

    def statistics(self) -> list[RoleChange]:
        """Return the changes of the statistics that both sides have."""
        return [
            self.roles[role]
            for role in STATISTICS
            if role in self.roles
            and self.roles[role].before is not None
            and self.roles[role].after is not None
        ]

    @property
    def is_unchanged(self) -> bool:
        """Whether both sides have all of the layer's variables, and the same numbers in them."""
        return all(each.change.is_none for each in self.roles.values())

    @property
    def is_certain(self) -> bool:
        """Whether more than shapes and a likely rename tells that the two are one layer.

        Another head in the place of the old one has its shapes, too, and none of its numbers.
        """
        return self.pair.by not in (PairedBy.RENAME, PairedBy.SHAPE) or any(
            self.roles[role].is_related for role in self.roles
        )


class Others(NamedTuple):
    """The variables outside of batch norm.

    `identical` and `differ` count those that both sides have, by kind; `copies` counts those of
    `identical` that are in another precision. `only_before` and `only_after` are the weights of one
    side alone. `moved` says of each weight, by the second side's name, whether it is another one.
    """

    identical: Mapping[Kind, int]
    differ: Mapping[Kind, int]
    copies: int = 0
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()
    moved: Mapping[str, bool] = {}
    unread: Mapping[str, str] = {}


class Comparison(NamedTuple):
    """Two checkpoints, the second of which came after the first."""

    before: Snapshot
    after: Snapshot
    pairs: Pairs
    layers: tuple[LayerChange, ...]
    others: Others
