"""Values, names, data types and slices, as both formats' writers take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes  # noqa: F401  # gives NumPy bfloat16, the float8s and the int4s
import numpy as np
import numpy.typing as npt

from bncheck.proto import tensors_pb2

Array = npt.NDArray[Any]
Name = bytes | str
Box = tuple[Sequence[int], Sequence[int | None]]
"""A slice: starts, and lengths. A length of None is an Extent without length, which means the whole
dimension; so does -1, which is spelled out."""

STRING = 7
# DataType numbers of tensorflow/core/framework/types.proto, by NumPy's names. The quantized types
# have no NumPy type of their own: the writers' `dtypes` argument asks for them.
DTYPES = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "object": STRING,
    "complex64": 8, "int64": 9, "bool": 10, "bfloat16": 14, "uint16": 17, "complex128": 18,
    "float16": 19, "uint32": 22, "uint64": 23, "float8_e5m2": 24, "float8_e4m3fn": 25,
    "float8_e4m3fnuz": 26, "float8_e4m3b11fnuz": 27, "float8_e5m2fnuz": 28, "int4": 29,
    "uint4": 30, "int2": 31, "uint2": 32, "float4_e2m1fn": 33,
}  # fmt: skip


def raw_name(name: Name) -> bytes:
    """Return a name's bytes."""
    return name.encode() if isinstance(name, str) else name


def by_raw_name(named: Mapping[Name, Any] | None) -> dict[bytes, Any]:
    """Return the mapping with its names as bytes."""
    return {raw_name(name): value for name, value in (named or {}).items()}


def as_array(value: Any) -> Array:
    """Return an array in the host's byte order; text and bytes become objects of type bytes.

    NumPy's own bytes type is avoided because it drops trailing NULs.
    """
    array: Array = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
    if array.dtype.kind in "OSU":
        flat = array.ravel().tolist()
        if isinstance(value, np.ndarray) or any(isinstance(item, bytes | str) for item in flat):
            strings = np.empty(len(flat), dtype=object)
            for at, item in enumerate(flat):
                strings[at] = raw_name(item)
            return strings.reshape(array.shape)
        array = np.asarray(value)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)


def dtype_number(array: Array) -> int:
    """Return the DataType number of an array."""
    return DTYPES[array.dtype.name]


def cut(array: Array, box: Box) -> Array:
    """Return the part of the array that the slice covers."""
    ends = [
        (start, None if length in (None, -1) else start + int(length or 0))
        for start, length in zip(*box, strict=True)
    ]
    # The ellipsis keeps a scalar an array.
    return array[(*(slice(start, end) for start, end in ends), ...)]


def extents(box: Box) -> list[tuple[int, int]]:
    """Return the slice's starts and lengths as its key holds them: no length is -1."""
    return [(s, -1 if n is None else n) for s, n in zip(*box, strict=True)]


def slice_message(box: Box) -> tensors_pb2.TensorSliceProto:
    """Return the slice as a message; a start of 0 and a length of None are absent fields."""
    message = tensors_pb2.TensorSliceProto()
    for start, length in zip(*box, strict=True):
        extent = message.extent.add(start=start)
        if length is not None:
            extent.length = length
    return message


def shape_message(shape: Sequence[int]) -> tensors_pb2.TensorShapeProto:
    """Return the shape as a message."""
    dims = [tensors_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    return tensors_pb2.TensorShapeProto(dim=dims)
