"""The HDF5 container: every type and form of it, and every way in which a file may mislead."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

from bncheck import limits
from bncheck.checkpoint.hdf5 import Hdf5File
from bncheck.checkpoint.hdf5_checkpoint import Hdf5Checkpoint
from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.location import Kind
from bncheck.checkpoint.structure import Structure
from bncheck.errors import (
    BncheckError,
    DamagedError,
    NotACheckpointError,
    NotFoundError,
    UnsupportedError,
)
from tests.checkpoint.oracle import assert_same

VECTOR = np.array([1.5, -0.0, np.nan, np.inf], np.float32)


def written(path: Path, write: Callable[[h5py.File], Any], **options: Any) -> str:
    with h5py.File(path, "w", **options) as file:
        write(file)
    return str(path)


def checkpoint(path: str) -> Hdf5Checkpoint:
    with Hdf5File(path) as file:
        places = dict.fromkeys(file.variables, 0)
        return Hdf5Checkpoint(
            path, "f", [lambda: Hdf5File(path)], places, file.variables, Structure()
        )


def refused(path: str, kind: type[BncheckError], *parts: str) -> None:
    with pytest.raises(kind) as caught, Hdf5File(path) as file:
        assert file.variables
    text = str(caught.value)
    assert text.startswith(path), text
    for part in parts:
        assert part in text, text


TYPES = ["float16", "float32", "float64", "complex64", "complex128", "bool"]
TYPES += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_read_bit_by_bit(tmp_path: Path, name: str, order: Any) -> None:
    array = np.arange(6).reshape(2, 3).astype(name)
    stored = array.astype(array.dtype.newbyteorder(order))
    path = written(tmp_path / "f.h5", lambda f: f.create_dataset("a/b", data=stored))
    opened = checkpoint(path)
    assert opened.variables["a/b"] == ("a/b", name, (2, 3))
    assert_same(opened.read(["a/b"]).arrays["a/b"], array)


@pytest.mark.parametrize("attribute", ["bfloat16", b"bfloat16", None])
def test_bfloat16_is_two_opaque_bytes(tmp_path: Path, attribute: Any) -> None:
    array = np.array([1.5, -2.0, 0.0], ml_dtypes.bfloat16)

    def write(file: h5py.File) -> None:
        dataset = file.create_dataset("a", data=array)
        if attribute is not None:
            dataset.attrs["dtype"] = attribute

    opened = checkpoint(written(tmp_path / "f.h5", write))
    assert opened.variables["a"].dtype == "bfloat16"
    assert_same(opened.read(["a"]).arrays["a"], array)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.void(b"abc"), "DataType(|V3)"),
        (np.array([(1, 2)], [("x", "i4"), ("y", "i4")]), "DataType(|V8)"),
        ("text", "string"),
        (np.bytes_(b"text"), "string"),
    ],
)
def test_what_is_no_number_is_listed_and_not_read(tmp_path: Path, value: Any, dtype: str) -> None:
    opened = checkpoint(written(tmp_path / "f.h5", lambda f: f.create_dataset("a", data=value)))
    assert opened.variables["a"].dtype == dtype
    values = opened.read(["a"])
    assert values.arrays == {}
    assert values.unread["a"] == (
        f"{opened.path}: bncheck reads no values of type {dtype} from HDF5. "
        "Keras writes no such files: where is it from?"
    )
    assert values.broken_files == {opened.path}


def test_scalars_empty_arrays_chunks_and_filters(tmp_path: Path) -> None:
    arrays = {
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "gzip": np.arange(1000, dtype=np.float32),
        "lzf": np.arange(1000, dtype=np.float32),
        "checked": VECTOR,
    }

    def write(file: h5py.File) -> None:
        file["scalar"] = arrays["scalar"]
        file["empty"] = arrays["empty"]
        for name in ("gzip", "lzf"):
            file.create_dataset(
                name, data=arrays[name], compression=name, shuffle=True, chunks=(99,)
            )
        file.create_dataset("checked", data=VECTOR, fletcher32=True)
        file.create_dataset("null", data=h5py.Empty("f4"))

    opened = checkpoint(written(tmp_path / "f.h5", write))
    assert opened.variables["null"].shape == (0,)
    values = opened.read(arrays)
    assert values.unread == {}
    for name, array in arrays.items():
        assert_same(values.arrays[name], array, name)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "f.h5", lambda f: f.update({"a": VECTOR, "b": VECTOR}))
    opened = checkpoint(path)
    assert list(opened.read(["b"]).arrays) == ["b"]
    with pytest.raises(KeyError):
        opened.read(["c"])


def test_names_are_sorted_by_their_bytes_and_may_be_no_utf8(tmp_path: Path) -> None:
    names = [b"\xff", b"b/10", b"b/9", "ü".encode(), b"Z"]
    path = written(tmp_path / "f.h5", lambda f: f.update(dict.fromkeys(names, VECTOR)))
    opened = checkpoint(path)
    expected = sorted(names)
    assert [name.encode("utf-8", "surrogateescape") for name in opened.variables] == expected
    assert len(opened.read(opened.variables).arrays) == 5


def test_a_user_block_comes_before_the_signature(tmp_path: Path) -> None:
    path = written(tmp_path / "f.h5", lambda f: f.update({"a": VECTOR}), userblock_size=2048)
    assert locate(path).kind is Kind.KERAS_HDF5
    assert_same(checkpoint(path).read(["a"]).arrays["a"], VECTOR)


def test_a_checksum_that_fails_is_told_where_it_fails(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        file.create_dataset("bad", data=np.full(8, 1.25, np.float32), fletcher32=True)
        file["good"] = VECTOR

    path = Path(written(tmp_path / "f.h5", write))
    data = path.read_bytes()
    pattern = np.full(8, 1.25, np.float32).tobytes()
    assert data.count(pattern) == 1
    path.write_bytes(data.replace(pattern, pattern[:-1] + b"\0"))
    values = checkpoint(str(path)).read(["bad", "good"])
    assert_same(values.arrays["good"], VECTOR)
    with h5py.File(path, "r") as file:
        header = h5py.h5o.get_info(file["bad"].id).addr
    assert values.unread == {
        "bad": f"{path} (byte {header}): it cannot be read: filter returned failure during read. "
        "Copy the file again, or save the model once more."
    }
    assert values.broken_files == {str(path)}


def test_a_file_that_went_away_is_told_for_each_variable(tmp_path: Path) -> None:
    path = written(tmp_path / "f.h5", lambda f: f.update({"a": VECTOR}))
    opened = checkpoint(path)
    os.remove(path)
    values = opened.read(["a"])
    assert values.unread == {"a": f"{path}: no such file. Check the path."}


def test_a_file_that_changed_is_not_believed(tmp_path: Path) -> None:
    path = written(tmp_path / "f.h5", lambda f: f.update({"a/b": VECTOR, "c": VECTOR, "d": VECTOR}))
    opened = checkpoint(path)
    with h5py.File(path, "a") as file:
        for name in ("a", "c", "d"):
            del file[name]
        file["a"] = h5py.ExternalLink("/etc/passwd", "/")
        file["c"] = VECTOR[:2]
    unread = opened.read(opened.variables).unread
    assert {name: reason.partition(". ")[0] for name, reason in unread.items()} == {
        "a/b": f"{path}: 'a' is an external link",
        "c": f"{path}: the file was changed after it was listed",
        "d": f"{path}: it cannot be found: name doesn't exist",
    }


def test_a_training_can_write_the_file_while_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "f.h5", lambda f: f.update({"a": VECTOR}))
    write = f"import h5py; h5py.File({path!r}, 'a')['b'] = 1"
    with Hdf5File(path) as file:
        assert list(file.variables) == ["a"]
        subprocess.run([sys.executable, "-c", write], check=True, timeout=60)
        assert_same(file.read(file.variables["a"]), VECTOR)


def test_a_stream_is_a_file_too(tmp_path: Path) -> None:
    path = written(tmp_path / "f.h5", lambda f: f.update({"a": VECTOR}))
    stream = io.BytesIO(Path(path).read_bytes())
    with Hdf5File("archive", stream, "member.h5") as file:
        assert_same(file.read(file.variables["a"]), VECTOR)
    with pytest.raises(DamagedError, match=r"archive: member\.h5: cannot be opened as HDF5"):
        Hdf5File("archive", io.BytesIO(stream.getvalue()[:-1]), "member.h5")


@pytest.mark.parametrize("elements", ["bytes", "str", "fixed"])
def test_strings_and_their_pieces(tmp_path: Path, elements: str) -> None:
    names: Any = ["first", "sécond", "third"]
    if elements != "str":
        names = [name.encode() for name in names]
    if elements == "bytes":
        names = np.array(names, h5py.string_dtype())

    def write(file: h5py.File) -> None:
        file.attrs["whole"] = names
        file.attrs["split0"] = names[:2]
        file.attrs["split1"] = names[2:]
        file.attrs["one"] = names[1]
        file.attrs["none"] = np.zeros(0, "S1")

    with Hdf5File(written(tmp_path / "f.h5", write)) as file:
        assert file.strings("", "whole") == ["first", "sécond", "third"]
        assert file.strings("", "split") == ["first", "sécond", "third"]
        assert file.strings("", "none") == []
        assert file.strings("", "absent") is None
        assert file.text("", "one") == "sécond"
        assert file.text("", "absent") is None
        assert file.has_attribute("", "one")
        assert not file.has_attribute("", "absent")
        with pytest.raises(DamagedError, match="'whole' of '' is not one string"):
            file.text("", "whole")


def test_an_attribute_that_is_no_string(tmp_path: Path) -> None:
    with (
        Hdf5File(written(tmp_path / "f.h5", lambda f: f.attrs.update(a=3))) as file,
        pytest.raises(DamagedError, match="the attribute 'a' of '' is no string"),
    ):
        file.strings("", "a")


def test_an_attribute_is_measured_before_it_is_read(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        file.attrs["a"] = np.zeros(3, f"S{limits.LONGEST_ATTRIBUTE // 2}")

    with (
        Hdf5File(written(tmp_path / "f.h5", write, libver="latest")) as file,
        pytest.raises(DamagedError, match="declares 3 elements of 33554432 bytes"),
    ):
        file.strings("", "a")


def external_storage(file: h5py.File) -> None:
    file.create_dataset("a/x", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("a/x", layout)


def named_type(file: h5py.File) -> None:
    file["a/x"] = np.dtype("f4")


def cycle(file: h5py.File) -> None:
    file.create_group("a/b")
    file["a/b/x"] = file["a"]


def root_cycle(file: h5py.File) -> None:
    file["x"] = file["/"]


def twice(file: h5py.File) -> None:
    file["a"] = VECTOR
    file["x"] = file["a"]


def doubling(file: h5py.File) -> None:
    group = file.create_group("g")
    for _ in range(40):  # 2**40 paths
        inner = group.create_group("x")
        group["y"] = inner
        group = inner


REFUSED: dict[str, tuple[Callable[[h5py.File], Any], list[str]]] = {
    "soft link": (lambda f: f.update({"a/x": h5py.SoftLink("/a")}), ["'a/x' is a soft link"]),
    "external link": (
        lambda f: f.update({"a/x": h5py.ExternalLink("/etc/passwd", "/")}),
        ["'a/x' is an external link", "Keras writes no such files"],
    ),
    "external storage": (external_storage, ["'a/x' keeps its values in another file"]),
    "virtual dataset": (virtual, ["'a/x' is a virtual dataset"]),
    "named type": (named_type, ["'a/x' is neither a group nor a dataset"]),
    "cycle": (cycle, ["'a/b/x' is a second link to 'a'"]),
    "cycle through the root": (root_cycle, ["'x' is a second link to '/'"]),
    "dataset linked twice": (twice, ["'x' is a second link to 'a'"]),
    "groups that double": (doubling, ["is a second link to 'g/x'"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_leads_elsewhere_is_refused(tmp_path: Path, case: str) -> None:
    write, parts = REFUSED[case]
    refused(written(tmp_path / "f.h5", write), UnsupportedError, *parts)


def test_a_user_defined_link_is_refused(tmp_path: Path) -> None:
    """h5py writes no links of a user's own kind: an external one gets another number."""
    path = Path(
        written(tmp_path / "f.h5", lambda f: f.update({"x": h5py.ExternalLink("other.h5", "/")}))
    )
    external = b"\x40\x01x"  # in a link message: the kind, the length of the name, the name
    data = path.read_bytes()
    assert data.count(external) == 1
    path.write_bytes(data.replace(external, b"\xc8" + external[1:]))
    refused(str(path), UnsupportedError, "'x' is a user-defined link")


def test_a_dataset_may_not_declare_what_is_not_stored(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        file.create_dataset("bomb", (1 << 31,), "f4", chunks=(1 << 20,), compression="gzip")

    refused(
        written(tmp_path / "f.h5", write),
        DamagedError,
        "'bomb' declares 8589934592 bytes, and 0 are",
    )


def test_objects_are_counted_while_they_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "f.h5", lambda f: f.update({f"g{i}": VECTOR for i in range(9)}))
    monkeypatch.setattr(limits, "MOST_LINKS", 10)
    with Hdf5File(path) as file:
        assert len(file.variables) == 9
    monkeypatch.setattr(limits, "MOST_LINKS", 9)
    refused(path, DamagedError, "holds more than 9 groups and datasets")


def test_an_unknown_filter_loads_no_plugin(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)  # Zstandard, whose plugin is not here
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, space, plist)

    values = checkpoint(written(tmp_path / "f.h5", write)).read(["x"])
    assert "): it is compressed with the filter 32015. Keras writes no such" in values.unread["x"]


@pytest.mark.parametrize("userblock", [0, 512])
def test_an_error_names_the_byte_of_the_file(tmp_path: Path, userblock: int) -> None:
    """Addresses in the file count from the end of a user block."""

    def write(file: h5py.File) -> None:
        file.create_dataset("a", data=[1.5] * 4, chunks=(2,))
        file.create_dataset("b", (1 << 27,), "f4")
        file["c"] = file["a"]
        file["d"] = np.void(b"found it")

    path = written(tmp_path / "f.h5", write, userblock_size=userblock)
    data = Path(path).read_bytes()
    with Hdf5File(path) as file:
        with pytest.raises(UnsupportedError, match="'c' is a second link") as caught:
            assert file.variables
        at = caught.value.offset
        assert at is not None
        assert data[at : at + 2] == b"\x01\x00"  # the version of an object's header
        with h5py.File(path, "r") as opened:
            assert at == userblock + h5py.h5o.get_info(opened["a"].id).addr
            assert file._place(opened["a"].id) == at
            assert file._place(opened["d"].id) == data.index(b"found it")


def test_no_hdf5_file(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    refused(str(path), NotFoundError, "no such file")
    path.write_bytes(b"x" * 5000)
    refused(str(path), NotACheckpointError, "is no HDF5 file")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refused(str(path), NotACheckpointError, "is no HDF5 file", "run 'git lfs pull'")
    refused(str(tmp_path), NotACheckpointError, "is not a regular file")
    os.mkfifo(tmp_path / "fifo")
    refused(str(tmp_path / "fifo"), NotACheckpointError, "is not a regular file")


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "f.h5", lambda f: f.update({"a": VECTOR})))
    data = path.read_bytes()
    for end in (len(data) - 1, len(data) // 2, 100, 8):
        path.write_bytes(data[:end])
        refused(str(path), DamagedError, "cannot be opened as HDF5: ", "Copy the file again")


def test_no_byte_that_is_changed_makes_a_traceback(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "f.h5", lambda f: f.update({"a/b": VECTOR, "c": VECTOR})))
    data = path.read_bytes()
    outcomes = set()
    for index in range(0, len(data), 7):
        path.write_bytes(data[:index] + bytes([data[index] ^ 0xFF]) + data[index + 1 :])
        try:
            opened = checkpoint(str(path))
            opened.read(opened.variables)
            outcomes.add("read")
        except BncheckError as error:
            outcomes.add(type(error).__name__)
    assert {"read", "DamagedError"} <= outcomes
