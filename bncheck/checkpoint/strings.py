"""String tensors of a V2 checkpoint, and their own kind of checksum.

Written by WriteStringTensor in tensorflow/core/util/tensor_bundle/tensor_bundle.cc:
varint64 lengths, masked CRC32C of the lengths as fixed integers, then all the bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from bncheck.checkpoint.checksums import mask
from bncheck.checkpoint.varint import read_varint

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray


def decode_strings(data: bytes, count: int, crc: int, *, big_endian: bool) -> NDArray[Any]:
    """Return a flat array of `count` bytes objects; `crc` is the entry's CRC32C.

    Raises ValueError where the lengths do not fit the data or a checksum fails. The lengths'
    checksum is over each length as uint32 (uint64 above 2**32 - 1) in the writer's byte order, not
    over the varints.
    """
    if count > len(data):
        raise ValueError(f"{len(data)} bytes cannot hold {count} strings")
    strings = np.empty(count, np.object_)
    if not data:
        return strings  # old writers stored nothing at all for an empty tensor
    order = ">" if big_endian else "<"
    lengths = []
    position = 0
    for _ in range(count):
        length, position = read_varint(data, position, len(data))
        lengths.append(length)
    running = google_crc32c.value(
        b"".join(struct.pack(order + ("I" if n < 1 << 32 else "Q"), n) for n in lengths)
    )
    stored = data[position : position + 4]
    if len(stored) < 4 or struct.unpack(order + "I", stored)[0] != mask(running):
        raise ValueError("the lengths of its strings fail their checksum")
    position += 4
    if position + sum(lengths) != len(data):
        raise ValueError("its strings are longer or shorter than their lengths say")
    running = google_crc32c.extend(google_crc32c.extend(running, stored), data[position:])
    if running != crc:
        raise ValueError("it fails its checksum")
    for index, length in enumerate(lengths):
        strings[index] = data[position : position + length]
        position += length
    return strings
