"""BN1xx: are the statistics in the checkpoint at all, and do the roles of a layer fit together?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bncheck.batchnorm.names import ANY_AFFINE, MOVING_MEAN, MOVING_VARIANCE, STATISTICS, Role
from bncheck.checkpoint.model import element_count
from bncheck.rules.rule import Draft, Evidence, Level, rule

if TYPE_CHECKING:
    from collections.abc import Iterator


_SHOWN: Final = 3  # names in one message


def _missing(evidence: Evidence, role: Role) -> Iterator[Draft]:
    for layer in evidence.layers:
        if layer.saved(role):
            continue
        there = [each for each in (*ANY_AFFINE, *STATISTICS) if layer.saved(each)]
        if there and role in layer.statistics:
            yield Draft(
                layer=layer.name,
                variables=tuple(layer.members[each].name for each in there),
                message=f"{role.value} is not in the checkpoint, which holds the layer's "
                f"{_listed(there)}",
                evidence={"present": [each.value for each in there]},
            )


def _listed(roles: list[Role]) -> str:
    names = [role.value for role in roles]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


@rule("BN101", "missing-moving-mean", Level.ERROR)
def missing_moving_mean(evidence: Evidence) -> Iterator[Draft]:
    """A batch-norm layer has other roles in the checkpoint, but no moving_mean.

    What: The checkpoint holds the layer's gamma, beta or moving_variance, and nothing that could be
    its moving_mean. Without a graph, a layer counts as batch norm by its scope's name or by its
    other statistic.

    Why: At inference the layer subtracts moving_mean. Whatever restores this checkpoint either
    fails on the missing key, or leaves moving_mean at 0 without a word, and the model predicts
    nonsense.

    Right: Layer, instance, group and virtual batch normalization have gamma and beta alone; their
    scopes' names are known.

    Fix: Save all global variables: tf.train.Saver(tf.global_variables()), which is what
    tf.train.Saver() does; tf.trainable_variables() leaves the statistics out. In TensorFlow 2, save
    the whole model: tf.train.Checkpoint(model=model), not the optimizer or model.trainable_weights
    alone; of layers that Keras 3 models hold in a list or dict it saves no statistics, while
    model.save_weights does. If they were never saved, they have to be estimated again by updating
    them over training data.
    """
    yield from _missing(evidence, MOVING_MEAN)


@rule("BN102", "missing-moving-variance", Level.ERROR)
def missing_moving_variance(evidence: Evidence) -> Iterator[Draft]:
    """A batch-norm layer has other roles in the checkpoint, but no moving_variance.

    What: The checkpoint holds the layer's gamma, beta or moving_mean, and nothing that could be its
    moving_variance. A graph that has no such variable either is believed: mean-only batch norm.

    Why: At inference the layer divides by the square root of moving_variance. Left at its initial
    1, every activation behind the layer has the wrong scale.

    Right: Layer, instance, group and virtual batch normalization have gamma and beta alone; their
    scopes' names are known.

    Fix: Save all global variables: tf.train.Saver(tf.global_variables()), which is what
    tf.train.Saver() does; tf.trainable_variables() leaves the statistics out. In TensorFlow 2, save
    the whole model: tf.train.Checkpoint(model=model), not the optimizer or model.trainable_weights
    alone; of layers that Keras 3 models hold in a list or dict it saves no statistics, while
    model.save_weights does. If they were never saved, they have to be estimated again by updating
    them over training data.
    """
    yield from _missing(evidence, MOVING_VARIANCE)


@rule("BN103", "affine-without-statistics", Level.NOTE)
def affine_without_statistics(evidence: Evidence) -> Iterator[Draft]:
    """Gammas and betas have no statistics, and nothing says which normalization they are.

    What: Scopes hold a gamma and a beta and no statistics; neither their names nor the graph tell
    batch normalization from another one. All of them are one note.

    Why: If they are batch norm's, the statistics are missing. If they belong to layer, instance or
    group normalization, or to a batch norm that uses the batch's own statistics on purpose, all is
    well.

    Right: Scopes that are called LayerNorm, instance_norm, GroupNorm and the like are not counted.

    Fix: If they are batch norm's, see BN101. Otherwise there is nothing to do; --graph or a telling
    scope name would have answered the question.
    """
    if evidence.unknown:
        scopes = [each.name for each in evidence.unknown]
        shown = ", ".join(scopes[:3]) + (f" and {len(scopes) - 3} more" if len(scopes) > 3 else "")
        yield Draft(
            layer="",
            variables=tuple(
                candidate.key for each in evidence.unknown for candidate in each.roles.values()
            ),
            message=f"{len(scopes)} scope{'s have' if len(scopes) > 1 else ' has'} gamma and beta "
            f"but no statistics, and nothing says whether that is batch normalization: {shown}",
            evidence={"scopes": scopes},
        )


@rule("BN104", "role-shape-mismatch", Level.ERROR)
def role_shape_mismatch(evidence: Evidence) -> Iterator[Draft]:
    """The variables of one layer disagree in shape.

    What: moving_mean and moving_variance have different numbers of channels, or gamma or beta do
    not fit theirs.

    Why: No batch normalization can compute with them: they come from different layers or versions
    of the model.

    Right: Dimensions of 1 do not count (1, 1, 1, C), nor does a gamma of one element, nor the rows
    of a conditional batch norm, one for each class.

    Fix: Find out which of the variables belongs to this layer: a converter, a rename or a partial
    restore has mixed two layers.
    """
    for layer in evidence.layers:
        variables = [member.variable for member in layer.members.values()]
        if len({each.shape for each in variables if each is not None}) < 2:
            continue
        shapes = {
            role: variable.shape
            for role in (*ANY_AFFINE, *STATISTICS)
            if (member := layer.saved(role)) is not None and (variable := member.variable)
        }
        if not _fit(shapes):
            yield Draft(
                layer=layer.name,
                variables=tuple(layer.members[role].name for role in shapes),
                message="its variables do not fit together: "
                + ", ".join(f"{role.value} {list(shape)}" for role, shape in shapes.items()),
                evidence={"shapes": {role.value: list(shape) for role, shape in shapes.items()}},
            )


def _fit(shapes: dict[Role, tuple[int, ...]]) -> bool:
    """Whether the statistics are alike and the affines broadcast to them, 1s apart."""
    plain = {role: tuple(n for n in shape if n != 1) for role, shape in shapes.items()}
    statistics = {plain[role] for role in STATISTICS if role in plain}
    if len(statistics) != 1:
        return not statistics
    channels = statistics.pop()
    for role in ANY_AFFINE:
        affine = plain.get(role, ())
        rows = shapes.get(role, ())
        conditional = len(rows) == 2 and rows[1] == element_count(channels)
        if not conditional and channels[len(channels) - len(affine) :] != affine:
            return False
    return True


@rule("BN105", "ambiguous-roles", Level.NOTE)
def ambiguous_roles(evidence: Evidence) -> Iterator[Draft]:
    """Variables are numbered, not named, and nothing says which role each of them has.

    What: A Keras .weights.h5 file numbers the variables of a layer. Three of one shape are gamma or
    beta and the two statistics; two or three vectors of a layer whose class is not told may be a
    batch norm's, or not. All of them are one note.

    Why: What can be judged either way is judged: the statistics of a layer that is known to be
    batch norm. The rest is not.

    Right: Nothing is wrong with such a file. Layers with all four variables, and those without
    gamma and beta in a group that is called batch_normalization, are not counted.

    Fix: Nothing has to be done. To have everything judged, inspect the whole model: model.save
    ("model.keras") keeps the configuration that tells the roles.
    """
    if not evidence.ambiguous:
        return
    by_reason: dict[str, list[str]] = {}
    for place, reason in evidence.ambiguous.items():
        by_reason.setdefault(reason, []).append(place)
    parts = []
    for reason, places in by_reason.items():
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        parts.append(f"{', '.join(places[:_SHOWN])}{more}: {reason}")
    count = len(evidence.ambiguous)
    yield Draft(
        layer="",
        variables=(),
        message="the file does not tell the roles of the variables in "
        + ("one layer: " if count == 1 else f"{count} layers: ")
        + "; ".join(parts),
        evidence={"places": dict(evidence.ambiguous)},
    )


@rule("BN106", "no-batch-norm", Level.ERROR)
def no_batch_norm(evidence: Evidence) -> Iterator[Draft]:
    """Batch norm is required, and the checkpoint has none.

    What: --require-batch-norm was given, or the policy says require-batch-norm, and no variable of
    the checkpoint belongs to a batch normalization.

    Why: A gate that finds nothing to judge passes whatever it is given: a checkpoint that was
    exported without its statistics and affine, or under names that nobody can tell, or another
    model's.

    Right: A model without batch norm is in order; do not require it for that path.

    Fix: Look at the names with `bncheck inspect --all`; give the graph with --graph, whose ops tell
    batch norm whatever its variables are called.
    """
    if evidence.required and not evidence.layers:
        yield Draft(
            layer="",
            variables=(),
            message="no batch normalization was found, and it is required",
            evidence={"variables": len(evidence.variables)},
        )
