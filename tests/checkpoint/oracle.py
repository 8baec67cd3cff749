"""Checkpoints as TensorFlow reads them, and comparisons to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from bncheck.checkpoint import open_checkpoint


def assert_same(got: Any, want: Any, where: object = "") -> None:
    """Compare shapes, types and every bit; TensorFlow's quantized types are plain integers."""
    if isinstance(want, bytes) or np.asarray(want).dtype.kind == "O":
        expected = np.array(want, object)
        assert got.dtype.kind == "O", where
        assert got.shape == expected.shape, where
        assert got.ravel().tolist() == expected.ravel().tolist(), where
        return
    expected = np.asarray(want)
    if expected.dtype.names:
        expected = expected.view(expected.dtype[0])
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), where
    assert got.dtype.isnative, where
    assert got.tobytes() == expected.tobytes(), where


def read_all(path: object) -> dict[str, Any]:
    """Read every variable of a checkpoint; nothing may stay unread."""
    checkpoint = open_checkpoint(str(path))
    values = checkpoint.read(checkpoint.variables)
    assert values.unread == {}
    assert set(values.arrays) == set(checkpoint.variables)
    return values.arrays


def assert_same_as_tensorflow(tf: Any, path: object, pattern: str, *, values: bool = True) -> int:
    """Compare a checkpoint with what TensorFlow reads under `pattern`; return how many variables.

    The values come from the restore ops, which read what CheckpointReader refuses: V1 slices.
    """
    checkpoint = open_checkpoint(str(path))
    reader = tf.compat.v1.train.NewCheckpointReader(pattern)
    dtypes = reader.get_variable_to_dtype_map()
    assert {name: list(v.shape) for name, v in checkpoint.variables.items()} == (
        reader.get_variable_to_shape_map()
    )
    assert {name: v.dtype for name, v in checkpoint.variables.items()} == {
        name: dtype.name for name, dtype in dtypes.items()
    }
    names = list(checkpoint.variables)
    assert names == sorted(names, key=str.encode)
    if not values:
        return len(names)
    arrays = read_all(path)
    for name, dtype in dtypes.items():
        if checkpoint.format != "tensor-slices-v1":
            want = reader.get_tensor(name)
        else:
            want = tf.raw_ops.Restore(file_pattern=pattern, tensor_name=name, dt=dtype).numpy()
        assert_same(arrays[name], want, (pattern, name))
    return len(names)
