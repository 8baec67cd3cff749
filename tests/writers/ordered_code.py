"""Encodes the binary keys under which slices of tensors are stored.

Source: tensorflow/core/lib/strings/ordered_code.cc and EncodeTensorNameSlice in
tensorflow/core/util/saved_tensor_slice_util.cc. The codes sort as their values do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def num_increasing(value: int) -> bytes:
    """Encode an unsigned number: how many bytes, then those bytes, high first; 0 is `00`."""
    payload = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(payload)]) + payload


def string_increasing(value: bytes) -> bytes:
    """Encode a string: 00 becomes `00 ff`, ff becomes `ff 00`, and `00 01` ends it."""
    escapes = {0x00: b"\x00\xff", 0xFF: b"\xff\x00"}
    return b"".join(escapes.get(byte, bytes([byte])) for byte in value) + b"\x00\x01"


def signed_num_increasing(value: int) -> bytes:
    """Encode an int64 in 1 to 10 bytes; n bytes hold -2**(7n-1) to 2**(7n-1)-1.

    The code is the n-byte two's complement with its first n bits inverted: for a value >= 0 they
    become n ones and a zero, for a negative value n zeros and a one.
    """
    size = next(n for n in range(1, 11) if -(1 << (7 * n - 1)) <= value < 1 << (7 * n - 1))
    header = ((1 << size) - 1) << (7 * size)
    return (value % (1 << (8 * size)) ^ header).to_bytes(size, "big")


def slice_key(name: bytes | str, extents: Iterable[tuple[int, int]]) -> bytes:
    """Encode a tensor's name and one (start, length) for each dimension.

    The length of a whole dimension is -1 where the stored Extent has none, and the number where it
    spells it out: these are different keys.
    """
    raw = name.encode() if isinstance(name, str) else name
    pairs = list(extents)
    key = num_increasing(0) + string_increasing(raw) + num_increasing(len(pairs))
    for start, length in pairs:
        key += signed_num_increasing(start) + signed_num_increasing(length)
    return key
