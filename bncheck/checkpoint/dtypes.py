"""TensorFlow's DataType numbers, and how each is laid out in memory.

The numbers are those of tensorflow/core/framework/types.proto. bfloat16, the float8s and the 4-bit
integers are ml_dtypes', which NumPy lacks; 4-bit integers take a whole byte each in a checkpoint.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from typing import Any

_REFERENCE: Final = 100  # added to the number of a ref variable's type

NAMES: Final = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz",
    28: "float8_e5m2fnuz",
    29: "int4",
    30: "uint4",
    31: "int2",
    32: "uint2",
    33: "float4_e2m1fn",
}

_QUANTIZED: Final = {"qint8": "i1", "quint8": "u1", "qint16": "i2", "quint16": "u2", "qint32": "i4"}
_ML_DTYPES: Final = frozenset(NAMES[number] for number in (14, *range(24, 34)))
_NOT_NUMERIC: Final = frozenset(("string", "resource", "variant"))


def dtype_name(number: int) -> str:
    """Return TensorFlow's name of a DataType, without `_ref`; `DataType(N)` where N is unknown."""
    known = NAMES.get(number) or NAMES.get(number - _REFERENCE)
    return known or f"DataType({number})"


@lru_cache(maxsize=256)
def numpy_dtype(name: str) -> np.dtype[Any] | None:
    """Return the little-endian NumPy type of a DataType's name, None where it has no fixed size.

    That is so for strings, variants, resources, and names that this version does not know.
    """
    if name in _QUANTIZED:
        return np.dtype(_QUANTIZED[name])
    if name in _ML_DTYPES:
        import ml_dtypes  # 8 ms, and few checkpoints hold these types

        scalar = getattr(ml_dtypes, name, None)
        if scalar is None:
            return None
        extension: np.dtype[Any] = np.dtype(scalar)
        return extension
    if name in _NOT_NUMERIC or name.startswith("DataType"):
        return None
    dtype: np.dtype[Any] = np.dtype(name)
    little_endian: np.dtype[Any] = dtype.newbyteorder("<")
    return little_endian


@lru_cache(maxsize=256)
def is_floating(name: str) -> bool:
    """Whether the DataType holds real floating-point numbers, of any precision."""
    return name.startswith(("float", "bfloat"))
