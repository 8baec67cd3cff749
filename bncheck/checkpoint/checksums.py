"""CRC32C as TensorFlow stores it: masked, to stay strong over data that holds checksums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import google_crc32c

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MASK_DELTA = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h, kMaskDelta


def crc32c(data: bytes) -> int:
    """Return the CRC32C of some bytes, as it is."""
    crc: int = google_crc32c.value(data)
    return crc


def mask(crc: int) -> int:
    """Return a CRC32C's stored form: rotated right by 15 bits, plus a constant, modulo 2**32."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(stored: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the CRC32Cs that stored forms stand for."""
    rotated = (stored - _MASK_DELTA) & 0xFFFFFFFF
    return ((rotated << 15) | (rotated >> 17)) & 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """Return the masked CRC32C of some bytes."""
    return mask(crc32c(data))
