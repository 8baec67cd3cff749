"""Base-128 varints, as LevelDB's and TensorFlow's files hold them outside of protobuf messages."""

from __future__ import annotations

_LONGEST = 10  # bytes of a 64-bit varint


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the varint at `position` and the position behind it.

    Raises ValueError where it runs past `end` or is longer than 64 bits can be.
    """
    value = shift = 0
    for at in range(position, min(end, position + _LONGEST)):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at + 1
        shift += 7
    raise ValueError("varint is cut off or too long")


def written_varint(value: int) -> bytes:
    """Return the shortest varint of a number that is not negative."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
