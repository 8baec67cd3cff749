"""What a variable's name says: a role in a layer, an optimizer's slot, a shadow, a counter.

The conventions are those of tf.layers, tf.contrib.layers and slim, Keras 1 and 2, Sonnet 1 and 2,
tensorpack, caffe-tensorflow, and of batch normalization written by hand. Only the last components
decide: a scope is often called something without "bn" or "norm" in it.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Role(str, Enum):
    """What a variable is to its layer.

    GAMMA_OR_BETA is the one of the two whose file does not say which it is; what comes after
    MOVING_VARIANCE is batch renorm's.
    """

    GAMMA = "gamma"
    BETA = "beta"
    GAMMA_OR_BETA = "gamma_or_beta"
    MOVING_MEAN = "moving_mean"
    MOVING_VARIANCE = "moving_variance"
    MOVING_STDDEV = "moving_stddev"
    RENORM_MEAN = "renorm_mean"
    RENORM_STDDEV = "renorm_stddev"
    RENORM_MEAN_WEIGHT = "renorm_mean_weight"
    RENORM_STDDEV_WEIGHT = "renorm_stddev_weight"


# Looking a member up in its class takes five times as long as looking up a name (Python 3.11).
GAMMA: Final = Role.GAMMA
BETA: Final = Role.BETA
GAMMA_OR_BETA: Final = Role.GAMMA_OR_BETA
MOVING_MEAN: Final = Role.MOVING_MEAN
MOVING_VARIANCE: Final = Role.MOVING_VARIANCE
AFFINE: Final = (GAMMA, BETA)
STATISTICS: Final = (MOVING_MEAN, MOVING_VARIANCE)
ANY_AFFINE: Final = (*AFFINE, GAMMA_OR_BETA)
RENORM: Final = tuple(Role)[tuple(Role).index(Role.MOVING_STDDEV) :]


class Family(Enum):
    """How sure a name is, and what the statistics start from."""

    STANDARD = "moving_mean and its like"
    AVERAGE = "Sonnet 2: moving_mean/average"  # both statistics start at 0
    MOMENTS = "an ExponentialMovingAverage of tf.nn.moments' outputs"  # both start at 0
    WEAK = "mean, variance, scale, offset: batch norm only if all the rest agrees"


class Reading(NamedTuple):
    """One name, read: the layer's scope, the number that TensorFlow or a person added, the role."""

    scope: str
    number: str
    role: Role
    family: Family


_STANDARD: Final = {role.value: role for role in Role} | {
    "moving_var": Role.MOVING_VARIANCE,
    "running_mean": Role.MOVING_MEAN,
    "running_var": Role.MOVING_VARIANCE,
    "running_variance": Role.MOVING_VARIANCE,
    "running_std": Role.MOVING_VARIANCE,  # Keras 1 calls it so, and keeps a variance in it
    "pop_mean": Role.MOVING_MEAN,
    "pop_var": Role.MOVING_VARIANCE,
    "pop_variance": Role.MOVING_VARIANCE,
    "population_mean": Role.MOVING_MEAN,
    "population_var": Role.MOVING_VARIANCE,
    "population_variance": Role.MOVING_VARIANCE,
    "moving_std": Role.MOVING_VARIANCE,
    "pop_std": Role.MOVING_VARIANCE,
    "avg_mean": Role.MOVING_MEAN,
    "avg_var": Role.MOVING_VARIANCE,
    "rolling_mean": Role.MOVING_MEAN,
    "rolling_var": Role.MOVING_VARIANCE,
}
_WEAK: Final = {
    "scale": Role.GAMMA,
    "offset": Role.BETA,
    "shift": Role.BETA,
    "mean": Role.MOVING_MEAN,
    "variance": Role.MOVING_VARIANCE,
    "var": Role.MOVING_VARIANCE,
    "mean_ema": Role.MOVING_MEAN,
    "var_ema": Role.MOVING_VARIANCE,
    "variance_ema": Role.MOVING_VARIANCE,
}
_MOMENTS: Final = {
    "mean": Role.MOVING_MEAN,
    "variance": Role.MOVING_VARIANCE,
    "Squeeze": Role.MOVING_MEAN,
    "Squeeze_1": Role.MOVING_VARIANCE,
}

_BATCH_MOMENTS: Final = {
    "batch_mean": Role.MOVING_MEAN,
    "batch_var": Role.MOVING_VARIANCE,
    "batch_variance": Role.MOVING_VARIANCE,
}


def _alternatives(names: dict[str, Role]) -> str:
    return "|".join(sorted(names, key=len, reverse=True))


# A leaf, perhaps behind a prefix as in Keras 1 ("bn_1_running_mean") or tflib ("BN1.moving_mean"),
# perhaps made unique ("moving_mean_1").
_LEAF: Final = re.compile(
    r"(?s)(?:(?P<prefix>.+?)[_.\-])??"
    rf"(?P<role>{_alternatives(_STANDARD | _WEAK)})(?:_(?P<number>\d+))?"
)
_MOMENTS_SCOPE: Final = re.compile(r"moments(_\d+)?")
_CONTROL_SCOPE: Final = re.compile(r"(cond|while)(_\d+)?")

_SHADOW_LEAVES: Final = frozenset(
    ("ExponentialMovingAverage", "EMA", "biased", "local_step", "hidden", "_hidden", "avg")
)
_SLOT: Final = re.compile(
    r"(?i).*(adam|momentum|rmsprop|adagrad|adadelta|ftrl|lars|lamb|sgd|optim|(^|_)opt(_|$)).*"
)
_KERAS_SLOTS: Final = frozenset(
    [
        *("m", "v", "vhat", "u", "rms", "momentum", "velocity", "accumulator", "linear"),
        *("accumulated_grad", "accumulated_delta_var", "average_gradient"),
    ]
)
_COUNTERS: Final = re.compile(
    r"global_step|beta[12]_power(_\d+)?|beta_[12](_\d+)?|decay(_\d+)?|learning_rate(_\d+)?"
    r"|iter(ations)?(_\d+)?|count|counter"
)

_AVERAGE: Final = "/ExponentialMovingAverage"
_LONGEST_LEAF: Final = 200  # characters
_MOST_LEAVES: Final = 1 << 12
_WEIGHT: Final = re.compile(r"(kernel|weights?|bias(es)?|w|b|filters?|depthwise|pointwise)(_\d+)?")
_OTHER_NORMALIZATION: Final = re.compile(
    r"(?i)(layer|instance|inst|group|weight|pixel|spectral|rms|ada)[_-]?norm"
    r"|virtual_batch|ada[_-]?in|(^|_)(ln|gn|vbn)\d*(_\d+)*($|_)"
)
_BATCH_NORMALIZATION: Final = re.compile(r"(?i)batch[_-]?norm|(^|[^a-z])bn([^a-z]|$)")


class _Remembered(dict[str, _T]):
    """What a function says of a name's last part: a checkpoint has few of them."""

    def __init__(self, function: Callable[[str], _T]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, leaf: str) -> _T:
        said = self._function(leaf)
        # Nobody's variable is called longer, and what is remembered stays in memory.
        if len(leaf) < _LONGEST_LEAF and len(self) < _MOST_LEAVES:
            self[leaf] = said
        return said


def _remembered(function: Callable[[str], _T]) -> Callable[[str], _T]:
    return _Remembered(function).__getitem__


def read_name(name: str) -> Reading | None:
    """Return what role a name claims to have, None where it claims none.

    The claim still has to be weighed against the rest of the layer: see `bncheck.batchnorm.layers`.
    """
    parts = reading_of(name)
    return None if parts is None else Reading(*parts)


def reading_of(name: str) -> tuple[str, str, Role, Family] | None:
    """Return the parts of what `read_name` returns, in half of its time."""
    scope, _, leaf = name.rpartition("/")
    reading = _read_leaf(leaf)
    if reading is None:
        return _read_average(scope, leaf)
    prefix, number, role, family = reading
    if prefix:
        scope = f"{scope}/{prefix}" if scope else prefix
    return scope, number, role, family


def _read_average(scope: str, leaf: str) -> Reading | None:
    """Read a name whose last part says that it is an average, of what is in front of it."""
    if leaf == "ExponentialMovingAverage":
        return _read_moments(scope)
    if leaf == "average":
        return _read_parent(scope, "moving_mean", "moving_variance", Family.AVERAGE)
    if leaf == "EMA":
        return _read_parent(scope, "mean", "variance", Family.STANDARD)
    return None


@_remembered
def _read_leaf(leaf: str) -> Reading | None:
    """Read the last part of a name; the scope is what is in front of the role in that part."""
    match = _LEAF.fullmatch(leaf)
    if match is None:
        return None
    prefix, role, number = match["prefix"] or "", match["role"], match["number"] or ""
    if role in _WEAK:
        return Reading(prefix, number, _WEAK[role], Family.WEAK)
    return Reading(prefix, number, _STANDARD[role], Family.STANDARD)


def _read_parent(scope: str, mean: str, variance: str, family: Family) -> Reading | None:
    """Read names whose role stands one level up, as in `bn/mean/EMA`."""
    scope, _, parent = scope.rpartition("/")
    roles = {mean: Role.MOVING_MEAN, variance: Role.MOVING_VARIANCE}
    return Reading(scope, "", roles[parent], family) if parent in roles else None


def _read_moments(op: str) -> Reading | None:
    """Read the shadow of a tf.nn.moments output: `<scope>/moments/Squeeze` is the mean's.

    ExponentialMovingAverage.apply puts the op's whole name below the scope that it is called in, so
    the scope often stands twice; `tf.cond` adds one of its own.
    """
    parts = op.split("/")
    at = next((i for i, part in enumerate(parts) if _MOMENTS_SCOPE.fullmatch(part)), None)
    if parts[-1] in _BATCH_MOMENTS:
        at = len(parts) - 1
    elif at is None or parts[-1] not in _MOMENTS:
        return None
    scope = [part for part in parts[:at] if not _CONTROL_SCOPE.fullmatch(part)]
    half = len(scope) // 2
    if half and scope[:half] == scope[half:]:
        scope = scope[:half]
    role = (_MOMENTS | _BATCH_MOMENTS)[parts[-1]]
    return Reading("/".join(scope), "", role, Family.MOMENTS)


def averaged_name(name: str) -> str | None:
    """Return the variable whose moving average a name stands for, None for other names."""
    return (name.removesuffix(_AVERAGE) or None) if name.endswith(_AVERAGE) else None


def debiased_statistic(name: str) -> tuple[str, Role] | None:
    """Return the scope and role that a zero-debiasing helper serves, None for other names.

    assign_moving_average(zero_debias=True) adds `<statistic>/biased` and `<statistic>/local_step`,
    below the scope that it is called in: `bn/bn/moving_mean/biased`. contrib debiases the mean
    alone, Keras 2.1 both.
    """
    if not name.endswith(("/biased", "/local_step")):
        return None
    parts = name.split("/")
    if len(parts) < 3:
        return None
    role = _STANDARD.get(parts[-2])
    return ("/".join(parts[:-2]), role) if role in STATISTICS and role is not None else None


class Kind(Enum):
    """What a variable outside of batch normalization is, as far as its name tells."""

    WEIGHT = "weight"
    SLOT = "optimizer slot"
    SHADOW = "moving average"
    COUNTER = "counter"
    COPY = "duplicate"
    DESCRIPTION = "object graph"


def kind_of(name: str) -> Kind:
    """Return what kind of variable a name outside of any layer stands for."""
    leaf = name.rpartition("/")[2]
    kind = _kind_of_leaf(leaf)
    if kind is Kind.SLOT and leaf == name:
        kind = Kind.WEIGHT  # a slot stands below its variable
    # tf.keras' optimizers: training/Adam/conv/kernel/m
    keras = leaf in _KERAS_SLOTS and any(map(is_slot_leaf, name.split("/")[:-1]))
    keras = keras or keras_slot_owner(name) is not None
    return Kind.SLOT if kind is Kind.WEIGHT and keras else kind


@_remembered
def _kind_of_leaf(leaf: str) -> Kind:
    if leaf in _SHADOW_LEAVES:
        return Kind.SHADOW
    if _COUNTERS.fullmatch(leaf):
        return Kind.COUNTER
    return Kind.SLOT if is_slot_leaf(leaf) else Kind.WEIGHT


def keras_slot_owner(name: str) -> str | None:
    """Return the variable that a Keras optimizer's slot is for: `Adam/m/bn/gamma` is `bn/gamma`'s.

    So the optimizers of Keras 2.11 and later call their variables. None for other names.
    """
    parts = name.split("/", 2)
    if len(parts) < 3 or parts[1] not in _KERAS_SLOTS or not is_slot_leaf(parts[0]):
        return None
    return parts[2]


@_remembered
def is_slot_leaf(leaf: str) -> bool:
    """Whether the last part of a name is an optimizer's: `Adam_1`, `Momentum`, or another."""
    return leaf not in _SHADOW_LEAVES and _SLOT.fullmatch(leaf) is not None


@_remembered
def is_strange_leaf(leaf: str) -> bool:
    """Whether the last part of a name is none that layers, optimizers or helpers use."""
    known = _LEAF.fullmatch(leaf) or _COUNTERS.fullmatch(leaf) or _WEIGHT.fullmatch(leaf)
    return not known and leaf not in _SHADOW_LEAVES and not is_slot_leaf(leaf)


def normalization_of(scope: str) -> str | None:
    """Return "batch" or "other" by the innermost part of a scope that names a normalization."""
    for part in reversed(re.split("[/.]", scope)):
        if _OTHER_NORMALIZATION.search(part):
            return "other"
        if _BATCH_NORMALIZATION.search(part):
            return "batch"
    return None
