"""Tensors that touch are read at once and checked at once; what is wrong is still told of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.bundle import TensorBundle
from bncheck.checkpoint.bundle_data import Shards
from bncheck.checkpoint.checksums import crc32c, mask
from bncheck.proto.tensors_pb2 import BundleEntryProto
from tests.writers import write_bundle

DATA = ".data-00000-of-00001"
RANDOM = np.random.default_rng(7)
LAYERS = {
    f"net/{layer}/bn/{role}": RANDOM.normal(size=channels).astype(dtype)
    for layer, channels, dtype in [
        *(("a", 8, np.float32), ("b", 8, np.float32), ("c", 16, np.float32)),
        ("d", 16, np.float16),
    ]
    for role in ("beta", "gamma", "moving_mean", "moving_variance")
}


def bits(values: dict[str, Any]) -> dict[str, tuple[Any, bytes]]:
    """Return what tells tensors apart to the bit."""
    return {name: (array.dtype, array.tobytes()) for name, array in values.items()}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "m", LAYERS)
    return tmp_path / "m"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the reads of data files."""
    sizes: list[int] = []
    read = Shards._read

    def counting(self: Shards, shard: int, offset: int, size: int, what: str) -> bytes:
        sizes.append(size)
        return read(self, shard, offset, size, what)

    monkeypatch.setattr(Shards, "_read", counting)
    return sizes


def test_one_read_for_each_form(prefix: Path, reads: list[int]) -> None:
    checkpoint = open_checkpoint(str(prefix))
    assert bits(checkpoint.read(LAYERS).arrays) == bits(LAYERS)
    assert reads == [2 * 4 * 8 * 4, 4 * 16 * 4, 4 * 16 * 2]


def test_long_runs_are_cut(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bncheck.checkpoint.bundle_data._LONGEST_RUN", 100)
    tensors = {f"v{number}": np.full(12, number, np.float32) for number in range(7)}
    write_bundle(tmp_path / "m", tensors)
    assert bits(open_checkpoint(str(tmp_path / "m")).read(tensors).arrays) == bits(tensors)
    assert sum(reads) == 7 * 48
    assert max(reads) < 200
    assert len(reads) == 3


def test_what_lies_between_is_not_read(prefix: Path, reads: list[int]) -> None:
    names = [name for name in LAYERS if not name.endswith("gamma")]
    values = open_checkpoint(str(prefix)).read(names)
    assert sum(reads) == sum(LAYERS[name].nbytes for name in names)
    assert bits(values.arrays) == bits({name: LAYERS[name] for name in names})


def test_a_flipped_bit_is_told_of_its_tensor_alone(prefix: Path) -> None:
    data = bytearray(Path(f"{prefix}{DATA}").read_bytes())
    data[8 * 4 + 5] ^= 1
    Path(f"{prefix}{DATA}").write_bytes(data)
    values = open_checkpoint(str(prefix)).read(LAYERS)
    assert list(values.unread) == ["net/a/bn/gamma"]
    assert "it fails its checksum" in values.unread["net/a/bn/gamma"]
    whole = {name: array for name, array in LAYERS.items() if name not in values.unread}
    assert bits(values.arrays) == bits(whole)


def test_two_tensors_in_each_others_place_are_both_told(prefix: Path) -> None:
    data = Path(f"{prefix}{DATA}").read_bytes()
    Path(f"{prefix}{DATA}").write_bytes(data[32:64] + data[:32] + data[64:])
    values = open_checkpoint(str(prefix)).read(LAYERS)
    assert list(values.unread) == ["net/a/bn/beta", "net/a/bn/gamma"]


def test_a_file_that_is_cut_off_keeps_what_is_whole(prefix: Path) -> None:
    data = Path(f"{prefix}{DATA}").read_bytes()
    Path(f"{prefix}{DATA}").write_bytes(data[:70])
    values = open_checkpoint(str(prefix)).read(LAYERS)
    assert list(values.arrays) == ["net/a/bn/beta", "net/a/bn/gamma"]
    assert len(values.unread) == len(LAYERS) - 2


def test_nothing_is_read_for_nothing(prefix: Path, reads: list[int]) -> None:
    values = TensorBundle(str(prefix)).read([])
    assert (values.arrays, values.unread, reads) == ({}, {}, [])


def test_what_lists_slices_is_read_there_wherever_its_entry_points(tmp_path: Path) -> None:
    def point_at_the_first(items: list[Any]) -> list[Any]:
        by_name = {key: BundleEntryProto.FromString(value) for key, value in items[1:]}
        sliced, first = by_name[b"v"], by_name[b"a"]
        sliced.offset, sliced.size, sliced.crc32c = first.offset, first.size, first.crc32c
        return [(k, sliced.SerializeToString() if k == b"v" else value) for k, value in items]

    tensors = {"a": np.arange(8, dtype=np.float32), "v": np.arange(8, 16, dtype=np.float32)}
    write_bundle(
        tmp_path / "m",
        tensors,
        partitions={"v": [([0], [3]), ([3], [5])]},
        edit_items=point_at_the_first,
    )
    values = open_checkpoint(str(tmp_path / "m")).read(tensors)
    assert bits(values.arrays) == bits(tensors)


def test_sizes_that_are_right_together_alone_are_told(tmp_path: Path) -> None:
    def move_the_border(items: list[Any]) -> list[Any]:
        entries = {key: BundleEntryProto.FromString(value) for key, value in items[1:]}
        entries[b"a"].size -= 4
        entries[b"b"].offset -= 4
        entries[b"b"].size += 4
        return [items[0], *((key, entry.SerializeToString()) for key, entry in entries.items())]

    tensors = {name: np.arange(8, dtype=np.float32) for name in ("a", "b")}
    write_bundle(tmp_path / "m", tensors, edit_items=move_the_border)
    values = open_checkpoint(str(tmp_path / "m")).read(tensors)
    assert values.arrays == {}
    assert "gives 28 bytes to 'a', but float32 of shape [8] takes 32" in values.unread["a"]
    assert "gives 36 bytes to 'b'" in values.unread["b"]


@pytest.mark.parametrize("longest", [1, 40, 1 << 20])
def test_what_shares_bytes_is_refused_one_by_one(
    tmp_path: Path, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bncheck.checkpoint.bundle_data._LONGEST_RUN", longest)
    places = {"a": (0, 8), "b": (0, 8), "c": (32, 4), "d": (48, 8)}
    data = np.arange(20, dtype=np.float32)

    def place(items: list[Any]) -> list[Any]:
        entries = {key: BundleEntryProto.FromString(value) for key, value in items[1:]}
        for name, (offset, count) in places.items():
            piece = data[offset // 4 : offset // 4 + count].tobytes()
            entry = entries[name.encode()]
            entry.offset, entry.size, entry.crc32c = offset, len(piece), mask(crc32c(piece))
        return [items[0], *((key, entry.SerializeToString()) for key, entry in entries.items())]

    tensors = {name: np.zeros(count, np.float32) for name, (_, count) in places.items()}
    write_bundle(
        tmp_path / "m", tensors, edit_items=place, edit_data=lambda _shard, _data: data.tobytes()
    )
    values = open_checkpoint(str(tmp_path / "m")).read(tensors)
    assert list(values.arrays) == ["a", "b", "c"]
    assert "to several tensors" in values.unread["d"]
