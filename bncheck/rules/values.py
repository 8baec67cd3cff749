"""BN3xx: are the values such as a batch normalization can compute with?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bncheck.batchnorm.layers import is_exact
from bncheck.batchnorm.names import MOVING_MEAN, MOVING_VARIANCE, STATISTICS
from bncheck.rules.rule import Draft, Evidence, Level, rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bncheck.batchnorm.layers import Layer, Member

_HALF_LARGEST: Final = 65504.0
_HALF_ROUNDS_TO_ZERO: Final = 2.0**-25  # half of float16's smallest subnormal number
_LARGE_VARIANCE: Final = 1e4
_FEWEST_LAYERS_FOR_MEDIAN: Final = 3
# Converters that subtract an epsilon leave variances of about -1e-5. Without the graph's epsilon,
# nothing lower is safe.
_SAFE_EPSILON: Final = 1e-5


@rule("BN301", "non-finite-values", Level.ERROR)
def non_finite_values(evidence: Evidence) -> Iterator[Draft]:
    """A variable of the layer holds NaN or Inf.

    What: At least one element of gamma, beta, or a statistic is not a finite number.

    Why: Every prediction that passes this channel is NaN. Training can look healthy for long, since
    it never reads the statistics; one NaN in a batch stays in them for ever.

    Right: Nothing that works looks like this.

    Fix: Take a checkpoint from before the first NaN. Look for a diverging loss, or for fused batch
    norm on batches of one element for each channel (the last, partial batch: drop_remainder=True).
    """
    for layer in evidence.layers:
        counts = {
            member.name: member.summary.nonfinite
            for member in layer.members.values()
            if member.summary is not None and member.summary.nonfinite
        }
        if counts:
            roles = [
                f"{counts[member.name]} of {member.summary.size} in {role.value}"
                for role, member in layer.members.items()
                if member.summary is not None and member.name in counts
            ]
            yield Draft(
                layer=layer.name,
                variables=tuple(counts),
                message=f"values that are NaN or Inf: {', '.join(roles)}",
                evidence={"nonfinite": counts},
                # A NaN elsewhere in the layer says nothing of its statistics.
                explains=("BN302", "BN303", "BN305", "BN206")
                if any(name in counts for name in layer.names(*STATISTICS))
                else (),
            )


@rule("BN302", "negative-variance", Level.ERROR)
def negative_variance(evidence: Evidence) -> Iterator[Draft]:
    """moving_variance is below 0.

    What: At least one channel's variance is negative: an error where it is below -epsilon, a
    warning above.

    Why: The layer divides by sqrt(moving_variance + epsilon): below -epsilon that is NaN. Above, it
    works, but no variance is ever negative, so something else than training wrote it.

    Right: Weights converted from Caffe can have variances of about -1e-5; those are the warnings.

    Fix: Look for an optimizer that trains the variance (BN505), a wrong formula across replicas, or
    a converter that mixed up its arrays; then estimate the statistics again.
    """
    for layer in evidence.layers:
        summary = layer.summary(MOVING_VARIANCE)
        if summary is None or not summary.minimum < 0:
            continue
        epsilon = layer.epsilon if layer.epsilon is not None else _SAFE_EPSILON
        level = Level.WARNING if summary.minimum >= -epsilon else Level.ERROR
        values = layer.members[MOVING_VARIANCE].values
        negative = int((values < 0).sum()) if values is not None else 0
        consequence = (
            f"within epsilon ({epsilon:g}), so it still computes"
            if level is Level.WARNING
            else "the square root of it is NaN"
        )
        yield Draft(
            layer=layer.name,
            variables=(layer.members[MOVING_VARIANCE].name,),
            message=f"moving_variance is negative in {negative} of {summary.size} channels, "
            f"down to {summary.minimum:.4g}: {consequence}",
            level=level,
            evidence={"minimum": summary.minimum, "channels": negative, "epsilon": epsilon},
        )


@rule("BN303", "exploded-statistics", Level.WARNING)
def exploded_statistics(evidence: Evidence) -> Iterator[Draft]:
    """A variance is far beyond what normalized activations have.

    What: A channel's variance is above 1e6, or above 1e4 and 1e4 times the median of the layers'
    largest variances.

    Why: The inputs of this layer grew without bound, mostly right before training diverged. In half
    precision such values overflow.

    Right: A first layer on raw inputs from 0 to 255 has variances of thousands.

    Fix: Look at what feeds this layer: inputs that were not scaled, a learning rate that is too
    high, or a layer that is missing its normalization.
    """
    largest = {
        layer.name: summary.maximum
        for layer in evidence.layers
        if (summary := layer.summary(MOVING_VARIANCE)) is not None and summary.maximum > 0
    }
    typical, limits = None, evidence.thresholds
    if len(largest) >= _FEWEST_LAYERS_FOR_MEDIAN:
        typical = _median(largest.values())
    for layer in evidence.layers:
        value = largest.get(layer.name, 0.0)
        outlier = typical is not None and value > max(_LARGE_VARIANCE, limits.outlier * typical)
        if value > limits.huge_variance or outlier:
            beside = "" if typical is None else f"; the median layer's largest is {typical:.3g}"
            yield Draft(
                layer=layer.name,
                variables=(layer.members[MOVING_VARIANCE].name,),
                message=f"moving_variance goes up to {value:.3g}{beside}",
                evidence={"maximum": value, "median": typical},
                explains=("BN305",),
            )


def _median(values: Iterable[float]) -> float:
    # NumPy's would import numpy.ma, which takes 7 ms.
    ordered = sorted(values)
    half = len(ordered) // 2
    return (ordered[half] + ordered[~half]) / 2


@rule("BN304", "zero-variance", Level.ERROR)
def zero_variance(evidence: Evidence) -> Iterator[Draft]:
    """moving_variance is 0 in every channel of a layer.

    What: Every element of moving_variance is 0, and that is not its initial value.

    Why: The layer divides by sqrt(epsilon) alone, so that it multiplies its input by about 30.
    Either one layer is used on several inputs whose updates overwrite each other, or its input was
    constant for the whole training, or the variance started at 0 and was never updated.

    Right: Single channels with variance 0 are dead, not wrong: see BN206.

    Fix: Give each input a batch norm of its own, or update the statistics in one place only; check
    that the layer's input is not constant.
    """
    for layer in evidence.layers:
        member = layer.members.get(MOVING_VARIANCE)
        if (
            member is not None
            and member.summary is not None
            and member.summary.zeros == member.summary.size > 0
            and not member.initial
        ):
            yield Draft(
                layer=layer.name,
                variables=(member.name,),
                message=f"moving_variance is 0 in all {member.summary.size} channels",
                evidence={"channels": member.summary.size},
                explains=("BN206",),
            )


@rule("BN305", "out-of-half-range", Level.NOTE)
def out_of_half_range(evidence: Evidence) -> Iterator[Draft]:
    """There are values that float16 cannot hold.

    What: A value is beyond 65504, or a variance is so small (below 3e-8) that float16 rounds it to
    0.

    Why: In float32 nothing is wrong. Cast to half precision, the large ones become Inf, and a
    prediction NaN.

    Right: Dead channels' variances are not counted, nor is anything that is stored in half
    precision already.

    Fix: Keep batch normalization in float32 when the rest of the model is converted to half
    precision.
    """
    for layer in evidence.layers:
        named = {
            role: member
            for role, member in layer.members.items()
            if (_is_too_large(member) or (role is MOVING_VARIANCE and _is_too_small(layer)))
            and is_exact(member)
        }
        if named:
            yield Draft(
                layer=layer.name,
                variables=tuple(member.name for member in named.values()),
                message=f"float16 cannot hold all values of {', '.join(r.value for r in named)}",
                evidence={
                    role.value: [member.summary.minimum, member.summary.maximum]
                    for role, member in named.items()
                    if member.summary is not None
                },
            )


def _is_too_large(member: Member) -> bool:
    summary = member.summary
    if summary is None:
        return False
    return summary.maximum > _HALF_LARGEST or summary.minimum < -_HALF_LARGEST


def _is_too_small(layer: Layer) -> bool:
    """Whether a living channel's variance would round to 0."""
    mean, variance = layer.members.get(MOVING_MEAN), layer.members[MOVING_VARIANCE]
    if variance.summary is None or variance.summary.minimum >= _HALF_ROUNDS_TO_ZERO:
        return False
    if mean is None or mean.values is None or variance.values is None:
        return False
    if mean.values.size != variance.values.size:
        return False
    values = variance.values.reshape(-1)
    living = mean.values.reshape(-1) != 0
    return bool(((values > 0) & (values < _HALF_ROUNDS_TO_ZERO) & living).any())
