"""Writes one dataset of the benchmarks with TensorFlow.

`python benchmarks/make_data.py NAME DIRECTORY` makes DIRECTORY, with `facts.json` in it: the bytes
that batch norm's variables hold, and how many layers and variables there are.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
PREFIX = "model.ckpt-1000"
_COPIES = 1000
# Layers, channels, and the kernel before each layer.
_BUNDLES: dict[str, tuple[int, int, tuple[int, ...] | None]] = {
    "small": (5, 64, (3, 3, 64, 16)),
    "layers": (20_000, 64, (3, 3, 64, 47)),
    "wide": (100, 4096, None),
}
_LARGE = 4 << 20  # elements of a tensor
_TOWERS, _TOWER_LAYERS = 51, 200


def _roles(random: np.random.Generator, channels: int) -> dict[str, np.ndarray]:
    """Return values of a trained layer."""
    drawn = {
        "gamma": random.normal(1, 0.1, channels),
        "beta": random.normal(0, 0.1, channels),
        "moving_mean": random.normal(0, 1, channels),
        "moving_variance": random.gamma(4, 0.25, channels) + 0.01,
    }
    return {role: value.astype(np.float32) for role, value in drawn.items()}


def bundle(
    directory: Path, layers: int, channels: int, kernel: tuple[int, ...] | None
) -> dict[str, int]:
    """Write a V2 checkpoint, with a kernel of this shape before each layer."""
    random = np.random.default_rng(1)
    weights = None
    if kernel is not None:
        weights = tf.constant(random.standard_normal(kernel, dtype=np.float32))
    variables: dict[str, object] = {}
    for i in range(layers):
        unit = f"resnet/block_{i // 100}/unit_{i % 100}"
        if weights is not None:
            variables[f"{unit}/conv/kernel"] = weights
        for role, value in _roles(random, channels).items():
            variables[f"{unit}/batch_normalization/{role}"] = value
    variables["global_step"] = np.int64(1000)
    tf.raw_ops.SaveV2(
        prefix=str(directory / PREFIX),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=list(variables.values()),
    )
    return {
        "layers": layers,
        "variables": len(variables),
        "batch_norm_bytes": layers * 4 * channels * 4,
    }


def shards(directory: Path, count: int, tensors: int) -> dict[str, int]:
    """Write a V2 checkpoint in several data files, of large tensors and no batch norm."""
    tensor = tf.constant(np.random.default_rng(1).standard_normal(_LARGE, dtype=np.float32))
    prefixes = [str(directory / f"part-{shard}") for shard in range(count)]
    for shard, prefix in enumerate(prefixes):
        names = [f"shard_{shard}/embedding_{i}" for i in range(tensors)]
        tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=names,
            shape_and_slices=[""] * tensors,
            tensors=[tensor] * tensors,
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=prefixes,
        destination_prefix=str(directory / PREFIX),
        delete_old_dirs=False,
    )
    return {"layers": 0, "variables": count * tensors, "batch_norm_bytes": 0}


def _layer(inputs: tf.Tensor, name: str, channels: int) -> tf.Tensor:
    """A convolution, batch norm with its update ops, and a ReLU, as tf.layers builds them."""
    with tf1.variable_scope(name, use_resource=False):
        kernel = tf1.get_variable("conv/kernel", [1, 1, channels, channels])
        outputs = tf.nn.conv2d(inputs, kernel, 1, "SAME")
    with tf1.variable_scope(f"{name}/batch_normalization", use_resource=False):

        def variable(role: str, initial: float, *, trainable: bool) -> tf.Variable:
            initializer = tf1.constant_initializer(initial)
            shape = [channels]
            return tf1.get_variable(role, shape, initializer=initializer, trainable=trainable)

        gamma, beta = variable("gamma", 1, trainable=True), variable("beta", 0, trainable=True)
        averages = [
            variable("moving_mean", 0, trainable=False),
            variable("moving_variance", 1, trainable=False),
        ]
        outputs, mean, variance = tf1.nn.fused_batch_norm(outputs, gamma, beta, epsilon=0.001)
        for average, batch in zip(averages, (mean, variance), strict=True):
            update = tf1.assign_sub(average, (average - batch) * 0.01)
            tf1.add_to_collection(tf1.GraphKeys.UPDATE_OPS, update)
    return tf.nn.relu(outputs)


def trained_graph(directory: Path, layers: int, channels: int, towers: int = 1) -> dict[str, int]:
    """Write a training of TensorFlow 1: checkpoint and `.meta`, with a training step in it.

    More than one tower share the variables, as when one program trains on several GPUs.
    """
    random = np.random.default_rng(1)
    with tf.Graph().as_default():
        gradients = []
        step = tf1.train.get_or_create_global_step()
        optimizer = tf1.train.AdamOptimizer()
        for tower in range(towers):
            with (
                tf.name_scope(f"tower_{tower}"),
                tf1.variable_scope("", reuse=tower > 0),
            ):
                outputs = tf1.placeholder(tf.float32, [None, 8, 8, channels], "images")
                for i in range(layers):
                    outputs = _layer(outputs, f"net/unit_{i}", channels)
                loss = tf.reduce_mean(outputs)
                gradients.append(optimizer.compute_gradients(loss))
        means = [
            (tf.add_n([gradient for gradient, _ in each]), each[0][1])
            for each in zip(*gradients, strict=True)
        ]
        with tf.control_dependencies(tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)):
            optimizer.apply_gradients(means, global_step=step)
        initialize = tf1.global_variables_initializer()
        saver = tf1.train.Saver()
        variables = tf1.global_variables()
        trained: dict[tf.Tensor, object] = {step.initializer.inputs[1]: 1000}
        for variable in variables:
            scope, _, role = variable.op.name.rpartition("/")
            if scope.endswith("/batch_normalization"):
                trained[variable.initializer.inputs[1]] = _roles(random, channels)[role]
        with tf1.Session() as session:
            # In one step, for each one costs time with the number of the graph's nodes.
            session.run(initialize, trained)
            saver.save(session, str(directory / "model.ckpt"), global_step=step)
    return {
        "layers": layers,
        "variables": len(variables),
        "batch_norm_bytes": layers * 4 * channels * 4,
    }


def many(directory: Path) -> dict[str, int]:
    """Write one small training, and copy it, each copy into a directory of its own."""
    original = directory / "0000"
    original.mkdir()
    facts = trained_graph(original, layers=5, channels=64)
    for i in range(1, _COPIES):
        shutil.copytree(original, directory / f"{i:04}")
    return {name: value * _COPIES for name, value in facts.items()}


def keras(directory: Path, form: str) -> dict[str, int]:
    """Write a ResNet-50 whose batch norm has values of a trained one."""
    random = np.random.default_rng(1)
    model = tf.keras.applications.ResNet50(weights=None)
    layers = [x for x in model.layers if isinstance(x, tf.keras.layers.BatchNormalization)]
    for layer in layers:
        layer.set_weights(list(_roles(random, layer.gamma.shape[0]).values()))
    if form == "h5":
        model.save(directory / "model.h5")
    else:
        model.export(directory / "model", verbose=False)
    return {
        "layers": len(layers),
        "variables": len(model.variables),
        "batch_norm_bytes": sum(4 * 4 * layer.gamma.shape[0] for layer in layers),
    }


def make(name: str, directory: Path) -> dict[str, int]:
    """Write the dataset of this name: its kind, and after a colon what it depends on."""
    kind, _, detail = name.partition(":")
    if name in _BUNDLES:
        return bundle(directory, *_BUNDLES[name])
    if kind == "shards":  # of a GiB each
        return shards(directory, int(detail), 64)
    if kind == "variables":
        return bundle(directory, int(detail), 64, None)
    if kind == "bytes":  # of a kernel, of which there are 2,000
        return bundle(directory, 2_000, 64, (int(detail) // 4,))
    if kind == "small-graph":
        return trained_graph(directory, layers=5, channels=64)
    if kind == "graph":
        return trained_graph(directory, _TOWER_LAYERS, 8, _TOWERS)
    if kind == "many":
        return many(directory)
    if kind == "keras":
        return keras(directory, detail)
    raise ValueError(f"there is no dataset {name}")


def main(name: str, directory: Path) -> None:
    """Write a dataset; it gets its name only when it is complete."""
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    facts = make(name, unfinished)
    (unfinished / "facts.json").write_text(json.dumps(facts) + "\n", "utf-8")
    unfinished.rename(directory)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
