"""Tables and the codes in them: known bytes, and round trips of what hypothesis comes up with."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bncheck.checkpoint.checksums import crc32c, mask, masked_crc32c, unmask
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.ordered_code import slice_key
from bncheck.checkpoint.table import Table, has_table_footer
from bncheck.checkpoint.varint import read_varint
from tests.checkpoint.oracle import assert_same, read_all
from tests.writers import slice_key as written_slice_key
from tests.writers import table_bytes, varint, write_bundle, write_v1
from tests.writers.samples import V1_DTYPES

quick = settings(max_examples=60, deadline=None)
keys = st.binary(max_size=40)
int64 = st.integers(-(2**63), 2**63 - 1)


def open_table(data: bytes) -> tuple[list[tuple[bytes, bytes]], Any]:
    """Return a table's items, and what `find` makes of some keys."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table")
        path.write_bytes(data)
        with RegularFile(str(path)) as file:
            assert has_table_footer(file)
            table = Table(file)
            items = list(table.scan())
            asked = [key for key, _ in items[::2]] + [b"\xff" * 41, b"no such key \0"]
            return items, (table.first(), dict(table.find(asked)))


@quick
@given(
    st.dictionaries(keys, st.binary(max_size=300), max_size=60),
    st.integers(1, 2000),
    st.integers(1, 20),
    st.booleans(),
)
def test_round_trip(
    content: dict[bytes, bytes], block_size: int, restart_interval: int, snappy: bool
) -> None:
    ordered = sorted(content.items())
    items, (first, found) = open_table(
        table_bytes(
            ordered, block_size=block_size, restart_interval=restart_interval, snappy=snappy
        )
    )
    assert items == ordered
    assert first == (ordered[0] if ordered else None)
    assert found == dict(ordered[::2])


def test_the_empty_key_with_an_empty_value_is_an_entry() -> None:
    items, _ = open_table(table_bytes([(b"", b""), (b"a", b"")]))
    assert items == [(b"", b""), (b"a", b"")]


def test_a_separator_is_no_key() -> None:
    """The index block's keys lie between the blocks' keys; none of them may be taken for one."""
    content = [(b"abcde%03d" % i, b"v%d" % i) for i in range(0, 600, 2)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table")
        path.write_bytes(table_bytes(content, block_size=200))
        with RegularFile(str(path)) as file:
            table = Table(file)
            asked = [b"abcde%03d" % i for i in range(600)]
            assert dict(table.find(asked)) == dict(content)
            assert list(table.find([b"abcde0", b"b", b"", b"zz"])) == []


def test_a_file_of_47_bytes_is_no_table(tmp_path: Path) -> None:
    data = table_bytes([])
    path = tmp_path / "short"
    for size, whole in ((47, False), (48, True)):
        path.write_bytes(data[-size:])
        with RegularFile(str(path)) as file:
            assert has_table_footer(file) is whole


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_varints(value: int, rest: bytes) -> None:
    data = b"\xff" + varint(value) + rest
    assert read_varint(data, 1, len(data)) == (value, len(data) - len(rest))


@pytest.mark.parametrize("data", ["", "80", "ffffff", "ff" * 10, "ff" * 9 + "02", "80" * 10 + "01"])
def test_varints_that_are_cut_off_or_too_long(data: str) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(ValueError, match="cut off or too long"):
        read_varint(raw, 0, len(raw))


def test_checksums_of_the_format_notes() -> None:
    assert masked_crc32c(b"123456789") == 0xC78AB0E5
    assert unmask(np.array([0xC78AB0E5])).tolist() == [crc32c(b"123456789")]
    assert mask(0) == 0xA282EAD8


def test_slice_keys_of_the_format_notes() -> None:
    assert slice_key(b"emb/table", [(0, 4), (0, 4)]) == bytes.fromhex(
        "00656d622f7461626c6500010102 80848084"
    )
    assert slice_key(b"v", [(0, -1)]) == bytes.fromhex("0076000101 01807f")
    assert slice_key(b"s", []) == bytes.fromhex("0073000100")


@given(st.binary(max_size=12), st.lists(st.tuples(int64, int64), max_size=300))
@settings(max_examples=150, deadline=None)
def test_slice_keys(name: bytes, extents: list[tuple[int, int]]) -> None:
    assert slice_key(name, extents) == written_slice_key(name, extents)


@given(st.lists(st.tuples(st.binary(max_size=4), int64), max_size=20))
def test_slice_keys_sort_as_their_values(pairs: list[tuple[bytes, int]]) -> None:
    codes = [slice_key(name, [(start, 1)]) for name, start in sorted(pairs)]
    assert codes == sorted(codes)


def tensors(*kinds: str, scalar_strings: bool = True) -> Any:
    """Return a strategy of arrays by name, of some NumPy types and of strings."""
    shape = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    numbers = st.sampled_from(kinds).flatmap(lambda kind: npst.arrays(np.dtype(kind), shape))
    texts = shape if scalar_strings else shape.filter(bool)
    strings = npst.arrays(np.object_, texts, elements=st.binary(max_size=200), fill=st.nothing())
    return st.dictionaries(
        st.binary(min_size=1, max_size=30).filter(lambda name: name[0] > 0),
        st.one_of(numbers, strings),
        max_size=12,
    )


BUNDLE_KINDS = ("float32", "float64", "float16", "int8", "uint16", "int64", "bool", "complex64")
V1_KINDS = tuple(kind for kind in V1_DTYPES if kind != "object")
OPTIONS = {
    "block_size": st.integers(1, 500),
    "restart_interval": st.integers(1, 20),
    "snappy": st.booleans(),
}


def compare(path: Path, written: dict[bytes, Any]) -> None:
    arrays = {
        name.encode("utf-8", "surrogateescape"): array for name, array in read_all(path).items()
    }
    assert set(arrays) == set(written)
    for name, array in arrays.items():
        assert_same(array, written[name], name)


@quick
@given(
    tensors(*BUNDLE_KINDS),
    st.integers(1, 4),
    st.sampled_from(["little", "big"]),
    st.fixed_dictionaries(OPTIONS),
)
def test_bundles(written: Any, shards: int, endianness: Any, options: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "b")
        write_bundle(path, written, shards=shards, endianness=endianness, **options)
        compare(path, written)


@quick
@given(
    tensors(*V1_KINDS, scalar_strings=False),  # the writer has no scalar strings
    st.sampled_from([None, 1, 3]),
    st.booleans(),
    st.fixed_dictionaries(OPTIONS),
)
def test_v1(written: Any, shards: int | None, packed: bool, options: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "v1")
        write_v1(path, written, shards=shards, packed=packed, **options)
        compare(path, written)
