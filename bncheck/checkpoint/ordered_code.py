"""The keys of tensor slices: OrderedCode, whose byte order is the order of the values.

Encoded as tensorflow/core/lib/strings/ordered_code.cc and EncodeTensorNameSlice in
tensorflow/core/util/saved_tensor_slice_util.cc do. A key is looked up, never decoded: TensorFlow's
own decoder refuses scalars, and both spellings of a whole dimension occur.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def slice_key(name: bytes, extents: Sequence[tuple[int, int]]) -> bytes:
    """Return the key under which a slice is stored.

    `extents` holds (start, length) for each dimension, exactly as the entry spells them: a whole
    dimension may be written (0, size) or (0, -1), and the two give different keys.
    """
    parts = [_number(0), _string(name), _number(len(extents))]
    for start, length in extents:
        parts += [_signed(start), _signed(length)]
    return b"".join(parts)


def _number(value: int) -> bytes:
    payload = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(payload)]) + payload


def _string(value: bytes) -> bytes:
    escaped = re.sub(rb"[\x00\xff]", lambda byte: byte[0] + bytes([255 - byte[0][0]]), value)
    return escaped + b"\x00\x01"


def _signed(value: int) -> bytes:
    """Encode as two's complement of n bytes: n + 1 sign bits on top, the first n flipped."""
    size = 1
    while not -(1 << (7 * size - 1)) <= value < 1 << (7 * size - 1):
        size += 1
    bits = value & ((1 << (8 * size)) - 1)
    header = ((1 << size) - 1) << (7 * size)
    return (bits ^ header).to_bytes(size, "big")
