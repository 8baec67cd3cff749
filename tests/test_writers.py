"""The tests' own writers: known bytes, then what TensorFlow itself reads and writes."""

from __future__ import annotations

import struct
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.proto import tensors_pb2
from tests.writers import Raw, mask, masked_crc, slice_key, table_bytes, write_bundle, write_v1
from tests.writers.bundle import string_tensor_bytes
from tests.writers.ordered_code import signed_num_increasing, string_increasing
from tests.writers.samples import CUBE, QUANTIZED, STRING_ROWS, TILES, V1_DTYPES, sample, shapes
from tests.writers.table import short_successor, shortest_separator
from tests.writers.values import DTYPES, cut, extents

# TensorFlow's reader puts slices of these types together; of the others it reads single slices.
ASSEMBLED = {
    *("float32", "float64", "bfloat16", "complex64", "complex128", "bool", "int4", "uint4"),
    *("int8", "uint8", "int16", "int32", "int64"),
}
# Types whose bytes TensorFlow swaps (byte_swap_tensor.cc).
SWAPPED = ASSEMBLED - {"int4", "uint4"} | {"object", "float16", "uint16", "uint32", "uint64"}
# What CheckpointReader.get_tensor takes from a V1 file; the restore ops take every type.
V1_READER = {"float32", "float64", "bool", "int8", "uint8", "int16", "int32", "int64", "object"}


def check_equal(got: Any, want: np.ndarray) -> None:
    """Compare types, shapes and bits."""
    array = np.asarray(got)
    if want.dtype.kind == "O":
        assert np.array_equal(np.asarray(array, object), want)
    else:
        assert (array.dtype, array.shape) == (want.dtype, want.shape)
        assert array.tobytes() == want.tobytes()


def test_masked_crc() -> None:
    assert masked_crc(b"123456789") == 0xC78AB0E5
    assert mask(0) == 0xA282EAD8


def test_slice_keys() -> None:
    start = b"\x00emb/table\x00\x01\x01\x02"
    assert slice_key("emb/table", [(0, 4), (0, 4)]) == start + bytes.fromhex("80848084")
    assert slice_key(b"emb/table", extents(([0, 0], [4, None]))) == start + bytes.fromhex(
        "8084807f"
    )
    assert slice_key("s", []) == b"\x00s\x00\x01\x00"
    assert string_increasing(b"a\x00b\xff") == bytes.fromhex("6100ff62ff000001")


def test_signed_numbers() -> None:
    known = {
        0: "80", 4: "84", -1: "7f", 63: "bf", -64: "40", 64: "c040", -65: "3fbf", 8191: "dfff",
        8192: "e02000", 2**63 - 1: "ffc07fffffffffffffff", -(2**63): "003f8000000000000000",
    }  # fmt: skip
    assert {number: signed_num_increasing(number).hex() for number in known} == known
    edges = {
        sign * (1 << bits) + step for bits in range(63) for sign in (1, -1) for step in (-1, 0)
    }
    codes = [signed_num_increasing(number) for number in sorted(edges)]
    assert codes == sorted(codes)


def test_empty_string_tensor(tmp_path: Path) -> None:
    assert string_tensor_bytes([], "little") == (bytes.fromhex("d8ea82a2"), 0x640CC1F6)
    assert string_tensor_bytes([], "big")[0] == bytes.fromhex("a282ead8")
    index, data = write_bundle(tmp_path / "b", {"s": np.empty((0,), object)})
    assert data.read_bytes() == bytes.fromhex("d8ea82a2")
    entry = tensors_pb2.BundleEntryProto(dtype=7, size=4, crc32c=0x640CC1F6)
    entry.shape.dim.add()
    assert entry.SerializeToString() in index.read_bytes()


def test_index_written_by_tensorflow(tmp_path: Path) -> None:
    """The bytes TensorFlow 2.21 wrote for these two tensors, w before a."""
    tensors = {"w": np.array([1, 2], np.float32), "a": np.array(3, np.int32)}
    index, data = write_bundle(tmp_path / "b", tensors)
    blocks = (
        "00000608011a02080100010d61080312002008280435633f7f2800010f770801120412020802280835593ce535"
        "00000000010000000034373253000000000100000000c0f2a1b0000102780035000000000100000000ecb2222a"
    )
    footer = bytes.fromhex("3a08470e").ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
    assert index.read_bytes() == bytes.fromhex(blocks) + footer
    assert data.read_bytes() == struct.pack("<ffi", 1, 2, 3)


def test_separators() -> None:
    assert shortest_separator(b"abc1", b"abd9") == b"abc1"  # nothing fits between c and d
    assert shortest_separator(b"abc1", b"abe9") == b"abd"
    assert shortest_separator(b"ab", b"abc") == b"ab"
    assert short_successor(b"pbn/moving_mean") == b"q"
    assert short_successor(b"\xff\xff") == b"\xff\xff"


def test_table_options_and_edits() -> None:
    items = [(b"key%03d" % i, b"value" * 4) for i in range(100)]
    parts: list[str] = []

    def note(part: str, stored: bytes) -> bytes:
        parts.append(part)
        assert part == "footer" or stored[-5] == 1
        return stored

    plain = table_bytes(items, block_size=1000)
    packed = table_bytes(items, block_size=1000, snappy=True, edit_stored=note)
    assert len(packed) < len(plain) / 2
    assert parts == ["data 0", "data 1", "data 2", "metaindex", "index", "footer"]
    # A block's entries begin with its first key in full; restart points repeat that.
    whole_keys = table_bytes(items, restart_interval=1).count(b"key")
    assert whole_keys == 100
    broken = table_bytes(items, edit_contents=lambda _, contents: contents[:-1])
    assert len(broken) == len(table_bytes(items)) - 3


def test_v1_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    for dtype in sorted(set(DTYPES) - set(V1_DTYPES)):
        with pytest.raises(ValueError, match="cannot hold DataType"):
            write_v1(tmp_path / "v1", {"t": sample(dtype)})


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip("tensorflow")


def tf_dtype(tf: Any, array: np.ndarray) -> Any:
    return tf.string if array.dtype.kind == "O" else tf.as_dtype(array.dtype)


def restore(tf: Any, prefix: Path, name: str | bytes, dtype: Any, part: str = "") -> Any:
    restored = tf.raw_ops.RestoreV2(
        prefix=str(prefix), tensor_names=[name], shape_and_slices=[part], dtypes=[dtype]
    )
    return restored[0]


def constants(tf: Any, arrays: list[np.ndarray]) -> list[Any]:
    return [tf.constant(array, tf_dtype(tf, array)) for array in arrays]


@pytest.mark.tensorflow
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("snappy", [False, True])
@pytest.mark.parametrize("endianness", ["little", "big"])
def test_tensorflow_reads_bundles(tf, tmp_path, endianness, snappy, shards) -> None:
    known = DTYPES if endianness == "little" else SWAPPED
    tensors = {dtype: sample(dtype) for dtype in known} | shapes()
    slices = dict.fromkeys(ASSEMBLED.intersection(known), TILES) | {"cube": CUBE}
    options = {"endianness": endianness, "snappy": snappy, "shards": shards}
    for partitions in ({}, slices):
        prefix = tmp_path / f"{len(partitions)}"
        assert len(write_bundle(prefix, tensors, partitions=partitions, **options)) == shards + 1
        reader = tf.train.load_checkpoint(str(prefix))
        assert set(reader.get_variable_to_shape_map()) == set(tensors)
        for name, array in tensors.items():
            check_equal(reader.get_tensor(name), array)
            check_equal(restore(tf, prefix, name, tf_dtype(tf, array)).numpy(), array)


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - set(ASSEMBLED)))
def test_tensorflow_reads_single_slices(tf, tmp_path, dtype) -> None:
    """Of a type whose slices TensorFlow does not assemble, each one is still read as stored."""
    array = sample(dtype)
    rows = [([row, 0], [1, None]) for row in range(2)]
    write_bundle(tmp_path / "b", {"t": array}, partitions={"t": rows}, shards=2)
    for row, box in enumerate(rows):
        part = f"{array.shape[0]} {array.shape[1]} {row},1:-"
        got = restore(tf, tmp_path / "b", "t", tf_dtype(tf, array), part)
        check_equal(got.numpy(), cut(array, box))


@pytest.mark.tensorflow
def test_tensorflow_reads_rare_bundles(tf, tmp_path) -> None:
    tensors = {f"layer_{i:03d}": np.full(3, i, np.float32) for i in range(200)}
    name = b"\xff no UTF-8"
    extra = {name: tensors["layer_007"], "raw": Raw(3, [2], struct.pack("<2i", 5, -6))}
    options = {"alignment": 64, "block_size": 500, "restart_interval": 3, "producer": 0}
    write_bundle(tmp_path / "b", tensors | extra, **options)
    for key, array in tensors.items():
        check_equal(restore(tf, tmp_path / "b", key, tf.float32).numpy(), array)
    check_equal(restore(tf, tmp_path / "b", name, tf.float32).numpy(), tensors["layer_007"])
    assert restore(tf, tmp_path / "b", "raw", tf.int32).numpy().tolist() == [5, -6]


@pytest.mark.tensorflow
def test_tensorflow_notices_edits(tf, tmp_path) -> None:
    def flip(wanted: str, part: str, stored: bytes) -> bytes:
        return bytes([stored[0] ^ 1]) + stored[1:] if part == wanted else stored

    tensors = {"t": np.ones(3, np.float32)}
    for part in ("data 0", "index"):
        for write in (write_bundle, write_v1):
            write(tmp_path / write.__name__, tensors, edit_stored=partial(flip, part))
            with pytest.raises(tf.errors.OpError):
                restore(tf, tmp_path / write.__name__, "t", tf.float32)
    write_bundle(tmp_path / "b", tensors, edit_data=lambda _, data: bytes(len(data)))
    with pytest.raises(tf.errors.DataLossError, match="Checksum does not match"):
        restore(tf, tmp_path / "b", "t", tf.float32)
    write_bundle(tmp_path / "b", tensors, edit_items=lambda items: items[:1])
    with pytest.raises(tf.errors.NotFoundError):
        restore(tf, tmp_path / "b", "t", tf.float32)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "write, endianness", [(write_bundle, "little"), (write_bundle, "big"), (write_v1, None)]
)
def test_tensorflow_reads_quantized_types(tf, tmp_path, write, endianness) -> None:
    options = {} if endianness is None else {"endianness": endianness}
    for number, dtype in QUANTIZED.items():
        if write is write_v1 and number > 13:
            continue
        array = sample(dtype)
        write(tmp_path / "q", {"t": array}, dtypes={"t": number}, **options)
        got = restore(tf, tmp_path / "q", "t", tf.as_dtype(number))
        check_equal(tf.bitcast(got, tf.as_dtype(array.dtype)).numpy(), array)


@pytest.mark.tensorflow
@pytest.mark.parametrize("shards", [None, 1, 3])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("snappy", [False, True])
def test_tensorflow_reads_v1(tf, tmp_path, snappy, packed, shards) -> None:
    tensors = {dtype: sample(dtype) for dtype in V1_DTYPES} | shapes()
    slices = dict.fromkeys(V1_DTYPES, TILES) | {"object": STRING_ROWS, "cube": CUBE}
    for number, cuts in enumerate(({}, slices)):
        path = tmp_path / f"v1-{number}"
        write_v1(path, tensors, slices=cuts, packed=packed, shards=shards, snappy=snappy)
        pattern = path if shards is None else Path(f"{path}-?????-of-{shards:05d}")
        for name, array in tensors.items():
            dtype = tf_dtype(tf, array)
            got = tf.raw_ops.Restore(file_pattern=str(pattern), tensor_name=name, dt=dtype)
            check_equal(got.numpy(), array)
            check_equal(restore(tf, pattern, name, dtype).numpy(), array)
            if not cuts and array.dtype.name in V1_READER:
                check_equal(tf.train.load_checkpoint(str(pattern)).get_tensor(name), array)


@pytest.mark.tensorflow
def test_same_bytes_as_tensorflow(tf, tmp_path) -> None:
    """Whole files, with several blocks, slices and long slice keys."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    scalars = {f"layer_{i:05d}/bias": np.array(i, np.float32) for i in range(9000)}
    v1 = shapes() | {dtype: sample(dtype) for dtype in V1_DTYPES}
    v1 |= {"flat": np.zeros(600_000, np.int8)}  # a block of its own
    v1 = dict(sorted(v1.items()))  # V1's Save sorts; V2 keeps the order given
    v2 = v1 | {dtype: sample(dtype) for dtype in DTYPES} | scalars
    ops = tf.raw_ops
    tensors = constants(tf, list(v2.values()))
    whole = [""] * len(v2)
    ops.SaveV2(prefix=str(theirs), tensor_names=list(v2), shape_and_slices=whole, tensors=tensors)
    write_bundle(ours, v2)
    ops.Save(filename=str(theirs), tensor_names=list(v1), data=constants(tf, list(v1.values())))
    write_v1(ours, v1)

    ends = [0, 63, 64, 8191, 8192, 70000, 300000]
    table = np.arange(300000, dtype=np.int32).reshape(-1, 1)
    boxes = [([a, 0], [b - a, None]) for a, b in pairwise(ends)]
    specs = [f"300000 1 {start},{length}:-" for (start, _), (length, _) in boxes]
    names, parts = ["w"] * len(boxes), constants(tf, [cut(table, box) for box in boxes])
    cut_v2, cut_v1 = f"{theirs}-v2", f"{theirs}-v1"
    ops.SaveV2(prefix=cut_v2, tensor_names=names, shape_and_slices=specs, tensors=parts)
    write_bundle(f"{ours}-v2", {"w": table}, partitions={"w": boxes})
    ops.SaveSlices(filename=cut_v1, tensor_names=names, shapes_and_slices=specs, data=parts)
    write_v1(f"{ours}-v1", {"w": table}, slices={"w": boxes})

    written = sorted(path.name for path in tmp_path.glob("ours*"))
    assert len(written) == 6
    for name in written:
        other = tmp_path / name.replace("ours", "theirs")
        assert (tmp_path / name).read_bytes() == other.read_bytes(), name
