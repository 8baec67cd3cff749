"""Names to layers: which variables are one batch normalization's, and which only look so.

A name alone claims a role; the claim holds only if the rest of the group agrees. This room sees
names and shapes, never values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck import limits
from bncheck.batchnorm.names import (
    AFFINE,
    MOVING_MEAN,
    MOVING_VARIANCE,
    STATISTICS,
    Family,
    Role,
    averaged_name,
    debiased_statistic,
    is_strange_leaf,
    keras_slot_owner,
    normalization_of,
    read_name,
    reading_of,
)
from bncheck.checkpoint.dtypes import is_floating

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping


# See bncheck.batchnorm.names on members of enumerations.
_STANDARD: Final = Family.STANDARD
_MOMENTS: Final = Family.MOMENTS
_WEAK: Final = Family.WEAK


class Candidate(NamedTuple):
    """One variable as the grouping sees it.

    `name` is what roles are read from, `key` what the caller knows the variable by: they differ
    where a Saver saved a variable under another name.
    """

    key: str
    name: str
    shape: tuple[int, ...] | None
    dtype: str
    in_checkpoint: bool = True


@dataclass(slots=True)
class Group:
    """One layer: its name, and the candidate of each role that it has."""

    name: str
    family: Family = Family.STANDARD
    roles: dict[Role, Candidate] = field(default_factory=dict)
    zero_debiased: frozenset[Role] = frozenset()


_Claims = dict[Role, tuple[Family, Candidate]]
"""Who claims which roles of a layer, and how sure their names are."""


class Grouping(NamedTuple):
    """All layers by name, and the gammas and betas of an unknown normalization."""

    layers: list[Group]
    unknown: list[Group]


def group(candidates: Iterable[Candidate], expected: Container[str] = ()) -> Grouping:
    """Group variables into batch-norm layers.

    `expected` are names that somebody asks for: an average never stands for one of those.

    Scalars never are a role but for batch renorm's weights: a batch norm has a channel axis.
    """
    candidates = list(candidates)
    names = {candidate.name for candidate in candidates if candidate.in_checkpoint}
    read: dict[tuple[str, str], _Claims] = {}
    debiased: dict[str, set[Role]] = {}
    counted: set[str] = set()
    moments = False
    for candidate in candidates:
        reading = _read(candidate.name, names, expected)
        if reading is None:
            _note_helper(candidate.name, debiased, counted)
            continue
        scope, number, role, family = reading
        if not _can_be(role, candidate):
            continue
        moments = moments or family is _MOMENTS
        roles = read.get((scope, number))
        if roles is None:
            roles = read[scope, number] = {}
        known = roles.get(role)
        # A layer may be saved both ways (moving_mean beside mean): the surer name wins.
        if known is None or (known[0] is _WEAK and family is not _WEAK):
            roles[role] = (family, candidate)
    if moments:
        _join_moments(read)
    _join_inner_statistics(read)
    return _weigh(read, debiased, counted, _Siblings(candidates, names))


def _note_helper(name: str, debiased: dict[str, set[Role]], counted: set[str]) -> None:
    """Note what a variable that is no role tells of the layer that it is in."""
    scope, _, leaf = name.rpartition("/")
    if leaf == "count":
        counted.add(scope)  # keras.layers.Normalization and running moments of observations
    helper = debiased_statistic(name)
    if helper is not None:
        for layer in _inner_scopes(helper[0]):
            debiased.setdefault(layer, set()).add(helper[1])


def _read(
    name: str, names: set[str], expected: Container[str]
) -> tuple[str, str, Role, Family] | None:
    """Read a name, or the name of the variable that it is the only trace of.

    A checkpoint that was released with its averaged weights alone has
    `gamma/ExponentialMovingAverage` and no `gamma`: the average is all there is of the variable.
    """
    reading = reading_of(name)
    if reading is None:
        averaged = averaged_name(name)
        if averaged is not None and averaged not in names and averaged not in expected:
            reading = reading_of(averaged)
    return None if reading is None or keras_slot_owner(name) in names else reading


def _inner_scopes(scope: str) -> Iterator[str]:
    """Yield a scope and all that it ends in: the layer's own is one of them."""
    for _ in range(limits.DEEPEST_SCOPE):
        if not scope:
            return
        yield scope
        scope = scope.partition("/")[2]


def _can_be(role: Role, candidate: Candidate) -> bool:
    if candidate.dtype and not is_floating(candidate.dtype):
        return False
    return candidate.shape != () or role in (Role.RENORM_MEAN_WEIGHT, Role.RENORM_STDDEV_WEIGHT)


def _join_moments(read: dict[tuple[str, str], _Claims]) -> None:
    """Bring hand-made averages of moments to the gamma and beta that they belong to.

    `bn/bn_1/moments/Squeeze` averages for `bn_1` where there is such a layer: apply() puts the op's
    whole name below the scope that it is called in, and a name scope is made unique by itself. If
    there is none, it averages for the nearest scope around it. An average that no affine claims,
    as a second use of one layer makes it, stays a layer of its own.
    """
    for scope, number in list(read):
        roles = read[scope, number]
        if not any(family is _MOMENTS for family, _ in roles.values()):
            continue
        for place in (*_inner_scopes(scope), *_outer_scopes(scope)):
            target = read.get((place, ""))
            if target is not None and target is not roles and _takes(target, roles):
                target.update(roles)
                del read[scope, number]
                break


def _takes(target: _Claims, roles: _Claims) -> bool:
    """Whether a scope has a gamma or beta of these averages' shape, and no such averages yet."""
    if any(role in target for role in roles):
        return False
    shapes = {candidate.shape for _, candidate in roles.values()}
    return any(role in target and target[role][1].shape in shapes for role in AFFINE)


def _outer_scopes(scope: str) -> Iterator[str]:
    """Yield the scopes around a scope, the nearest first."""
    for _ in range(limits.DEEPEST_SCOPE):
        scope = scope.rpartition("/")[0]
        if not scope:
            return
        yield scope


def _join_inner_statistics(read: dict[tuple[str, str], _Claims]) -> None:
    """Bring a lone mean and variance to the gamma and beta one scope up, as in DeepLab's ports.

    `bn_conv1/{gamma,beta}` and `bn_conv1/bn/{mean,variance}`: only in a scope that is called batch
    norm.
    """
    for scope, number in list(read):
        roles = read[scope, number]
        outer = read.get((scope.rpartition("/")[0], number))
        if (
            outer is not None
            and set(roles) == set(STATISTICS)
            and not any(role in outer for role in STATISTICS)
            and any(role in outer for role in AFFINE)
            and normalization_of(scope) == "batch"
        ):
            outer.update(roles)
            del read[scope, number]


def _weigh(
    read: Mapping[tuple[str, str], _Claims],
    debiased: Mapping[str, set[Role]],
    counted: set[str],
    siblings: _Siblings,
) -> Grouping:
    layers: list[Group] = []
    unknown: list[Group] = []
    for (scope, number), claims in read.items():
        group_ = _accept(scope, number, claims, counted)
        if MOVING_MEAN in group_.roles or MOVING_VARIANCE in group_.roles:
            if not _is_batch_norm_with_statistics(scope, group_, counted):
                continue
            if scope in debiased:
                group_.zero_debiased = frozenset(debiased[scope])
            layers.append(group_)
        elif _is_affine_of_batch_norm(scope, claims, group_) and not siblings.strange(
            group_, scope
        ):
            layers.append(group_)
        elif _is_unknown(scope, group_):
            unknown.append(group_)
    layers.sort(key=lambda each: each.name)
    unknown.sort(key=lambda each: each.name)
    return Grouping(layers, unknown)


def _accept(scope: str, number: str, claims: _Claims, counted: set[str]) -> Group:
    """Take over the claims that the rest of the group bears out."""
    name = scope or "(top level)"
    if not number and all(family is _STANDARD for family, _ in claims.values()):
        return Group(name, roles={role: candidate for role, (_, candidate) in claims.items()})
    accepted = Group(f"{name} #{number}" if number else name)
    sure = {role for role, (family, _) in claims.items() if family is not _WEAK}
    has_statistics = any(role in sure for role in STATISTICS)
    affine = [role for role in AFFINE if role in claims]
    # mean and variance alone are anything's; beside a gamma or a beta, or both a scale and an
    # offset, they are batch norm's.
    has_affine = len(affine) == len(AFFINE) or any(role in sure for role in affine)
    weak_statistics = (
        has_affine and scope not in counted and all(role in claims for role in STATISTICS)
    )
    weak_affine = len(affine) == len(AFFINE) and normalization_of(scope) == "batch"
    for role, (family, candidate) in claims.items():
        weak = family is _WEAK
        if weak and role in STATISTICS and not weak_statistics:
            continue
        if weak and role in AFFINE and not (has_statistics or weak_statistics or weak_affine):
            continue
        accepted.roles[role] = candidate
        if family not in (_WEAK, _STANDARD):
            accepted.family = family
    if number and any(role in accepted.roles for role in STATISTICS):
        _drop_misnumbered(accepted)
    return accepted


def _drop_misnumbered(group_: Group) -> None:
    """Drop a gamma or beta whose shape shows that its number counts another layer's variables.

    tf.Variable makes names unique one by one, so `gamma_1` and `moving_mean_1` belong together only
    as long as every layer of the scope has both.
    """
    statistics = [group_.roles[role].shape for role in STATISTICS if role in group_.roles]
    for role in AFFINE:
        if role in group_.roles and group_.roles[role].shape not in statistics:
            del group_.roles[role]


def _is_batch_norm_with_statistics(scope: str, group_: Group, counted: set[str]) -> bool:
    """Whether statistics are batch norm's: both, or one beside an affine or in a telling scope."""
    if scope in counted and not any(role in group_.roles for role in AFFINE):
        return False  # the running moments of observations or rewards, with their count
    if len([role for role in (*STATISTICS, *AFFINE) if role in group_.roles]) > 1:
        return True
    return normalization_of(scope) == "batch"


def _is_affine_of_batch_norm(scope: str, claims: _Claims, group_: Group) -> bool:
    """Whether gamma or beta without statistics are batch norm's, which then are missing.

    A scale and an offset alone are those of a batch norm that keeps no statistics, as often as not.
    """
    sure = any(claims[role][0] is not _WEAK for role in group_.roles)
    return sure and normalization_of(scope) == "batch"


def _is_unknown(scope: str, group_: Group) -> bool:
    """Whether an affine without statistics may be batch norm's, or another normalization's."""
    kind = normalization_of(scope)
    both = all(role in group_.roles for role in AFFINE)
    return bool(group_.roles) and (kind == "batch" or (both and kind is None))


class _Siblings:
    """The vectors beside the roles: one may be a statistic under a name that nobody knows."""

    def __init__(self, candidates: Iterable[Candidate], names: set[str]) -> None:
        self._candidates = candidates
        self._names = names

    @cached_property
    def _shapes(self) -> dict[str, set[tuple[int, ...] | None]]:
        shapes: dict[str, set[tuple[int, ...] | None]] = {}
        for candidate in self._candidates:
            scope, _, leaf = candidate.name.rpartition("/")
            owner = averaged_name(candidate.name)
            if owner is None and not is_strange_leaf(leaf):
                continue
            if owner is not None:
                if owner in self._names or read_name(owner) is not None:
                    continue
                scope = scope.rpartition("/")[0]  # the average of an op's output
            if not candidate.dtype or is_floating(candidate.dtype):
                shapes.setdefault(scope, set()).add(candidate.shape)
        return shapes

    def strange(self, group_: Group, scope: str) -> bool:
        """Whether the scope holds another vector of the affine's shape."""
        shapes = self._shapes.get(scope, set())
        return any(candidate.shape in shapes for candidate in group_.roles.values())
