"""CRC32C as TensorFlow stores it: masked, to stay strong over data that holds checksums."""

from __future__ import annotations

import google_crc32c

_MASK_DELTA = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h, kMaskDelta


def mask(crc: int) -> int:
    """Return a CRC32C's stored form: rotated right by 15 bits, plus a constant, modulo 2**32."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def masked_crc32c(*parts: bytes) -> int:
    """Return the masked CRC32C of the parts' concatenation."""
    crc = google_crc32c.value(parts[0])
    for part in parts[1:]:
        crc = google_crc32c.extend(crc, part)
    return mask(crc)
