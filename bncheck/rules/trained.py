"""BN2xx: were the statistics trained?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.batchnorm.layers import Status, is_exact
from bncheck.batchnorm.names import ANY_AFFINE, MOVING_MEAN, STATISTICS, Role
from bncheck.rules.rule import Draft, Evidence, Level, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bncheck.batchnorm.layers import Layer, Member

_RUN_UPDATE_OPS = """\
    update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.control_dependencies(update_ops):
        train_op = optimizer.minimize(loss)"""


_CALL_FOR_TRAINING = """\
    with tf.GradientTape() as tape:
        predictions = model(inputs, training=True)"""


def _update_help(evidence: Evidence) -> str:
    """Say what to write so that the update ops run, as exactly as the graph allows."""
    graph = evidence.graph
    if evidence.keras:
        return (
            "Only fit() and calls with training=True update the statistics. Call the model so in a "
            f"training loop of your own, and train again:\n{_CALL_FOR_TRAINING}\n"
            "A layer inside a layer needs it passed on: self.bn(x, training=training). With "
            "tf.keras in a TensorFlow 1 session, run model.updates with each step. If batch norm "
            "is meant to be a plain scale and offset, --ignore BN201."
        )
    if graph is not None and graph.update_ops:
        start = (
            f"The graph has {graph.update_ops} ops in UPDATE_OPS, and no training step ran them. "
            "Make the training step depend on them:"
        )
    elif graph is not None:
        return (
            "UPDATE_OPS is empty in this graph: batch norm was built with training=False, or its "
            "updates are elsewhere. tf.keras layers keep them in model.updates: run "
            "sess.run([train_op, model.updates]). Batch norm written by hand has to run its own "
            "assign ops with each step. Otherwise build it with training=True, and let the "
            "training step depend on tf.get_collection(tf.GraphKeys.UPDATE_OPS)."
        )
    else:
        start = "Make the training step depend on the update ops, and train again:"
    return (
        f"{start}\n{_RUN_UPDATE_OPS}\n"
        "or use slim.learning.create_train_op. If batch norm is meant to be a plain scale and "
        "offset, --ignore BN201."
    )


def initial_values(layer: Layer) -> str:
    """Say which numbers a layer's initial statistics are; it may have one alone."""
    there = [(role, layer.members[role]) for role in layer.statistics if role in layer.members]
    parts = [f"{role.value} is exactly {member.expected or 0:g}" for role, member in there]
    return f"{' and '.join(parts)} in every channel"


_RESTORE_HELP = (
    "The graph initializes gamma or beta from a checkpoint, and the statistics from constants: the "
    "assignment map was built from tf.trainable_variables(). Build it from tf.global_variables(): "
    "bncheck.assignment_map(tf.global_variables(), checkpoint). If the update ops should run in "
    "this training, let its step depend on tf.get_collection(tf.GraphKeys.UPDATE_OPS) as well."
)


_KERAS_FROZEN_HELP = (
    "The step says that there was training. Either the model was built again after it, and its "
    "weights were not loaded (call status.assert_consumed() after restore); or gamma and beta are "
    "frozen, and the statistics never updated: call model(inputs, training=True) in the training "
    "step."
)
_FROZEN_HELP = (
    "The step says that there was training. Either everything was initialized again after it: look "
    "for an initializer that runs after the restore; or gamma and beta are frozen, and the update "
    "ops never ran: let the training step depend on tf.get_collection(tf.GraphKeys.UPDATE_OPS)."
)


def _training_of(layer: Layer) -> str:
    """Say what tells that a layer without trained statistics was trained itself."""
    saved = [role for role in ANY_AFFINE if layer.saved(role)]
    moved = [_called(role) for role in saved if layer.members[role].moved]
    if moved:
        verb = "restored" if layer.affine_restored else "trained"
        return f"although {' and '.join(moved)} {'were' if len(moved) > 1 else 'was'} {verb}"
    if saved:
        names = " and ".join(map(_called, saved))
        return (
            f"and {names} cannot tell whether the layer was trained: it starts from random numbers"
        )
    return "and the layer has no gamma or beta to tell whether it was trained"


def _called(role: Role) -> str:
    return role.value.replace("_or_", " or ")


def _is_untrained(layer: Layer) -> bool:
    return layer.status is Status.UNTRAINED


def _nothing_trained(evidence: Evidence) -> bool:
    """Whether no layer shows any sign of training, and at least one could have."""
    judged = [layer for layer in evidence.layers if layer.saved(MOVING_MEAN)]
    if not judged or not all(map(_is_untrained, judged)):
        return False
    told = [layer.affine_moved for layer in evidence.layers if layer.affine_moved is not None]
    if evidence.step == 0:
        return not any(told)
    return bool(told) and not any(told)


@rule("BN201", "untrained-statistics", Level.ERROR)
def untrained_statistics(evidence: Evidence) -> Iterator[Draft]:
    """moving_mean and moving_variance are bit-exactly initial, although the rest was trained.

    What: Every channel of both statistics has the very number that the initializer writes (the
    graph's own constant, else 0 and 1), while gamma, beta or the rest of the model was trained, or
    there is no gamma or beta to tell by.

    Why: The first update changes the bits, so no update ever ran: the update ops were never run. In
    training nothing shows, because there the batch's own statistics are used. At inference the
    layer does not normalize at all.

    Right: A model whose batch norm ran with training=False from the start uses 0 and 1 in training
    and in serving alike, and one that also serves with training=True (pix2pix, MAML) never reads
    the statistics. The checkpoint cannot tell these from the mistake; if you know it, ignore the
    rule.

    Fix: In TensorFlow 1, make the training step depend on
    tf.get_collection(tf.GraphKeys.UPDATE_OPS) with tf.control_dependencies, or use
    slim.learning.create_train_op; in TensorFlow 2, call model(inputs, training=True) in a training
    loop of your own. Then train again.
    """
    if _nothing_trained(evidence):
        return
    for layer in filter(_is_untrained, evidence.layers):
        if layer.affine_moved is False:
            continue
        what = "the statistics were never updated"
        if not evidence.keras:
            what = "the update ops were never run"
        if layer.affine_restored:
            what = "the statistics were neither restored nor updated"
        yield Draft(
            layer=layer.name,
            variables=layer.names(*STATISTICS),
            message=f"{what}: {initial_values(layer)}, {_training_of(layer)}",
            help=_RESTORE_HELP if layer.affine_restored else _update_help(evidence),
            evidence={
                "affine_trained": layer.affine_moved,
                "step": evidence.step,
                "update_ops": evidence.graph.update_ops if evidence.graph else None,
            },
        )


@rule("BN202", "half-trained-statistics", Level.ERROR)
def half_trained_statistics(evidence: Evidence) -> Iterator[Draft]:
    """One of the two statistics is initial in every channel, the other is not.

    What: moving_mean is bit-exactly its initial value and moving_variance is not, or the other way
    round.

    Why: Both are updated by the same training step, so one of the two update ops does not run, or
    one of the variables was restored from elsewhere. At inference the layer normalizes wrongly.

    Right: A layer whose input was always 0 has the mean 0 and a variance that decayed alike in
    every channel. A layer on standardised inputs keeps a variance of 1, with a mean within 1e-5 of
    0. In half precision a variance can stay at 1 because each step rounds to nothing: that is a
    warning.

    Fix: Run both update ops with each training step; tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    holds them both. A Keras layer updates both of them whenever it is called with training=True.
    """
    for layer in evidence.layers:
        if layer.status is not Status.HALF_TRAINED:
            continue
        stuck, other = STATISTICS if layer.members[STATISTICS[0]].initial else STATISTICS[::-1]
        member = layer.members[stuck]
        exact = is_exact(member)
        yield Draft(
            layer=layer.name,
            variables=(member.name,),
            message=f"{stuck.value} is exactly {member.expected or 0:g} in every channel, "
            f"although {other.value} was updated"
            + (
                "" if exact else f"; it is {_dtype(member)}, so updates may have rounded to nothing"
            ),
            help=""
            if exact
            else "Keep the statistics in float32: in half precision small updates are lost.",
            level=Level.ERROR if exact else Level.WARNING,
            evidence={"initial": stuck.value, "dtype": _dtype(member)},
            explains=("BN304",),
        )


def _dtype(member: Member) -> str:
    return member.variable.dtype if member.variable else ""


@rule("BN203", "untrained-layer", Level.WARNING)
def untrained_layer(evidence: Evidence) -> Iterator[Draft]:
    """Everything in this layer is initial, while other layers are trained.

    What: moving_mean, moving_variance, and what the layer has of gamma and beta, are all at their
    initial values; other layers of the same checkpoint are not.

    Why: The layer is new (a head that was added after training), unused (its branch does not reach
    the loss), or it was not restored. Only the last is a defect, and only you can tell.

    Right: A new layer before fine-tuning looks just like this; therefore it is a warning.

    Fix: If the layer is in use, train it or restore it; if not, leave it out of the model that is
    served.
    """
    if _nothing_trained(evidence):
        return
    for layer in filter(_is_untrained, evidence.layers):
        if layer.affine_moved is False:
            yield Draft(
                layer=layer.name,
                variables=layer.names(*ANY_AFFINE, *STATISTICS),
                message=f"the whole layer is at its initial values: {initial_values(layer)}, and "
                + " and ".join(_called(role) for role in ANY_AFFINE if layer.saved(role))
                + " untouched as well",
            )


@rule("BN204", "never-trained", Level.ERROR)
def never_trained(evidence: Evidence) -> Iterator[Draft]:
    """Every layer is at its initial values.

    What: All statistics, and all gammas and betas, are what the initializers write.

    Why: The checkpoint was saved before training, or everything was initialized again after a
    restore (tf.global_variables_initializer() after saver.restore()). Such a model has learned
    nothing.

    Right: A checkpoint of step 0 is meant to look like this, but not to be deployed.

    Fix: Take a later checkpoint. If this one is the latest, look for an initializer that runs after
    the restore, or for weights that were never loaded.
    """
    if not _nothing_trained(evidence):
        return
    layers = [layer for layer in evidence.layers if _is_untrained(layer)]
    step = "" if evidence.step is None else f"; the step is {evidence.step}"
    yield Draft(
        layer="",
        variables=tuple(name for layer in layers for name in layer.names(*ANY_AFFINE, *STATISTICS)),
        message=f"nothing was trained: all {len(layers)} layers are at their initial values{step}"
        if len(layers) > 1
        else f"nothing was trained: the only layer is at its initial values{step}",
        help=_help_of_never_trained(evidence),
        evidence={"layers": [layer.name for layer in layers], "step": evidence.step},
    )


def _help_of_never_trained(evidence: Evidence) -> str:
    if not evidence.step:
        return ""
    return _KERAS_FROZEN_HELP if evidence.keras else _FROZEN_HELP
