"""BN501, BN502, BN504 and BN506: does the graph run the updates, and serve the averages?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.batchnorm.layers import Status
from bncheck.batchnorm.names import STATISTICS
from bncheck.rules.rule import Draft, Evidence, Level, rule
from bncheck.rules.trained import initial_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bncheck.batchnorm.layers import Layer
    from bncheck.graph.model import Graph, GraphLayer

_SERVES = {
    "batch": "the serving graph normalizes with the batch's own statistics",
    "undecided": "a placeholder that has to be fed decides whether the serving graph normalizes "
    "with the batch's own statistics",
    "untold": "the serving graph computes whether it normalizes with the batch's own statistics, "
    "and does not tell the outcome",
}
_RUN_UPDATE_OPS = """\
    update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.control_dependencies(update_ops):
        train_op = optimizer.minimize(loss)"""


def _pairs(evidence: Evidence) -> Iterator[tuple[Layer, GraphLayer]]:
    """Yield each layer with the graph's own of the same variables."""
    if evidence.graph is None:
        return
    by_variable = {name: layer for layer in evidence.graph.layers for name in layer.roles.values()}
    for layer in evidence.layers:
        known = [m.graph_variable for m in layer.members.values() if m.graph_variable is not None]
        found = next((by_variable[v.name] for v in known if v.name in by_variable), None)
        if found is not None:
            yield layer, found


def _unrun(evidence: Evidence) -> Iterator[tuple[Layer, GraphLayer, Level]]:
    """Yield the layers whose updates no training step runs, as far as graph and values agree.

    Statistics that moved were updated, whatever the graph says: sess.run([train_op, update_ops])
    leaves no trace in it. Those that were restored prove nothing.
    """
    anything_moved = any(
        layer.affine_moved or layer.status is Status.TRAINED for layer in evidence.layers
    )
    for layer, found in _pairs(evidence):
        if found.runs is not False or layer.status is Status.DAMAGED:
            continue
        if layer.status in (Status.UNTRAINED, Status.HALF_TRAINED):
            if layer.affine_moved is not False or layer.status is Status.HALF_TRAINED:
                yield layer, found, Level.ERROR
            elif not anything_moved:
                yield layer, found, Level.WARNING
        elif layer.status is not Status.TRAINED or _is_restored(layer):
            yield layer, found, Level.WARNING


def undecided_updates(evidence: Evidence) -> str:
    """Say for which layers the values had to decide whether updates run, empty where for none."""
    moved = sum(
        found.runs is False and layer.status is Status.TRAINED and not _is_restored(layer)
        for layer, found in _pairs(evidence)
    )
    if not moved:
        return ""
    which = f"{moved} layers" if moved > 1 else "1 layer"
    return (
        f"no training step in it reaches the update ops of {which}; their statistics moved, so the "
        "program runs them itself, or has restored them"
    )


def _is_restored(layer: Layer) -> bool:
    """Whether the graph initializes the statistics from a checkpoint."""
    members = [layer.members[role] for role in STATISTICS if role in layer.members]
    return any(m.graph_variable is not None and m.graph_variable.restored for m in members)


def _run_help(graph: Graph | None) -> str:
    if graph is not None and graph.update_ops:
        return (
            f"The graph has {graph.update_ops} ops in UPDATE_OPS. Make the training step depend on "
            f"them, and train again:\n{_RUN_UPDATE_OPS}\n"
            "or use slim.learning.create_train_op. Collect them after the model is built: before, "
            "the collection is empty."
        )
    return (
        "UPDATE_OPS is empty: tf.keras layers keep their updates in model.updates (run "
        "sess.run([train_op, model.updates])), other code in a collection of its own. Let the "
        "training step depend on them with tf.control_dependencies, or build the layers with "
        "updates_collections=None."
    )


@rule("BN501", "update-ops-not-run", Level.ERROR)
def update_ops_not_run(evidence: Evidence) -> Iterator[Draft]:
    """The graph has update ops for the statistics that no training step reaches.

    What: No op that trains (an optimizer's apply op, or an assignment to a trainable variable), and
    none that also waits for one (tf.group(train_op, updates)), needs an update of the layer's
    moving_mean and moving_variance; and the values agree: they are initial. Where the values cannot
    tell, because nothing was trained yet or the statistics were restored, it is a warning.

    Why: tf.layers and slim only register the updates in UPDATE_OPS; optimizer.minimize does not run
    them. In training nothing shows, because there the batch's own statistics are used.

    Right: sess.run([train_op, update_ops]) leaves no trace in the graph: statistics that moved were
    updated. One of several towers may be enough to update a shared variable. A layer that is
    initial as a whole beside trained ones is unused (BN203).

    Fix: Make the training step depend on tf.get_collection(tf.GraphKeys.UPDATE_OPS) with
    tf.control_dependencies, or use slim.learning.create_train_op, and train again.
    """
    for layer, found, level in _unrun(evidence):
        values = initial_values(layer)
        if layer.status is Status.HALF_TRAINED:
            values = "one of the two statistics is at its initial value"
        elif level is Level.WARNING:
            values = "the values cannot tell whether something else ran them"
        yield Draft(
            layer=layer.name,
            variables=layer.names(*STATISTICS),
            message=f"no training step runs the layer's {len(found.updates)} update ops: {values}",
            help=_run_help(evidence.graph),
            level=level,
            evidence={"updates": list(found.updates), "step": evidence.step},
            explains=("BN201", "BN202"),
        )


@rule("BN502", "update-ops-not-collected", Level.WARNING)
def update_ops_not_collected(evidence: Evidence) -> Iterator[Draft]:
    """Update ops exist, but UPDATE_OPS is empty, and nothing runs them.

    What: The graph has ops that update the statistics, no training step reaches them, and the
    collection UPDATE_OPS holds none at all.

    Why: The usual tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)) then waits
    for nothing. tf.keras layers do not fill the collection, by design, nor does code with a
    collection of its own.

    Right: updates_collections=None puts the updates into the layer's output, and Keras' fit runs
    model.updates itself: updates that run are no finding.

    Fix: Run model.updates with each step (tf.keras), or pass your own collection's ops to
    tf.control_dependencies.
    """
    graph = evidence.graph
    if graph is None or graph.update_ops or graph.kind == "graph-def":
        return  # a bare GraphDef has no collections to be empty
    layers = [layer for layer, _, _ in _unrun(evidence)]
    if layers:
        yield Draft(
            layer="",
            variables=(),
            message=f"UPDATE_OPS is empty, although the graph has update ops for {len(layers)} "
            f"layer{'s' if len(layers) > 1 else ''} that nothing runs",
            evidence={"layers": [layer.name for layer in layers]},
        )


@rule("BN504", "inference-uses-batch-statistics", Level.ERROR)
def inference_uses_batch_statistics(evidence: Evidence) -> Iterator[Draft]:
    """A graph for serving normalizes with the batch's own statistics.

    What: The graph trains nothing, and on the way to its outputs (those of its signatures, where it
    has some) a batch norm is in training mode: is_training is true, or absent, which means true; or
    a placeholder without a default, or with the default true, decides it. Where a variable or a
    computation decides, it is a warning.

    Why: Predictions then depend on what else is in the batch, a batch of one is normalized to
    beta, and the moving averages, however well they were trained, are not used.

    Right: A learning phase whose default is false is inference. Training functions that a
    SavedModel keeps beside the served one do not count. Models that use the batch's statistics
    at test time on purpose (pix2pix, MAML) look like the mistake: ignore the rule for them.

    Fix: Build the serving graph with training=False (is_training=False,
    tf.keras.backend.set_learning_phase(0) before the model is built), restore the checkpoint into
    it, and export that. In TensorFlow 2, export a function that calls model(x, training=False).
    """
    if evidence.graph is None:
        return
    names = {id(found): layer for layer, found in _pairs(evidence)}
    for found in evidence.graph.layers:
        if found.serves not in _SERVES:
            continue
        layer = names.get(id(found))
        yield Draft(
            layer=layer.name if layer is not None else found.name,
            variables=layer.names(*STATISTICS) if layer is not None else (),
            message=_SERVES[found.serves],
            level=Level.WARNING if found.serves == "untold" else None,
            evidence={"serves": found.serves, "graph": evidence.graph.source},
        )


@rule("BN506", "statistics-updated-at-inference", Level.ERROR)
def statistics_updated_at_inference(evidence: Evidence) -> Iterator[Draft]:
    """What a graph for serving gives out depends on an update of the statistics.

    What: The graph trains nothing, and its outputs need an op that writes moving_mean or
    moving_variance.

    Why: Every request then moves the statistics: predictions drift, and differ from replica to
    replica. Where the variables are constants, serving fails.

    Right: Update ops that are in the graph, and that no output needs, do nothing.

    Fix: Build the serving graph with training=False: then there are no update ops. With contrib and
    slim, updates_collections=None ties them to the output.
    """
    if evidence.graph is None:
        return
    for layer, found in _pairs(evidence):
        if found.written:
            yield Draft(
                layer=layer.name,
                variables=layer.names(*STATISTICS),
                message=f"the serving graph's outputs depend on {len(found.written)} ops that "
                "update the statistics",
                evidence={"updates": list(found.written)},
            )
