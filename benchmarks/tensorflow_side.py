"""TensorFlow's side: what a person would write to see batch norm's values in a checkpoint.

`python benchmarks/tensorflow_side.py values|sorted-values|graph|saved-model|h5|many PATH`
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

ROLES = ("gamma", "beta", "moving_mean", "moving_variance")


def statistics(name: str, array: np.ndarray) -> None:
    """Print what bncheck's report tells of a variable."""
    values = array.astype(np.float64)
    nonfinite = np.count_nonzero(~np.isfinite(values))
    print(name, values.min(), values.max(), values.mean(), values.std(), nonfinite)


def values(prefix: str, *, in_order: bool = False) -> None:
    """Print batch norm's variables of a checkpoint, as the reader lists them or by name.

    The reader lists them in no order; by name, as they lie in the files, it reads them faster.
    """
    reader = tf.train.load_checkpoint(prefix)
    names = reader.get_variable_to_shape_map()
    for name in sorted(names) if in_order else names:
        if name.rpartition("/")[2] in ROLES:
            statistics(name, reader.get_tensor(name))


def sorted_values(prefix: str) -> None:
    """Print batch norm's variables of a checkpoint by name."""
    values(prefix, in_order=True)


def graph(prefix: str) -> None:
    """Import the graph of a `.meta`, print its variables and update ops, then the values."""
    with tf.Graph().as_default():
        tf.compat.v1.train.import_meta_graph(f"{prefix}.meta")
        for variable in tf.compat.v1.global_variables():
            print(variable.name, variable.shape)
        for update in tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS):
            print(update.name)
    values(prefix)


def saved_model(path: str) -> None:
    """Load a SavedModel, and print batch norm's variables."""
    for variable in tf.saved_model.load(path).variables:
        if variable.name.partition(":")[0].rpartition("/")[2] in ROLES:
            statistics(variable.name, variable.numpy())


def h5(path: str) -> None:
    """Load a Keras model, and print the variables of its batch normalizations."""
    for layer in tf.keras.models.load_model(path, compile=False).layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            for variable in layer.weights:
                statistics(variable.path, variable.numpy())


def many(directory: str) -> None:
    """Print batch norm's variables of every checkpoint below a directory."""
    for index in sorted(Path(directory).rglob("*.index")):
        values(str(index.with_suffix("")))


if __name__ == "__main__":
    what, path = sys.argv[1:]
    sides = {
        "values": values,
        "sorted-values": sorted_values,
        "graph": graph,
        "saved-model": saved_model,
        "h5": h5,
        "many": many,
    }
    sides[what](path)
