"""V2 checkpoints in every form that the writers can give them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bncheck.checkpoint import open_checkpoint
from tests.checkpoint.oracle import assert_same, read_all
from tests.writers import Raw, slice_key, write_bundle
from tests.writers.samples import CUBE, QUANTIZED, STRING_ROWS, TILES, sample, shapes
from tests.writers.values import DTYPES


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("snappy", [False, True])
@pytest.mark.parametrize("endianness", ["little", "big"])
def test_every_type(tmp_path: Path, endianness: Any, snappy: bool, shards: int, cut: bool) -> None:
    tensors = {dtype: sample(dtype) for dtype in DTYPES} | shapes()
    slices = dict.fromkeys(DTYPES, TILES) | {"object": STRING_ROWS, "cube": CUBE}
    prefix = tmp_path / "b"
    write_bundle(
        prefix,
        tensors,
        partitions=slices if cut else {},
        shards=shards,
        snappy=snappy,
        endianness=endianness,
    )
    checkpoint = open_checkpoint(str(prefix))
    assert checkpoint.shards == shards
    assert checkpoint.format == "tensor-bundle"
    assert checkpoint.path == str(prefix)
    assert checkpoint.damaged_files() == {}
    assert {name: v.shape for name, v in checkpoint.variables.items()} == {
        name: array.shape for name, array in tensors.items()
    }
    assert [checkpoint.variables[name].dtype for name in DTYPES] == [
        "string" if name == "object" else name for name in DTYPES
    ]
    arrays = read_all(prefix)
    for name, array in tensors.items():
        assert_same(arrays[name], array, name)


@pytest.mark.parametrize("endianness", ["little", "big"])
@pytest.mark.parametrize("number", QUANTIZED)
def test_quantized_types_are_their_integers(tmp_path: Path, number: int, endianness: Any) -> None:
    array = sample(QUANTIZED[number])
    write_bundle(tmp_path / "q", {"t": array}, dtypes={"t": number}, endianness=endianness)
    checkpoint = open_checkpoint(str(tmp_path / "q"))
    assert checkpoint.variables["t"].dtype == f"q{QUANTIZED[number]}"
    assert_same(checkpoint.read(["t"]).arrays["t"], array)


def test_known_bytes(tmp_path: Path) -> None:
    """Numbers that were worked out by hand, so that no error of the writers can hide one here."""
    write_bundle(
        tmp_path / "b",
        {
            "bfloat16": Raw(14, [1], bytes.fromhex("c03f")),
            "half": Raw(19, [], struct.pack("<e", -2.5)),
            "int4": Raw(29, [3], bytes.fromhex("010e03")),
            "reference": Raw(101, [2], struct.pack("<2f", 1, -1)),
            "no strings": Raw(7, [0], bytes.fromhex("d8ea82a2"), 0x640CC1F6),
        },
    )
    checkpoint = open_checkpoint(str(tmp_path / "b"))
    values = checkpoint.read(checkpoint.variables)
    assert values.unread == {}
    assert values.arrays["no strings"].shape == (0,)
    assert float(values.arrays["bfloat16"][0]) == 1.5
    assert values.arrays["half"].item() == -2.5
    assert values.arrays["int4"].astype(int).tolist() == [1, -2, 3]
    assert values.arrays["int4"].dtype == ml_dtypes.int4
    assert values.arrays["reference"].tolist() == [1.0, -1.0]
    assert checkpoint.variables["reference"].dtype == "float32"


def test_strings(tmp_path: Path) -> None:
    """Empty ones, NULs, bytes that are no text, a length of several varint bytes, none at all."""
    strings = np.array([b"", b"\0", b"\xff\xfe\0", b"y" * 20_000, b""], object)
    tensors = {"many": strings, "one": np.array(b"", object), "none": np.empty((0, 2), object)}
    write_bundle(tmp_path / "b", tensors)
    for name, array in read_all(tmp_path / "b").items():
        assert_same(array, tensors[name], name)


def test_an_old_empty_string_tensor_has_no_bytes(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", {"s": Raw(7, [0], b"")})
    array = read_all(tmp_path / "b")["s"]
    assert (array.shape, array.dtype.kind) == ((0,), "O")


@pytest.mark.parametrize("spelled", [4, None, -1])
def test_both_spellings_of_a_whole_dimension(tmp_path: Path, spelled: int | None) -> None:
    """(0, 4), no length, and a length of -1 that is written out."""
    array = np.arange(24, dtype=np.float32).reshape(6, 4)
    boxes = [([0, 0], [2, spelled]), ([2, 0], [4, spelled])]
    index, _ = write_bundle(tmp_path / "b", {"w": array}, partitions={"w": boxes})
    length = -1 if spelled is None else spelled
    assert slice_key("w", [(0, 2), (0, length)]) in index.read_bytes()
    assert_same(read_all(tmp_path / "b")["w"], array)
    assert list(open_checkpoint(str(tmp_path / "b")).variables) == ["w"]


def test_irregular_tiles(tmp_path: Path) -> None:
    """Rectangles as MaxShardSizePolicy cuts them, in no order, over more shards than there are."""
    array = np.arange(100 * 37, dtype=np.float64).reshape(100, 37)
    boxes = [
        ([89, 3], [11, 1]),
        ([0, 0], [60, 37]),
        ([89, 4], [11, 33]),
        ([60, 0], [40, 3]),
        ([60, 3], [29, 34]),
    ]
    write_bundle(tmp_path / "b", {"w": array, "x": 1.0}, partitions={"w": boxes}, shards=7)
    assert_same(read_all(tmp_path / "b")["w"], array)


def test_more_dimensions_and_an_empty_slice(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.int16).reshape(2, 3, 4, 5, 6)
    boxes = [
        ([0, 0, 0, 0, 0], [2, 3, 1, 5, 6]),
        ([0, 0, 1, 0, 0], [2, 3, 3, 5, None]),
        ([0, 0, 4, 0, 0], [2, 3, 0, 5, 6]),
    ]
    write_bundle(tmp_path / "b", {"w": array}, partitions={"w": boxes}, shards=2)
    assert_same(read_all(tmp_path / "b")["w"], array)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    names = [b"\xff no UTF-8", b"\xfe no UTF-8", "\u00e9".encode(), b"with\0zero", b"sliced\xff"]
    tensors = {name: np.array([i, i], np.int32) for i, name in enumerate(names)}
    cut = {b"sliced\xff": [([0], [1]), ([1], [1])]}
    write_bundle(tmp_path / "b", tensors, partitions=cut)
    arrays = read_all(tmp_path / "b")
    assert {
        name.encode("utf-8", "surrogateescape"): array.tolist() for name, array in arrays.items()
    } == {name: [i, i] for i, name in enumerate(names)}
    assert "\u00e9" in arrays


@pytest.mark.parametrize("block_size, snappy", [(262144, False), (4096, True), (1, False)])
def test_many_entries(tmp_path: Path, block_size: int, snappy: bool) -> None:
    """9000 entries: two blocks as TensorFlow cuts them, a few hundred, or one block for each."""
    names = [f"layer_{i:05d}/batch_normalization/moving_variance" for i in range(9000)]
    tensors = {name: np.array([i], np.int32) for i, name in enumerate(names)}
    write_bundle(tmp_path / "b", tensors, block_size=block_size, snappy=snappy)
    checkpoint = open_checkpoint(str(tmp_path / "b"))
    assert list(checkpoint.variables) == names
    some = names[::1000]
    values = checkpoint.read(some)
    assert set(values.arrays) == set(some)
    assert [values.arrays[name].item() for name in some] == list(range(0, 9000, 1000))


@pytest.mark.parametrize("restart_interval", [1, 2, 16, 1000])
def test_block_layouts(tmp_path: Path, restart_interval: int) -> None:
    tensors = {f"{'x' * (i % 40)}/{i}": np.array(i, np.int64) for i in range(150)}
    for block_size in (1, 50, 333, 262144):
        write_bundle(
            tmp_path / "b", tensors, block_size=block_size, restart_interval=restart_interval
        )
        arrays = read_all(tmp_path / "b")
        assert {name: array.item() for name, array in arrays.items()} == {
            name: i for i, name in enumerate(tensors)
        }


def test_a_key_like_a_slice_that_nobody_claims_is_a_name(tmp_path: Path) -> None:
    stray = slice_key("w", [(0, 2)])
    write_bundle(tmp_path / "b", {stray: np.ones(2, np.float32)})
    assert list(read_all(tmp_path / "b")) == [stray.decode("utf-8", "surrogateescape")]


def test_old_versions_alignment_and_bytes_behind_the_last_tensor(tmp_path: Path) -> None:
    tensors = {"a": np.ones(3, np.int8), "b": np.arange(5, dtype=np.float64)}
    write_bundle(
        tmp_path / "b",
        tensors,
        producer=0,
        alignment=64,
        edit_data=lambda _, data: data + b"nobody reads this",
    )
    for name, array in read_all(tmp_path / "b").items():
        assert_same(array, tensors[name])


def test_only_what_was_asked_for(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", {"a": np.ones(1), "b": np.zeros(1)})
    checkpoint = open_checkpoint(str(tmp_path / "b"))
    assert set(checkpoint.read(["b"]).arrays) == {"b"}
    assert checkpoint.read([]).arrays == {}
    with pytest.raises(KeyError):
        checkpoint.read(["c"])
