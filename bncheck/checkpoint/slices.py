"""Putting a partitioned variable together from its slices, in any number of dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bncheck import limits
from bncheck.checkpoint.model import element_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from bncheck.proto.tensors_pb2 import TensorSliceProto

Extents = tuple[tuple[int, int], ...]
"""One slice as stored: (start, length) for each dimension; length -1 means the whole dimension."""


class Box(NamedTuple):
    """A slice resolved against the full shape: starts and sizes, all within it."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]


def extents_of(message: TensorSliceProto) -> Extents:
    """Return a slice's extents exactly as spelled: an absent length stays -1."""
    return tuple(
        (extent.start, extent.length if extent.HasField("length") else -1)
        for extent in message.extent
    )


def resolve(extents: Extents, shape: Sequence[int]) -> Box:
    """Place a slice within the full shape.

    Raises ValueError where its rank differs from the shape's, or it reaches outside of it.
    """
    if len(extents) != len(shape):
        raise ValueError(f"a slice of rank {len(extents)} in a tensor of rank {len(shape)}")
    sizes = tuple(
        full - start if length < 0 else length
        for (start, length), full in zip(extents, shape, strict=True)
    )
    for (start, _), size, full in zip(extents, sizes, shape, strict=True):
        if start < 0 or size < 0 or start + size > full:
            raise ValueError(f"a slice {start}:{start + size} reaches out of a dimension of {full}")
    return Box(tuple(start for start, _ in extents), sizes)


def check_coverage(boxes: Iterable[Box], shape: Sequence[int]) -> None:
    """Check that the slices are as many elements as the tensor, before the tensor is allocated.

    Raises ValueError where they are not. Together with `assemble`, which refuses overlaps, this
    proves that every element is given exactly once.
    """
    covered = sum(element_count(box.sizes) for box in boxes)
    if covered != element_count(shape):
        raise ValueError(f"its slices hold {covered} of {element_count(shape)} elements")


def check_overlaps(boxes: Iterable[Box]) -> None:
    """Check that no two slices of a tensor share an element; nothing is allocated for it.

    Raises ValueError where two do, or so many lie side by side that it would take too long.
    """
    pending: list[Box] = []
    compared = 0
    for box in sorted((box for box in boxes if 0 not in box.sizes), key=lambda each: each.starts):
        # Those that end before this one starts along the first axis end before all that follow.
        pending = [p for p in pending if not box.starts or _end(p, 0) > box.starts[0]]
        compared += len(pending)
        if compared > limits.MOST_COMPARED:
            raise ValueError("its slices are too many to compare")
        if any(_share(box, other) for other in pending):
            raise ValueError("its slices overlap")
        pending.append(box)


def _end(box: Box, axis: int) -> int:
    return box.starts[axis] + box.sizes[axis]


def _share(one: Box, other: Box) -> bool:
    return all(
        one.starts[axis] < _end(other, axis) and other.starts[axis] < _end(one, axis)
        for axis in range(len(one.starts))
    )


def assemble(
    parts: Sequence[tuple[Box, NDArray[Any]]], shape: Sequence[int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return the full tensor; the parts must have passed `check_coverage`.

    Raises ValueError where two parts overlap.
    """
    full = np.empty(shape, dtype)
    filled = np.zeros(shape, np.bool_)
    for box, values in parts:
        place = tuple(
            slice(start, start + size) for start, size in zip(box.starts, box.sizes, strict=True)
        )
        if filled[place].any():
            raise ValueError("its slices overlap")
        filled[place] = True
        full[place] = values.reshape(box.sizes)
    return full
