"""V1 checkpoints in every form that the writers can give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.tensor_slices import TensorSlices
from bncheck.errors import DamagedError
from tests.checkpoint.oracle import assert_same, read_all
from tests.writers import write_v1
from tests.writers.samples import (
    CUBE,
    QUANTIZED,
    STRING_ROWS,
    STRINGS,
    TILES,
    V1_DTYPES,
    sample,
    shapes,
)

ROWS = [([0, 0], [1, None]), ([1, 0], [2, None])]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("shards", [None, 1, 3])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("snappy", [False, True])
def test_every_type(
    tmp_path: Path, snappy: bool, packed: bool, shards: int | None, cut: bool
) -> None:
    tensors: dict[str, Any] = {dtype: sample(dtype) for dtype in V1_DTYPES} | shapes()
    tensors["strings"] = STRINGS
    slices = dict.fromkeys(V1_DTYPES, TILES) | {"object": STRING_ROWS, "cube": CUBE}
    path = tmp_path / "model.ckpt-7"
    files = write_v1(
        path, tensors, slices=slices if cut else {}, packed=packed, shards=shards, snappy=snappy
    )
    checkpoint = open_checkpoint(str(path))
    assert checkpoint.format == "tensor-slices-v1"
    assert checkpoint.path == str(path)
    assert checkpoint.shards == len(files) == (shards or 1)
    assert list(checkpoint.variables) == sorted(tensors, key=str.encode)
    assert {name: v.shape for name, v in checkpoint.variables.items()} == {
        name: array.shape for name, array in tensors.items()
    }
    assert [checkpoint.variables[name].dtype for name in V1_DTYPES] == [
        "string" if name == "object" else name for name in V1_DTYPES
    ]
    arrays = read_all(path)
    for name, array in tensors.items():
        assert_same(arrays[name], array, name)


@pytest.mark.parametrize("number", [11, 12, 13])
def test_quantized_types_are_their_integers(tmp_path: Path, number: int) -> None:
    array = sample(QUANTIZED[number])
    write_v1(tmp_path / "q", {"t": array}, dtypes={"t": number})
    checkpoint = open_checkpoint(str(tmp_path / "q"))
    assert checkpoint.variables["t"].dtype == f"q{QUANTIZED[number]}"
    assert_same(checkpoint.read(["t"]).arrays["t"], array)


@pytest.mark.parametrize("packed", [True, False])
def test_extreme_values(tmp_path: Path, packed: bool) -> None:
    """What float32, the varints of negative numbers and the bits of a half must survive."""
    tensors = {
        "f": np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38], np.float32),
        "d": np.array([np.pi, -1e308, 5e-324], np.float64),
        "l": np.array([-(2**63), 2**63 - 1, -1], np.int64),
        "i": np.array([-(2**31), 2**31 - 1, -1], np.int32),
        "b": np.array([-128, 127], np.int8),
        "h": np.array([-0.0, 65504, 6e-8, np.inf, -1.5], np.float16),
        "u": np.array([65535, 0], np.uint16),
        "c": np.array([1 - 2j, complex(np.inf, -0.0)], np.complex128),
    }
    write_v1(tmp_path / "v1", tensors, packed=packed)
    for name, array in read_all(tmp_path / "v1").items():
        assert_same(array, tensors[name], name)


def test_irregular_tiles_over_shards(tmp_path: Path) -> None:
    """The slices of one tensor, out of order, in three files, each of which lists only its own."""
    array = np.arange(12 * 7, dtype=np.float32).reshape(12, 7)
    boxes = [([7, 0], [5, 2]), ([0, 0], [7, 7]), ([7, 2], [1, 5]), ([8, 2], [4, None])]
    boxes[3] = ([8, 2], [4, 5])
    write_v1(tmp_path / "v1", {"w": array, "x": np.array(1.0)}, slices={"w": boxes}, shards=3)
    arrays = read_all(tmp_path / "v1")
    assert_same(arrays["w"], array)
    assert arrays["x"].item() == 1.0


@pytest.mark.parametrize("spelled", [4, None, -1])
def test_both_spellings_of_a_whole_dimension(tmp_path: Path, spelled: int | None) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    boxes = [([0, 0], [1, spelled]), ([1, 0], [2, spelled])]
    write_v1(tmp_path / "v1", {"w": array}, slices={"w": boxes})
    assert_same(read_all(tmp_path / "v1")["w"], array)


def test_a_slice_that_two_shards_hold_is_refused(tmp_path: Path) -> None:
    """TensorFlow, too, says that the slices overlap: which of them would be right?"""
    first, second = tmp_path / "a", tmp_path / "b"
    for number, path in enumerate((first, second)):
        write_v1(path, {"w": np.full(6, number, np.float32)})
    with pytest.raises(DamagedError, match="holds a slice of 'w' a second time"):
        TensorSlices("both", [str(first), str(second)])


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    names = [b"\xff", b"\xfe\0", "\u00e9".encode(), b"cut\xff"]
    tensors = {name: np.full((3, 2), i, np.int32) for i, name in enumerate(names)}
    write_v1(tmp_path / "v1", tensors, slices={b"cut\xff": ROWS})
    arrays = read_all(tmp_path / "v1")
    got = {name.encode("utf-8", "surrogateescape"): a[0, 0].item() for name, a in arrays.items()}
    assert got == {name: i for i, name in enumerate(names)}
    assert list(arrays) == list(open_checkpoint(str(tmp_path / "v1")).variables)


@pytest.mark.parametrize("block_size", [1, 4096, 262144])
@pytest.mark.parametrize("snappy", [False, True])
def test_many_entries(tmp_path: Path, block_size: int, snappy: bool) -> None:
    names = [f"layer_{i:05d}/BatchNorm/moving_mean" for i in range(9000)]
    tensors = {name: np.array([i], np.int32) for i, name in enumerate(names)}
    write_v1(tmp_path / "v1", tensors, block_size=block_size, snappy=snappy)
    checkpoint = open_checkpoint(str(tmp_path / "v1"))
    assert list(checkpoint.variables) == names
    values = checkpoint.read(names[::1000])
    assert {name: array.item() for name, array in values.arrays.items()} == {
        names[i]: i for i in range(0, 9000, 1000)
    }


def test_only_what_was_asked_for(tmp_path: Path) -> None:
    write_v1(tmp_path / "v1", {"a": np.ones(1), "b": np.zeros(1)})
    checkpoint = open_checkpoint(str(tmp_path / "v1"))
    assert set(checkpoint.read(["b"]).arrays) == {"b"}
    assert checkpoint.read([]).arrays == {}
    with pytest.raises(KeyError):
        checkpoint.read(["c"])


def test_v2_goes_first_where_both_are_there(tmp_path: Path) -> None:
    """As in CheckpointReader: PREFIX.index is looked for before PREFIX."""
    from tests.writers import write_bundle

    write_v1(tmp_path / "m", {"old": np.ones(1)})
    assert list(read_all(tmp_path / "m")) == ["old"]
    write_bundle(tmp_path / "m", {"new": np.ones(1)})
    assert list(read_all(tmp_path / "m")) == ["new"]
