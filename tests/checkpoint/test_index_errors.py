"""One hand-made `.index` for each way to fail: the error's class, sentence, file and offset."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
import pytest

from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.bundle import TensorBundle
from bncheck.checkpoint.varint import read_varint
from bncheck.errors import BncheckError, DamagedError, NotFoundError
from tests.writers import masked_crc, varint, write_bundle
from tests.writers.table import MAGIC, block_contents

Write = Callable[[Path], Any]
TENSORS = {"a": np.ones(2, np.float32), "b": np.zeros(3, np.float32)}


def index(data: bytes) -> Write:
    """Write these bytes as the index."""
    return lambda prefix: Path(f"{prefix}.index").write_bytes(data)


def bundle(**options: Any) -> Write:
    tensors = options.pop("tensors", TENSORS)
    return lambda prefix: write_bundle(prefix, tensors, **options)


def contents(part: str, replacement: bytes) -> Write:
    """Write a bundle with other contents in one block, its checksum right."""
    return bundle(edit_contents=lambda name, raw: replacement if name == part else raw)


def typed(part: str, kind: int, replacement: bytes | None = None) -> Write:
    """Write a bundle with one block marked as of that compression, its checksum right."""

    def mark(name: str, stored: bytes) -> bytes:
        block = stored[:-5] + bytes([kind])
        return block + struct.pack("<I", masked_crc(block)) if name == part else stored

    return bundle(
        edit_contents=lambda n, raw: replacement if replacement and n == part else raw,
        edit_stored=mark,
    )


def flipped(part: str) -> Write:
    return bundle(
        edit_stored=lambda name, raw: bytes([raw[0] ^ 1]) + raw[1:] if name == part else raw
    )


def footer(handles: bytes) -> Write:
    tail = handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    return bundle(edit_stored=lambda name, raw: tail if name == "footer" else raw)


def restarts(entries: bytes, count: int = 1) -> bytes:
    return entries + bytes(4) + struct.pack("<I", count)


def at_footer(data: bytes) -> int:
    return len(data) - 48


def at_magic(data: bytes) -> int:
    return len(data) - 8


def at_index_block(data: bytes) -> int:
    """Follow the footer's second handle."""
    position = len(data) - 48
    for _ in range(2):
        _, position = read_varint(data, position, len(data))
    return read_varint(data, position, len(data))[0]


MALFORMED = "data block 0 is malformed"
NEVER_SHAPE = "the entry of b'b' has no definite shape"
UNSORTED = {"m" * 40: np.ones(2), "n": np.ones(2), b"\xff": np.ones(2)}

CASES: dict[str, tuple[Write, type[BncheckError], list[str], Any]] = {
    "no file": (lambda _: None, NotFoundError, ["no such file"], None),
    "empty file": (index(b""), DamagedError, ["is 0 bytes long", "Copy the file again"], None),
    "47 bytes": (index(b"x" * 47), DamagedError, ["47 bytes long, too short for a table"], None),
    "bad magic": (index(b"x" * 60), DamagedError, ["magic number", "cut off, or no table"], 52),
    "footer of a truncated varint": (
        footer(b"\xff" * 40),
        DamagedError,
        ["a block handle is wrong", "varint is cut off or too long"],
        at_footer,
    ),
    "second handle wrong": (
        footer(b"\0\x08" + b"\xff" * 38),
        DamagedError,
        ["a block handle is wrong"],
        at_footer,
    ),
    "index block behind the end": (
        footer(b"\0\x08" + varint(10**9) + varint(5)),
        DamagedError,
        ["the index block should be at 1000000000 to 1000000010", "copy the file"],
        len,
    ),
    "index block of 2**64 bytes": (
        footer(b"\0\x08\0" + varint(2**64 - 1)),
        DamagedError,
        ["the index block should be at 0 to 18446744073709551620"],
        len,
    ),
    "data block's handle wrong": (
        contents("index", block_contents([(b"c", b"\x00\x80")], 1)),
        DamagedError,
        ["a block handle is wrong"],
        at_index_block,
    ),
    "data block behind the end": (
        contents("index", block_contents([(b"c", varint(4000) + varint(9))], 1)),
        DamagedError,
        ["data block 0 should be at 4000 to 4014"],
        len,
    ),
    "data block's checksum": (
        flipped("data 0"),
        DamagedError,
        ["data block 0 fails its checksum", "go back to an earlier checkpoint"],
        0,
    ),
    "index block's checksum": (
        flipped("index"),
        DamagedError,
        ["the index block fails its checksum"],
        at_index_block,
    ),
    "unknown compression": (
        typed("data 0", 2),
        DamagedError,
        ["data block 0 has the unknown compression 2"],
        0,
    ),
    "not Snappy": (
        typed("data 0", 1),
        DamagedError,
        ["data block 0 is no valid Snappy data"],
        0,
    ),
    "Snappy bomb": (
        typed("data 0", 1, varint(70 * 64 + 1).ljust(70, b"\0")),
        DamagedError,
        ["no valid Snappy data: 70 bytes cannot hold 4481"],
        0,
    ),
    "Snappy's length cut off": (
        typed("data 0", 1, b"\xff" * 71),
        DamagedError,
        ["no valid Snappy data: varint is cut off"],
        0,
    ),
    "three bytes": (contents("data 0", b"abc"), DamagedError, [MALFORMED, "no restart array"], 0),
    "restart array too long": (
        contents("data 0", restarts(b"", 2)),
        DamagedError,
        [MALFORMED, "restart array longer than the block"],
        0,
    ),
    "shares more than there is": (
        contents("data 0", restarts(b"\0\0\0" + b"\x01\x01\0a")),
        DamagedError,
        [MALFORMED, "bad entry at byte 6 of the block"],
        0,
    ),
    "value behind the block": (
        contents("data 0", restarts(b"\0\x01\x09a")),
        DamagedError,
        [MALFORMED, "bad entry at byte 3"],
        0,
    ),
    "length cut off": (
        contents("data 0", restarts(b"\0\x01\x80")),
        DamagedError,
        [MALFORMED, "varint is cut off or too long"],
        0,
    ),
    "entry of two bytes": (
        contents("data 0", restarts(b"\0\0")),
        DamagedError,
        [MALFORMED, "varint is cut off or too long"],
        0,
    ),
    "keys out of order": (
        contents("data 0", restarts(b"\0\x01\0b" + b"\0\x01\0a")),
        DamagedError,
        [MALFORMED, "keys are out of order at byte 7"],
        0,
    ),
    "a key twice": (
        contents("data 0", restarts(b"\0\x01\0b" + b"\x01\0\0")),
        DamagedError,
        [MALFORMED, "keys are out of order at byte 7"],
        0,
    ),
    "blocks out of order": (
        bundle(
            tensors=UNSORTED,
            block_size=60,
            edit_items=lambda items: [items[0], items[1], (b"b", items[2][1]), items[3]],
        ),
        DamagedError,
        ["data block 1 is out of order"],
        lambda data: data.index(b"b\x08\x02") - 3,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_error(tmp_path: Path, name: str) -> None:
    write, kind, words, offset = CASES[name]
    prefix = tmp_path / "model.ckpt"
    write(prefix)
    path = Path(f"{prefix}.index")
    with pytest.raises(BncheckError) as caught:
        TensorBundle(str(prefix))
    error = caught.value
    assert type(error) is kind
    assert error.path == str(path)
    for word in words:
        assert word in str(error)
    assert error.offset == (offset(path.read_bytes()) if callable(offset) else offset)
    named = error.offset is None or f"ends at byte {error.offset}" in error.what
    assert str(error).startswith(f"{path}: " if named else f"{path} (byte {error.offset}): ")
    if path.exists():
        with pytest.raises(BncheckError):
            open_checkpoint(str(path))


def test_snappy_that_is_cut_off_anywhere(tmp_path: Path) -> None:
    """The decompressor's own failures stay ours, whatever bytes it is given."""
    packed = bytes(cramjam.snappy.compress_raw(restarts(b"\0\0\x06" + b"abcabcabc" * 9)))
    random = np.random.default_rng(7)
    for size in range(len(packed)):
        for noise in range(4):
            data = bytearray(packed[:size] or b"\0")
            if noise:
                data[random.integers(len(data))] ^= 1 << random.integers(8)
            typed("data 0", 1, bytes(data))(tmp_path / "b")
            with pytest.raises(BncheckError):
                TensorBundle(str(tmp_path / "b"))
