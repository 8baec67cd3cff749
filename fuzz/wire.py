"""Mutation of a protobuf message of any type: fields change, lengths stay right."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from fuzz.target import Raw

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 62, (1 << 63) - 1,
            1 << 63, (1 << 64) - 1, (1 << 64) - 2)  # fmt: skip

Field = tuple[int, "int | bytes"]  # tag, and value


def fields_of(data: bytes) -> list[Field] | None:
    """Return the fields of a message, None where the bytes are none."""
    fields: list[Field] = []
    position = 0
    try:
        while position < len(data):
            tag, position = read_varint(data, position)
            kind = tag & 7
            if kind == _VARINT:
                number, position = read_varint(data, position)
                fields.append((tag, number))
                continue
            if kind == _BYTES:
                size, position = read_varint(data, position)
            else:
                size = {_FIXED64: 8, _FIXED32: 4}[kind]
            if position + size > len(data) or tag < 8:
                return None
            fields.append((tag, data[position : position + size]))
            position += size
    except (IndexError, KeyError):
        return None
    return fields


def message(fields: list[Field]) -> bytes:
    """Return the message that has these fields."""
    parts = []
    for tag, value in fields:
        parts.append(varint(tag))
        if isinstance(value, int):
            parts.append(varint(value))
        else:
            if tag & 7 == _BYTES:
                parts.append(varint(len(value)))
            parts.append(value)
    return b"".join(parts)


def mutate_message(data: bytes, raw: Raw, rng: random.Random) -> bytes:
    """Return a message with something in it changed, at any depth."""
    fields = fields_of(data)
    if not fields or rng.random() < 0.05:
        return raw(data)
    at = rng.randrange(len(fields))
    tag, value = fields[at]
    choice = rng.random()
    if choice < 0.12:
        del fields[at]
    elif choice < 0.24:
        fields.insert(rng.randrange(len(fields) + 1), fields[at])
    elif choice < 0.32:
        other = rng.randrange(len(fields))
        fields[at], fields[other] = fields[other], fields[at]
    elif choice < 0.4:
        _graft(fields, at, rng)
    elif isinstance(value, int):
        fields[at] = (tag, _number(value, rng))
    elif tag & 7 == _BYTES:
        fields[at] = (tag, mutate_message(value, raw, rng) if value else raw(value))
    else:
        fields[at] = (tag, raw(value).ljust(len(value), b"\0")[: len(value)])
    return message(fields)


def _graft(fields: list[Field], at: int, rng: random.Random) -> None:
    """Give a field the value of another of its kind, or another number."""
    tag, _ = fields[at]
    alike = [each for each in fields if each[0] & 7 == tag & 7]
    number = rng.randrange(1, 20) << 3 | tag & 7 if rng.random() < 0.2 else tag
    fields[at] = (number, rng.choice(alike)[1])


def _number(value: int, rng: random.Random) -> int:
    choice = rng.random()
    if choice < 0.4:
        return rng.choice(_NUMBERS)
    if choice < 0.7:
        return max(0, value + rng.randrange(-4, 5))
    return rng.randrange(32)


def varint(value: int) -> bytes:
    """Encode an unsigned number below 2**64."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a varint and where it ends; IndexError where there is none."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, position
        shift += 7
        if shift > 63:
            raise IndexError
