"""CRCs of parts that were computed apart: joined, and of zeros that nobody has to read.

A CRC's register changes linearly with each zero byte that is fed to it: a matrix of 32 by 32 bits,
whose powers are those of many bytes. This is what zlib's crc32_combine does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

CRC32C: Final = 0x82F63B78
CRC32: Final = 0xEDB88320
"""The polynomials, the lowest bit first: Castagnoli's, and that of zip archives."""

_ALL_ONES: Final = 0xFFFFFFFF
_LARGEST_POWER: Final = 64  # of 2: sizes are of 64 bits

Matrix = tuple[int, ...]
"""What becomes of each of the 32 bits of a register."""


def combine(first: int, second: int, size: int, polynomial: int) -> int:
    """Return the CRC of two parts from that of each; `size` is the second's, in bytes."""
    return _after_zeros(first, size, polynomial) ^ second


@lru_cache(maxsize=1 << 12)
def of_zeros(size: int, polynomial: int) -> int:
    """Return the CRC of so many zero bytes."""
    return _after_zeros(_ALL_ONES, size, polynomial) ^ _ALL_ONES


def _after_zeros(register: int, size: int, polynomial: int) -> int:
    for power, matrix in enumerate(_powers(polynomial)):
        if size >> power & 1:
            register = _times(matrix, register)
    return register


@lru_cache(maxsize=2)
def _powers(polynomial: int) -> tuple[Matrix, ...]:
    """Return the matrices of 1, 2, 4, 8, ... zero bytes."""
    matrix: Matrix = (polynomial, *(1 << bit for bit in range(31)))  # of one zero bit
    for _ in range(3):
        matrix = _squared(matrix)
    powers = [matrix]
    while len(powers) < _LARGEST_POWER:
        powers.append(_squared(powers[-1]))
    return tuple(powers)


def _times(matrix: Matrix, register: int) -> int:
    product = 0
    for column in matrix:
        if register & 1:
            product ^= column
        register >>= 1
    return product


def _squared(matrix: Matrix) -> Matrix:
    return tuple(_times(matrix, column) for column in matrix)
