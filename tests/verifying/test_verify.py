"""`bncheck verify`: every byte is vouched for, and whatever is not as it was stored is told."""

from __future__ import annotations

import json
import os
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import jsonschema
import numpy as np
import pytest

from bncheck import limits
from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.table import Table
from bncheck.checkpoint.varint import written_varint
from bncheck.errors import BncheckError
from bncheck.report.model import Verdict
from bncheck.report.verify_model import Verification, Weight
from bncheck.verifying import spans, verify
from tests.commands import FIXTURES, ROOT, bncheck_here
from tests.writers import Raw, write_bundle, write_v1

SCHEMA = json.loads((ROOT / "bncheck/report/verify-schema-v1.json").read_text("utf-8"))
RNG = np.random.default_rng(7)
TENSORS: dict[Any, Any] = {
    "bn/gamma": RNG.standard_normal(4).astype(np.float32),
    "bn/moving_mean": RNG.standard_normal(4).astype(np.float32),
    "step": np.array(60, np.int64),
    "words": np.array([b"one", b"", b"three"], object),
}
DATA = ".data-00000-of-00001"


def told(report: Verification) -> list[tuple[str, str, str]]:
    """Return each problem's weight, file and text."""
    return [(str(p.weight), os.path.basename(p.path), p.what) for p in report.problems]


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "m", TENSORS)
    return tmp_path / "m"


def test_a_whole_bundle(prefix: Path) -> None:
    report = verify(prefix)
    assert report.problems == ()
    assert report.verdict is Verdict.PASS
    assert (report.format, report.tensors) == ("tensor-bundle", 4)
    sizes = {Path(f"{prefix}{end}").stat().st_size for end in (".index", DATA)}
    assert {file.size for file in report.files} == {file.checked for file in report.files} == sizes


@pytest.mark.parametrize("end", [".index", DATA])
@pytest.mark.parametrize("mask", [0xFF, 0x01, 0x80])
def test_every_flipped_byte_of_a_bundle_is_told(prefix: Path, end: str, mask: int) -> None:
    path = Path(f"{prefix}{end}")
    whole = path.read_bytes()
    silent = []
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
        try:
            if verify(prefix).verdict is Verdict.PASS:
                silent.append(at)
        except BncheckError:
            pass  # what is no table at all is refused
    assert silent == []


def test_every_flipped_byte_of_a_v1_checkpoint_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_v1(path, {name: TENSORS[name] for name in ("bn/gamma", "bn/moving_mean", "step")})
    assert verify(path).problems == ()
    whole = path.read_bytes()
    silent = []
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            if verify(path).verdict is Verdict.PASS:
                silent.append(at)
        except BncheckError:
            pass
    assert silent == []


def test_a_flip_names_the_tensor_its_file_and_its_place(prefix: Path) -> None:
    data = Path(f"{prefix}{DATA}")
    whole = bytearray(data.read_bytes())
    whole[20] ^= 1
    data.write_bytes(whole)
    (problem,) = verify(prefix).problems
    assert problem.what == "'bn/moving_mean': it fails its checksum"
    assert (problem.weight, problem.path) == (Weight.DAMAGED, str(data))
    assert (problem.offset, problem.size) == (16, 16)
    assert verify(prefix).verdict is Verdict.NOT_AUDITED


def test_truncation_and_trailing_bytes(prefix: Path) -> None:
    data = Path(f"{prefix}{DATA}")
    whole = data.read_bytes()
    data.write_bytes(whole[:30])
    assert told(verify(prefix)) == [
        ("damaged", f"m{DATA}", f"ends at byte 30, before the end of {name!r}")
        for name in ("bn/moving_mean", "step", "words")
    ]
    data.write_bytes(whole + b"tail")
    report = verify(prefix)
    assert told(report) == [("suspect", f"m{DATA}", "has 4 bytes behind the last tensor")]
    assert report.problems[0].offset == len(whole)
    assert report.verdict is Verdict.FAIL


def test_missing_and_uncounted_data_files(tmp_path: Path) -> None:
    prefix = tmp_path / "m"
    write_bundle(prefix, TENSORS, shards=2)
    shutil.copy(f"{prefix}.data-00000-of-00002", f"{prefix}.data-00000-of-00003")
    os.remove(f"{prefix}.data-00001-of-00002")
    found = told(verify(prefix))
    assert found[0][:2] == ("damaged", "m.data-00001-of-00002")
    assert found[0][2] == "this data file is missing, so that 2 tensors are lost"
    assert verify(prefix).problems[0].remedy == "Copy it beside the index."
    assert found[1:] == [
        ("suspect", "m.data-00000-of-00003", "is a data file that the index does not count")
    ]


def test_gaps(tmp_path: Path) -> None:
    prefix = tmp_path / "aligned"
    write_bundle(prefix, TENSORS, alignment=64)
    report = verify(prefix)
    assert report.verdict is Verdict.PASS
    assert {each[2] for each in told(report)} == {
        "48 zeros belong to nothing",
        "56 zeros belong to nothing",
    }
    data = Path(f"{prefix}{DATA}")
    whole = bytearray(data.read_bytes())
    whole[20] = 1
    data.write_bytes(whole)
    assert told(verify(prefix))[0] == (
        "suspect",
        f"aligned{DATA}",
        "48 bytes belong to nothing, and are not zeros",
    )


def with_gap_in_table(whole: bytes, path: Path) -> bytes:
    """Put zeros in front of a table's metaindex, and let its footer know."""
    path.write_bytes(whole)
    with RegularFile(str(path)) as file:
        table = Table(file)
    at = table.metaindex[0]
    moved = [(start + 16, size) for start, size in (table.metaindex, table.index)]
    footer = b"".join(written_varint(n) for handle in moved for n in handle).ljust(40, b"\0")
    return whole[:at] + bytes(16) + whole[at:-48] + footer + whole[-8:]


@pytest.mark.parametrize("form", ["V2", "V1"])
def test_a_note_on_the_table_keeps_no_tensor_from_being_read(tmp_path: Path, form: str) -> None:
    prefix = tmp_path / "m"
    if form == "V2":
        write_bundle(prefix, TENSORS)
    else:
        write_v1(prefix, {"step": TENSORS["step"]})
    table = Path(f"{prefix}.index") if form == "V2" else prefix
    table.write_bytes(with_gap_in_table(table.read_bytes(), table))
    report = verify(prefix)
    assert [each[::2] for each in told(report)] == [("note", "16 zeros belong to nothing")]
    assert report.tensors == (4 if form == "V2" else 1)
    if form == "V2":
        data = Path(f"{prefix}{DATA}")
        data.write_bytes(b"\xff" + data.read_bytes()[1:])
        assert verify(prefix).verdict is Verdict.NOT_AUDITED


def test_every_uncounted_data_file_is_named(prefix: Path) -> None:
    names = ["m.data-00000-of-00003", "m.data-00001-of-00003"]
    for name in names:
        shutil.copy(f"{prefix}{DATA}", prefix.parent / name)
    what = "is a data file that the index does not count"
    assert told(verify(prefix)) == [("suspect", name, what) for name in names]


def test_tensors_that_share_bytes(tmp_path: Path) -> None:
    from bncheck.proto.tensors_pb2 import BundleEntryProto

    def onto_the_first(items: list[Any]) -> list[Any]:
        entry = BundleEntryProto.FromString(items[2][1])
        entry.offset = 8
        return [*items[:2], (items[2][0], entry.SerializeToString()), *items[3:]]

    prefix = tmp_path / "m"
    write_bundle(prefix, TENSORS, edit_items=onto_the_first)
    found = told(verify(prefix))
    expected = f"gives bytes of m{DATA} to 'bn/moving_mean' that belong to another tensor"
    assert ("damaged", "m.index", expected) in found
    assert verify(prefix).verdict is Verdict.NOT_AUDITED


def test_partitions(tmp_path: Path) -> None:
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    boxes = [([0, 0], [1, 4]), ([1, 0], [2, 4])]
    prefix = tmp_path / "m"
    write_bundle(prefix, {"b": whole}, partitions={"b": boxes})
    assert verify(prefix).problems == ()
    assert verify(prefix).tensors == 2
    write_bundle(prefix, {"b": whole}, partitions={"b": [([0, 0], [2, 4]), ([1, 0], [1, 4])]})
    assert ("damaged", "m.index", "'b': its slices overlap") in told(verify(prefix))
    write_bundle(
        prefix,
        {"b": whole},
        partitions={"b": boxes},
        edit_items=lambda items: [i for i in items if not i[0].endswith(b"\x82\x80\x84")],
    )
    assert ("damaged", "m.index", "'b': its slice at (1, 0) is not in the index") in told(
        verify(prefix)
    )


def test_sizes_that_do_not_fit_the_shape(tmp_path: Path) -> None:
    prefix = tmp_path / "m"
    write_bundle(prefix, {"a": Raw(1, [3], bytes(11)), "b": Raw(1, [2**40, 2**40], bytes(8))})
    assert told(verify(prefix)) == [
        ("damaged", "m.index", f"{name!r} has {size} bytes, which is not what {form} takes")
        for name, size, form in (
            ("a", 11, "float32 of shape [3]"),
            ("b", 8, f"float32 of shape [{2**40}, {2**40}]"),
        )
    ]


def test_what_is_read_in_pieces_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = tmp_path / "m"
    tensors = {f"t{n}": RNG.integers(0, 256, 97 * n + 1, np.uint8) for n in range(30)}
    write_bundle(prefix, tensors)
    for chunk, task in ((16, 64), (64, 300), (1000, 1001), (1 << 20, 1 << 24)):
        monkeypatch.setattr(spans, "_CHUNK", chunk)
        monkeypatch.setattr(spans, "_TASK", task)
        monkeypatch.setattr(spans, "_TASKS_AT_ONCE", 3)
        moves: list[int] = []
        report = verify(prefix, lambda size, moves=moves: moves.append(-size) or moves.append)
        assert report.problems == ()
        assert report.checked == report.size
        assert sum(moves) == 0, "the bar ends where it should"


def test_a_hundred_sparse_gigabytes(tmp_path: Path) -> None:
    """A tensor of 100 GB of zeros in a hole, and as much behind it: nothing of it is read."""
    size = 100 << 30
    prefix = tmp_path / "m"
    from bncheck.proto.tensors_pb2 import BundleEntryProto
    from bncheck.verifying.crc import CRC32C, of_zeros
    from tests.writers import mask

    def huge(items: list[Any]) -> list[Any]:
        entry = BundleEntryProto(dtype=4, shape={"dim": [{"size": size}]}, offset=64, size=size)
        entry.crc32c = mask(of_zeros(size, CRC32C))
        return [*items, (b"z", entry.SerializeToString())]

    write_bundle(prefix, {"a": np.zeros(64, np.uint8)}, edit_items=huge)
    data = Path(f"{prefix}{DATA}")
    os.truncate(data, 64 + size)
    if data.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("this file system stores holes")
    start = time.monotonic()
    assert verify(prefix).problems == ()
    os.truncate(data, 64 + 2 * size)
    assert told(verify(prefix)) == [
        ("suspect", f"m{DATA}", f"has {size} bytes behind the last tensor")
    ]
    assert time.monotonic() - start < 10
    assert of_zeros(12345, CRC32C) == google_crc32c.value(bytes(12345))


def test_state_files(prefix: Path) -> None:
    state = prefix.parent / "checkpoint"
    state.write_text('model_checkpoint_path: "m"\nall_model_checkpoint_paths: "m"\n')
    assert verify(prefix.parent).problems == ()
    state.write_text('model_checkpoint_path: "n"\nall_model_checkpoint_paths: "l"\n')
    assert [each[:2] for each in told(verify(prefix))] == [
        ("suspect", "checkpoint"),
        ("note", "checkpoint"),
    ]
    state.write_text("model_checkpoint_path: m")
    assert told(verify(prefix))[0][2].startswith("is no valid checkpoint state file")


def test_a_graph_that_is_cut_off(tmp_path: Path) -> None:
    for path in (FIXTURES / "tf1/no-update-ops").iterdir():
        shutil.copy(path, tmp_path)
    meta = next(tmp_path.glob("*.meta"))
    assert verify(tmp_path).problems == ()
    meta.write_bytes(meta.read_bytes()[:-10])
    assert [each[:2] for each in told(verify(tmp_path))] == [("damaged", meta.name)]


ARCHIVES = sorted((FIXTURES / "keras3").rglob("*.keras"))[:2]


@pytest.mark.parametrize("source", ARCHIVES, ids=lambda path: path.stem)
def test_archives(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "m.keras"
    shutil.copy(source, path)
    report = verify(path)
    assert report.problems == ()
    assert report.tensors > 0
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    for info in infos:
        start = info.header_offset + 30 + len(info.filename)
        for at in (start, start + info.compress_size // 2, start + info.compress_size - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            assert verify(path).verdict is Verdict.NOT_AUDITED, (info.filename, at)
    path.write_bytes(whole + b"more")
    assert told(verify(path)) == [("suspect", "m.keras", "has 4 bytes behind the archive's end")]


def test_hdf5_has_no_checksums_and_still_an_end(tmp_path: Path) -> None:
    source = next((FIXTURES / "keras2").rglob("*.h5"))
    path = tmp_path / "m.h5"
    shutil.copy(source, path)
    report = verify(path)
    assert (report.problems, report.checked) == ((), 0)
    assert report.files[0].unchecked > 0
    path.write_bytes(source.read_bytes() + bytes(5))
    assert [each[:2] for each in told(verify(path))] == [("suspect", "m.h5")]
    path.write_bytes(source.read_bytes()[:-500])
    assert verify(path).verdict is Verdict.NOT_AUDITED


def in_chunks(path: Path, **storage: Any) -> None:
    """Write a Keras 2 file of which one variable is stored in its own way."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"bn"]
        group = file.create_group("bn")
        names = [f"bn/{role}:0" for role in ("gamma", "beta", "moving_mean", "moving_variance")]
        group.attrs["weight_names"] = [name.encode() for name in names]
        for name in names[:3]:
            group[name] = np.ones(4, np.float32)
        group.create_dataset(names[3], **storage)


def test_chunks_are_unpacked_and_their_checksums_compared(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    values = np.arange(4000, dtype=np.float32)
    in_chunks(path, data=values, chunks=(1000,), fletcher32=True)
    assert verify(path).problems == ()
    whole = bytearray(path.read_bytes())
    whole[whole.find(values[1500:1510].tobytes())] ^= 1
    path.write_bytes(whole)
    (problem,) = verify(path).problems
    assert problem.weight is Weight.DAMAGED
    assert problem.what.startswith("'bn/bn/moving_variance:0': it cannot be read: ")


@pytest.mark.parametrize(
    ("name", "most", "told"),
    [
        ("MOST_CHUNKS", 3, "it is stored in 4 chunks of 4000 bytes"),
        ("LARGEST_CHUNK", 3999, "it is stored in 4 chunks of 4000 bytes"),
    ],
)
def test_chunks_that_would_take_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int, told: str
) -> None:
    path = tmp_path / "m.h5"
    in_chunks(path, data=np.ones(4000, np.float32), chunks=(1000,))
    assert verify(path).problems == ()
    monkeypatch.setattr(limits, name, most)
    assert [each.what for each in verify(path).problems] == [f"'bn/bn/moving_variance:0': {told}"]


def test_no_plugin_is_looked_for(tmp_path: Path) -> None:
    """HDF5 would load a library of this machine for a filter that it does not have."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"bn"]
        group = file.create_group("bn")
        group.attrs["weight_names"] = [b"bn/gamma:0"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple((4,))
        group.create_group("bn")
        h5py.h5d.create(group["bn"].id, b"gamma:0", h5py.h5t.NATIVE_FLOAT, space, plist)
    (problem,) = verify(path).problems
    assert problem.what == "'bn/bn/gamma:0': it is compressed with the filter 32015"


def test_no_fixture_is_called_damaged() -> None:
    found: dict[str, Verdict] = {}
    for index in sorted(FIXTURES.rglob("*.index")):
        name = str(index.with_suffix("").relative_to(FIXTURES))
        found[name] = verify(index.with_suffix("")).verdict
    assert len(found) > 300
    assert {
        name.split("/")[1] for name, verdict in found.items() if verdict is not Verdict.PASS
    } == {
        "state-file-empty",
        "state-file-gone-one-left",
        "state-file-gone-two-left",
    }


def test_formats_are_called_as_by_inspect() -> None:
    found: dict[str, str] = {}
    suffixes = (".index", ".keras", ".h5", "saved_model.pb", "keras_metadata.pb")
    for path in sorted(FIXTURES.rglob("*")):
        if path.name.endswith(suffixes) and path.parent.name != "variables":
            place = path.parent if path.suffix == ".pb" else path
            found[str(place)] = verify(place).format
            assert found[str(place)] == open_checkpoint(place).format, place
    assert set(found.values()) == {
        *("tensor-bundle", "object-based", "saved-model"),
        *("keras-h5", "keras-weights-h5", "keras-archive"),
    }


def test_the_command(prefix: Path, tmp_path: Path) -> None:
    whole = bncheck_here("verify", str(prefix))
    assert (whole.code, whole.err) == (0, "")
    assert whole.out.splitlines()[-1].startswith("WHOLE: 0 damaged, 0 suspect, 0 notes; ")
    data = Path(f"{prefix}{DATA}")
    data.write_bytes(data.read_bytes()[:-1] + b"\0")
    damaged = bncheck_here("verify", str(prefix), "--format", "json")
    assert damaged.code == 3
    content = json.loads(damaged.out)
    jsonschema.validate(content, SCHEMA)
    assert content["summary"]["damaged"] == 1
    assert content["problems"][0]["weight"] == "damaged"
    text = bncheck_here("verify", str(prefix))
    assert text.code == 3
    assert "damaged" in text.out
    assert "DAMAGED: 1 damaged, " in text.out
    assert bncheck_here("verify", str(tmp_path / "no")).code == 3
