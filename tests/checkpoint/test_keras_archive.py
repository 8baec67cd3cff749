"""`.keras` archives, zipped and not, and every way in which a zip may mislead."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bncheck import limits
from bncheck.checkpoint import keras_archive
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.keras import open_archive, open_directory
from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.location import Kind, keras_kind
from bncheck.errors import (
    BncheckError,
    DamagedError,
    NotACheckpointError,
    NotFoundError,
    UnsupportedError,
)
from tests.checkpoint.oracle import assert_same

BN = {"name": "bn", "momentum": 0.9, "scale": False}
CONFIG = json.dumps(
    {
        "class_name": "Sequential",
        "config": {"name": "m", "layers": [{"class_name": "BatchNormalization", "config": BN}]},
    }
).encode()
GROUP = "layers/batch_normalization/vars"
ARRAYS = {f"{GROUP}/{index}": np.arange(4, dtype=np.float32) + index for index in range(3)}
ROLES = ("beta", "moving_mean", "moving_variance")


def weights(arrays: Any = None) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.update(ARRAYS if arrays is None else arrays)
    return stream.getvalue()


def members(**changes: bytes | None) -> dict[str, bytes]:
    default = {"metadata.json": b"{}", "config.json": CONFIG, "model.weights.h5": weights()}
    changed = {name.replace("__", "."): content for name, content in changes.items()}
    return {name: data for name, data in (default | changed).items() if data is not None}


def write(path: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return str(path)


def check(opened: Any, path: str) -> None:
    assert (opened.path, opened.format) == (path, "keras-archive")
    (found,) = opened.structure.objects
    assert (found.path, found.name) == ("bn", "bn")
    assert found.config.momentum == 0.9
    assert found.attributes == dict(zip(ROLES, ARRAYS, strict=True))
    values = opened.read(ARRAYS)
    assert values.unread == {}
    for name, array in ARRAYS.items():
        assert_same(values.arrays[name], array, name)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive(tmp_path: Path, method: int) -> None:
    path = write(tmp_path / "m.keras", members(), method)
    assert locate(path).kind is Kind.KERAS_ARCHIVE
    check(open_archive(path), path)


def test_an_archive_with_something_before_it(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "m.keras", members()))
    path.write_bytes(b"x" * 99 + path.read_bytes())
    check(open_archive(str(path)), str(path))


def test_a_stored_member_is_never_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.keras", members())
    monkeypatch.setattr(limits, "LARGEST_UNPACKED", 0)
    check(open_archive(path), path)


def test_a_directory(tmp_path: Path) -> None:
    for name, content in members().items():
        (tmp_path / name).write_bytes(content)
    check(open_directory(str(tmp_path)), str(tmp_path))


SHARDS = {
    "model.weights.json": json.dumps(
        {"weight_map": {f"/{GROUP}": ["model_0.weights.h5", "model_1.weights.h5"]}}
    ).encode(),
    "model_0.weights.h5": weights(dict(list(ARRAYS.items())[:1])),
    "model_1.weights.h5": weights(dict(list(ARRAYS.items())[1:])),
}


def test_shards_in_an_archive_and_in_a_directory(tmp_path: Path) -> None:
    contents = members(model__weights__h5=None) | SHARDS
    path = write(tmp_path / "m.keras", contents)
    opened = open_archive(path)
    assert opened.shards == 2
    check(opened, path)
    (tmp_path / "d").mkdir()
    for name, content in contents.items():
        (tmp_path / "d" / name).write_bytes(content)
    check(open_directory(str(tmp_path / "d")), str(tmp_path / "d"))


def test_a_map_is_told_from_other_json(tmp_path: Path) -> None:
    for name, content, expected in (
        ("map", SHARDS["model.weights.json"], True),
        ("leading elsewhere", b'{"weight_map": {"a": "../x.h5"}}', True),  # to be told so
        ("config", CONFIG, False),
        ("safetensors", b'{"weight_map": {"a": "model-00001.safetensors"}}', False),
        ("cut", SHARDS["model.weights.json"][:-1], False),
        ("empty", b"", False),
    ):
        (tmp_path / name).write_bytes(content)
        with RegularFile(str(tmp_path / name)) as file:
            assert (keras_kind(file) is Kind.KERAS_SHARDS) is expected, name


def replaced(path: Path, old: bytes, new: bytes, count: int = -1) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, count))


def edited(
    field: int, value: bytes, contents: Any = None, method: int = 0
) -> Callable[[Path], None]:
    """Change bytes of the directory's entry of the weights: `field` counts from its start."""

    def change(path: Path) -> None:
        write(path, contents or members(), method)
        data = bytearray(path.read_bytes())
        at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"model.weights.h5"))
        data[at + field : at + field + len(value)] = value
        path.write_bytes(data)

    return change


def broken_crc(path: Path) -> None:
    write(path, members())
    replaced(path, ARRAYS[f"{GROUP}/2"].tobytes(), b"\0" * 16)


def broken_deflate(path: Path) -> None:
    write(path, members(), zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    at = data.index(b"model.weights.h5") + 40
    data[at : at + 20] = b"\xff" * 20
    path.write_bytes(data)


def twice(path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "config.json", "model.weights.h5"):
            archive.writestr(name, members()[name])


def cut(path: Path) -> None:
    write(path, members())
    path.write_bytes(path.read_bytes()[:-30])


def without(name: str, **others: bytes) -> Callable[[Path], None]:
    return lambda path: write(path, members(**{name.replace(".", "__"): None}, **others)) and None


def packed(method: int) -> Callable[[Path], None]:
    return lambda path: write(path, members(), method) and None


HUGE = struct.pack("<I", limits.LARGEST_UNPACKED + 1)

FAILURES: dict[str, tuple[Callable[[Path], Any], type[BncheckError], list[str]]] = {
    "no file": (lambda _: None, NotFoundError, ["no such file"]),
    "no zip": (lambda p: p.write_bytes(b"x" * 99), DamagedError, ["is a damaged zip archive"]),
    "cut off": (cut, DamagedError, ["is a damaged zip archive", "Copy the file again"]),
    "a checksum": (broken_crc, DamagedError, ["model.weights.h5 does not have the CRC-32"]),
    "deflate": (broken_deflate, DamagedError, ["model.weights.h5 cannot be unpacked: "]),
    "a name twice": (twice, DamagedError, ["holds config.json twice"]),
    "encrypted": (edited(8, b"\x01"), UnsupportedError, ["model.weights.h5 is encrypted"]),
    "LZMA": (packed(zipfile.ZIP_LZMA), UnsupportedError, ["compressed by the method 14"]),
    "bzip2": (packed(zipfile.ZIP_BZIP2), UnsupportedError, ["compressed by the method 12"]),
    "an unknown method": (edited(10, b"\x63"), UnsupportedError, ["compressed by the method 99"]),
    "a bomb": (
        edited(24, HUGE, method=zipfile.ZIP_DEFLATED),
        DamagedError,
        [f"model.weights.h5 declares {limits.LARGEST_UNPACKED + 1} bytes"],
    ),
    "more than is there": (
        edited(24, struct.pack("<I", 1 << 20), method=zipfile.ZIP_DEFLATED),
        DamagedError,
        ["model.weights.h5 is shorter than the archive says"],
    ),
    "past the end": (
        edited(20, struct.pack("<II", 1 << 27, 1 << 27)),
        DamagedError,
        ["model.weights.h5 is not where the archive says"],
    ),
    "another place": (
        edited(42, struct.pack("<I", 7)),
        DamagedError,
        ["model.weights.h5 is not where the archive says"],
    ),
    "no configuration": (without("config.json"), NotACheckpointError, ["there is no config.json"]),
    "no weights": (without("model.weights.h5"), NotFoundError, ["holds no weights"]),
    "a pickle": (
        without("model.weights.h5", model__weights__npz=b"x"),
        UnsupportedError,
        ["model.weights.npz, a pickle, which bncheck never loads", "save it again"],
    ),
    "no HDF5": (
        lambda p: write(p, members(model__weights__h5=b"x" * 99)),
        DamagedError,
        ["model.weights.h5: cannot be opened as HDF5"],
    ),
    "another program's HDF5": (
        lambda p: write(p, members(model__weights__h5=weights({"a": np.zeros(3)}))),
        NotACheckpointError,
        ["model.weights.h5: is an HDF5 file, and none of Keras' weights"],
    ),
    "no JSON": (
        lambda p: write(p, members(config__json=b"{")),
        DamagedError,
        ["config.json is no valid JSON"],
    ),
    "JSON without end": (
        lambda p: write(p, members(config__json=b"[" * 100_000)),
        DamagedError,
        ["config.json nests too deep"],
    ),
    "a shard that is not there": (
        lambda p: write(p, members(model__weights__h5=None) | dict(list(SHARDS.items())[:2])),
        NotFoundError,
        ["there is no 'model_1.weights.h5' in the archive"],
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures(tmp_path: Path, case: str) -> None:
    make, kind, parts = FAILURES[case]
    path = tmp_path / "m.keras"
    make(path)
    with pytest.raises(kind) as caught:
        open_archive(str(path))
    text = str(caught.value)
    assert text.startswith(str(path)), text
    for part in parts:
        assert part in text, text


def test_what_is_wrong_is_told_with_the_byte_of_the_archive(tmp_path: Path) -> None:
    """HDF5 and JSON count from their own start; packed, no byte of the archive is to blame."""

    def linked(path: Path, method: int) -> tuple[bytes, int | None]:
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            file.update(ARRAYS)
            file["again"] = file[GROUP]
            header = h5py.h5o.get_info(file[GROUP].id).addr
        write(path, members(model__weights__h5=stream.getvalue()), method)
        with pytest.raises(UnsupportedError, match=r"is a second link to") as caught:
            open_archive(str(path))
        return stream.getvalue()[header : header + 40], caught.value.offset

    path = tmp_path / "m.keras"
    header, at = linked(path, zipfile.ZIP_STORED)
    assert at is not None
    assert path.read_bytes()[at : at + 40] == header
    assert linked(path, zipfile.ZIP_DEFLATED)[1] is None
    for method, found in ((zipfile.ZIP_STORED, b"!, 1"), (zipfile.ZIP_DEFLATED, None)):
        write(path, members(config__json=b'{"class_name": !, 1'), method)
        with pytest.raises(DamagedError, match=r"config\.json is no valid JSON") as no_json:
            open_archive(str(path))
        at = no_json.value.offset
        assert (None if at is None else path.read_bytes()[at : at + 4]) == found


def test_a_member_is_named_with_its_header(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    broken_crc(path)
    with pytest.raises(DamagedError, match="does not have the CRC-32") as caught:
        open_archive(str(path))
    at = caught.value.offset
    assert at is not None
    assert path.read_bytes()[at : at + 4] == b"PK\x03\x04"
    assert path.read_bytes()[at + 30 :].startswith(b"model.weights.h5")


def test_a_directory_of_many_members_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.keras", members() | {f"assets/{i}": b"" for i in range(99)})
    open_archive(path)
    monkeypatch.setattr(limits, "LARGEST_ZIP_DIRECTORY", 4000)
    with pytest.raises(DamagedError, match=r"has a directory of \d+ bytes"):
        open_archive(path)


def test_a_large_stored_member_is_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_crc(tmp_path / "m.keras")
    monkeypatch.setattr(limits, "LARGEST_CHECKED", 100)
    opened = open_archive(str(tmp_path / "m.keras"))
    assert opened.read([f"{GROUP}/2"]).arrays[f"{GROUP}/2"].tolist() == [0, 0, 0, 0]


def test_a_directory_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot be listed"):
        open_directory(str(tmp_path / "gone"))


def test_bombs_are_told_by_what_they_are_packed_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MEMBER_FLOOR", 1 << 16)
    weight_bomb = members(model__weights__h5=weights() + bytes(1 << 20))
    config_bomb = members(config__json=CONFIG + b" " * (1 << 20))
    for number, contents in enumerate((weight_bomb, config_bomb)):
        path = write(tmp_path / f"{number}.keras", contents, zipfile.ZIP_DEFLATED)
        monkeypatch.setattr(limits, "MEMBER_RATIO", 1000)
        check(open_archive(path), path)
        monkeypatch.setattr(limits, "MEMBER_RATIO", 100)
        with pytest.raises(DamagedError, match=r"declares \d{7} bytes in \d+\."):
            open_archive(path)


def test_a_member_is_unpacked_into_memory_once(tmp_path: Path) -> None:
    size = 1 << 24
    packed = np.random.default_rng(0).bytes(size // 64) * 64
    path = write(tmp_path / "m.keras", {"x": packed}, zipfile.ZIP_DEFLATED)
    with keras_archive.Zip(path) as archive:
        member = archive.member("x")
        tracemalloc.start()
        content = member.content(archive._file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert content.getvalue() == packed
    assert peak < 1.5 * size


def test_longer_than_the_archive_says(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    edited(24, struct.pack("<I", 99), method=zipfile.ZIP_DEFLATED)(path)
    with pytest.raises(DamagedError, match=r"model\.weights\.h5 is longer than the archive says"):
        open_archive(str(path))


def test_the_archive_is_parsed_once_for_all_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.keras", members(model__weights__h5=None) | SHARDS)
    parsed = []
    monkeypatch.setattr(
        zipfile, "ZipFile", lambda *a, new=zipfile.ZipFile: parsed.append(a) or new(*a)
    )
    check(open_archive(path), path)
    assert len(parsed) == 1


def test_an_archive_that_changed_is_told(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "m.keras", members()))
    opened = open_archive(str(path))
    path.write_bytes(path.read_bytes()[:500])
    values = opened.read(ARRAYS)
    assert set(values.unread) == set(ARRAYS)
    assert values.broken_files == {str(path)}


def test_the_corpus(corpus: Path) -> None:
    opened = open_archive(str(corpus / "sign-mnist-keras3/best_model.keras"))
    assert [found.name for found in opened.structure.objects] == [
        "conv2d",
        "conv2d_1",
        "conv2d_2",
        "dense",
        "dense_1",
        "dense_2",
    ]
    assert opened.structure.steps == ("optimizer/vars/0",)
    opened = open_archive(str(corpus / "keras-nested-container/pre_pr22362_nested_container.keras"))
    assert [found.name for found in opened.structure.objects] == ["d_0", "d_1", "d_2", "dense"]
    assert opened.structure.ambiguous == {}
