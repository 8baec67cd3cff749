"""Tensors of every type and of the shapes that the formats treat apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .tensor_slices import FIELD_OF
from .values import DTYPES

if TYPE_CHECKING:
    from .values import Array, Box

SEED = 20240501
# Upper ends (exclusive) of the types that hold less than -7 to 6.
ENDS = {"bool": 2, "int2": 2, "uint2": 4, "float4_e2m1fn": 5}
STRINGS = np.array([[b"a\0", b""], [b"\xff\n", b"x" * 300]], dtype=object)

V1_DTYPES = tuple(name for name, number in DTYPES.items() if number in FIELD_OF)
QUANTIZED = {11: "int8", 12: "uint8", 13: "int32", 15: "int16", 16: "uint16"}
"""DataTypes without a NumPy type, and the one that holds their values."""

# Two-dimensional cuts, with and without a spelled-out whole dimension.
TILES: list[Box] = [([0, 0], [None, 1]), ([0, 1], [1, 2]), ([1, 1], [1, 2])]
STRING_ROWS: list[Box] = [([0, 0], [1, 2]), ([1, 0], [1, None])]
CUBE: list[Box] = [
    ([0, 0, 0], [3, 2, 5]),
    ([0, 2, 0], [2, 2, None]),
    ([2, 2, 0], [1, 2, 2]),
    ([2, 2, 2], [1, 2, 3]),
]


def sample(dtype: str) -> Array:
    """Return a [2, 3] array of a type, with negative values where it has any.

    Of "object", that is strings, it is [2, 2].
    """
    if dtype == "object":
        return STRINGS
    low = 0 if dtype[0] == "u" or dtype in ENDS else -7
    numbers = np.random.default_rng(SEED).integers(low, ENDS.get(dtype, 7), (2, 3))
    array: Array = numbers.astype(np.dtype(dtype))
    if array.dtype.kind in "fc":
        array = (array * 1.25).astype(array.dtype)
    return array * array.dtype.type(1 + 2j) if array.dtype.kind == "c" else array


def shapes() -> dict[str, Array]:
    """Return tensors by name: three dimensions (cut by CUBE), none, no elements, no strings."""
    return {
        "cube": np.arange(60, dtype=np.float32).reshape(3, 4, 5),
        "empty": np.zeros((0, 3), np.float32),
        "no strings": np.empty((0,), object),
        "scalar": np.array(-7, np.int64),
        "é": np.array(1.5, np.float64),
    }
