"""Keras' files: HDF5 that misleads, archives that are none, configurations without end."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bncheck import limits
from tests.checkpoint.test_hdf5 import REFUSED, written
from tests.checkpoint.test_hdf5_heap import FIRST, changed, long_list
from tests.checkpoint.test_keras_archive import FAILURES as OF_ARCHIVES
from tests.checkpoint.test_keras_archive import SHARDS, edited, members
from tests.checkpoint.test_keras_archive import write as write_zip
from tests.checkpoint.test_keras_h5 import FAILURES as OF_H5
from tests.checkpoint.test_keras_h5 import full, model, write_h5
from tests.checkpoint.test_keras_weights import write_shards
from tests.errors.case import Case, Write, inspecting

STATISTICS = {"layers/bn/vars/0": np.ones(4, np.float32)}
READ = "bncheck.checkpoint.hdf5.Hdf5File.read"


def hdf5(write: Callable[[h5py.File], Any], **options: Any) -> Write:
    return lambda path: written(path, write, **options)


def raw(data: bytes | Callable[[], bytes]) -> Write:
    return lambda path: path.write_bytes(data() if callable(data) else data)


def damaged(old: bytes, new: bytes, write: Write) -> Write:
    """Write a file, and change bytes of it that occur once."""

    def make(path: Path) -> None:
        write(path)
        data = path.read_bytes()
        assert data.count(old) == 1
        path.write_bytes(data.replace(old, new))

    return make


def bn(value: Any, create: Callable[[h5py.File, str], Any] | None = None) -> Write:
    """Write an old Keras file whose layer has this moving variance, or one that is made."""

    def make(path: Path) -> None:
        write_h5(path, {"bn": full("bn")})
        with h5py.File(path, "a") as file:
            name = "bn/bn/moving_variance:0"
            del file[name]
            if create is None:
                file[name] = value
            else:
                create(file, name)

    return make


def attributes(**values: Any) -> Write:
    """Write an old Keras file with these attributes beside its list of layers."""

    def make(path: Path) -> None:
        write_h5(path, {"bn": full("bn")})
        with h5py.File(path, "a", libver="latest") as file:
            file.attrs.update(values)

    return make


def strange_filter(file: h5py.File, name: str) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_FLOAT, space, plist)


def bad_checksum(path: Path) -> None:
    values = np.full(4, 1.25, np.float32)
    bn(values, lambda f, name: f.create_dataset(name, data=values, fletcher32=True))(path)
    pattern = values.tobytes()
    data = path.read_bytes()
    assert data.count(pattern) == 1
    path.write_bytes(data.replace(pattern, pattern[:-1] + b"\0"))


def user_link(path: Path) -> None:
    external = b"\x40\x01x"
    damaged(
        external,
        b"\xc8" + external[1:],
        hdf5(lambda f: f.update({"x": h5py.ExternalLink("other.h5", "/")})),
    )(path)


def short_lengths(path: Path) -> None:
    plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    plist.set_sizes(8, 4)
    opened = h5py.h5f.create(bytes(path), fcpl=plist)
    h5py.h5g.create(opened, b"g")
    opened.close()


def object_header(path: Path, name: str) -> int:
    with h5py.File(path, "r") as file:
        return int(h5py.h5o.get_info(file[name].id).addr)


def broken_header(name: str, write: Write, at: int = 0) -> Write:
    """Change a byte of an object's header: its version, or what follows."""

    def make(path: Path) -> None:
        write(path)
        data = bytearray(path.read_bytes())
        data[object_header(path, name) + at] ^= 0xFF
        path.write_bytes(data)

    return make


def shared_bytes(path: Path) -> None:
    """Four datasets, three of which say that their values are the first one's."""
    values = np.full(20_000, 1.5, np.float32)
    with h5py.File(path, "w") as file:
        file["layers/bn/vars/0"] = values
        for index in (1, 2, 3):
            file.create_dataset(f"layers/bn/vars/{index}", values.shape, "f4")
        place = file["layers/bn/vars/0"].id.get_offset()
    data = path.read_bytes()
    nowhere = b"\x03\x01" + b"\xff" * 8 + struct.pack("<Q", values.nbytes)
    assert data.count(nowhere) == 3
    path.write_bytes(data.replace(nowhere[:10], b"\x03\x01" + struct.pack("<Q", place)))


def long_names(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("x" * 20_000)
        for index in range(50):
            group.create_dataset(str(index), data=np.float32(1))


def heap_without_end(path: Path) -> None:
    write_h5(path, {"bn": full("bn")}, config=model())
    path.write_bytes(changed(path.read_bytes(), FIRST + 8, (2**64 - 16).to_bytes(8, "little")))


def heap_without_size(path: Path) -> None:
    write_h5(path, {"bn": full("bn")}, config=model())
    path.write_bytes(changed(path.read_bytes(), 8, bytes(8)))


def endless_string(path: Path) -> None:
    """The attribute says that its string takes a gigabyte."""
    text = json.dumps(model())
    write_h5(path, {"bn": full("bn")}, config=text)
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<I", len(text)), data.index(b"model_config\0"))
    data[at : at + 4] = struct.pack("<I", 1 << 30)
    path.write_bytes(data)


def many_attributes(path: Path) -> None:
    """So many that HDF5 keeps them in a heap of their own."""
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs.update({f"a{index}": index for index in range(20)})
        file.attrs["layer_names"] = ["bn"]


def overlapping_heaps(path: Path) -> None:
    one = b"GCOL\1\0\0\0" + (4096).to_bytes(8, "little")
    one += b"\1" + bytes(7) + (4096 - 32).to_bytes(8, "little")
    bn(np.frombuffer(one * 1000, np.float32))(path)


def last_byte_gone(path: Path) -> None:
    hdf5(lambda f: f.update(STATISTICS))(path)
    path.write_bytes(path.read_bytes()[:-1])


def old_keras(tree: int, offset: int) -> Write:
    """Write an old Keras file, and change a byte of the tree of its first or second group."""

    def make(path: Path) -> None:
        write_h5(path, {"bn": full("bn")})
        data = bytearray(path.read_bytes())
        at = -1
        for _ in range(tree):
            at = data.index(b"TREE", at + 1)
        data[at + offset] ^= 0xFF
        path.write_bytes(data)

    return make


def text_in_a_shard(folder: Path) -> None:
    write_shards(folder)
    (folder / "m_00001.weights.h5").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


def step_of_words(path: Path) -> None:
    write_h5(path, {"bn": full("bn")}, whole=True, slots=["iter:0"])
    with h5py.File(path, "a") as file:
        del file["optimizer_weights/iter:0"]
        file["optimizer_weights/iter:0"] = "three"


def deep(depth: int) -> bytes:
    config: Any = {"class_name": "Dense", "config": {}}
    for _ in range(depth):
        config = {"class_name": "Wrapper", "config": {"layer": config}}
    return json.dumps(config).encode()


def config(text: bytes, method: int = zipfile.ZIP_STORED) -> Write:
    return lambda path: write_zip(path, members(config__json=text), method)


def unzipped(**changes: bytes | None) -> Write:
    def make(path: Path) -> None:
        path.mkdir()
        for name, content in members(**changes).items():
            (path / name).write_bytes(content)

    return make


def sharded(weight_map: Any) -> Write:
    return lambda folder: write_shards(folder, weight_map)


def twice(folder: Path) -> None:
    write_shards(folder)
    with h5py.File(folder / "m_00001.weights.h5", "a") as file:
        file["layers/bn/vars/0"] = np.zeros(4)


def without_a_group(path: Path) -> None:
    weight_map = {"/layers/bn/vars": "m.weights.h5", "/layers/gone/vars": "m.weights.h5"}
    write_zip(
        path,
        members(
            model__weights__json=json.dumps({"weight_map": weight_map}).encode(),
            model__weights__h5=None,
        )
        | {"m.weights.h5": SHARDS["model_0.weights.h5"]},
    )


def no_memory(*_: object) -> None:
    raise MemoryError


HDF5 = {
    **{name: Case(hdf5(write)) for name, (write, _) in REFUSED.items()},
    "a user-defined link": Case(user_link),
    "cut off": Case(last_byte_gone),
    "numbers of 4 bytes": Case(short_lengths),
    "more links than any model": Case(
        hdf5(lambda f: f.update({f"g{i}": 1 for i in range(9)})), limits={"MOST_LINKS": 9}
    ),
    "groups within groups": Case(hdf5(lambda f: f.create_group("/".join(["g"] * 102)))),
    "long names": Case(long_names, limits={"PATHS_RATIO": 1}),
    "a dataset's header": Case(broken_header("bn/bn/gamma:0", bn(np.ones(4)))),
    "the root group": Case(old_keras(1, 0)),
    "the root group's neighbour": Case(old_keras(1, 17)),
    "a group": Case(old_keras(2, 0)),
    "a bomb": Case(
        hdf5(
            lambda f: f.create_dataset("b", (1 << 31,), "f4", chunks=(1 << 20,), compression="gzip")
        )
    ),
    "another program's": Case(hdf5(lambda f: f.update({"a": np.zeros(3)}))),
    "an attribute that is no string": Case(attributes(model_config=3)),
    "an attribute of two strings": Case(attributes(model_config=["{", "}"])),
    "an attribute that is long": Case(
        attributes(model_config=np.bytes_(b"{" * 2000)), limits={"LONGEST_ATTRIBUTE": 1000}
    ),
    "a heap that leads nowhere": Case(heap_without_end),
    "a heap of no size": Case(heap_without_size),
    "heaps that overlap": Case(overlapping_heaps),
    "a string without end": Case(endless_string),
    "attributes in a heap": Case(many_attributes),
    "a long list of long strings": Case(
        raw(lambda: long_list(50, 100_000, "layer_names")), limits={"LONGEST_STRINGS": 1 << 20}
    ),
}
VALUES = {
    "a checksum": Case(bad_checksum),
    "no dataspace": Case(bn(h5py.Empty("f4"))),
    "stored nowhere": Case(bn(None, lambda f, name: f.create_dataset(name, (1 << 24,), "f4"))),
    "bytes of another one": Case(shared_bytes),
    "an unknown filter": Case(bn(None, strange_filter)),
    "a step that is a word": Case(step_of_words),
    "too large for the memory": Case(bn(np.ones(4)), patches={READ: no_memory}),
}
CONFIGS = {
    "no JSON": Case(config(b"[1, {")),
    "no JSON, packed": Case(config(b"[1, {", zipfile.ZIP_DEFLATED)),
    "no UTF-8": Case(config(b'{"name": "\xff"}')),
    "a number without end": Case(config(b"1" * 5000)),
    "lists in lists": Case(config(b"[" * 100_000)),
    "more parts than any model": Case(config(b"[[[]]]"), limits={"MOST_JSON_PARTS": 2}),
    "models in models": Case(config(deep(limits.DEEPEST_MODEL + 1))),
    "a text that is long": Case(attributes(model_config="[1, 2]"), limits={"LARGEST_JSON": 5}),
    "a file that is long": Case(unzipped(), limits={"LARGEST_JSON": 5}),
    "a file that is none": Case(unzipped(config__json=b"[1, {")),
}
ARCHIVES = {
    **{name: Case(write) for name, (write, *_) in OF_ARCHIVES.items() if name != "no file"},
    "two sizes": Case(edited(20, struct.pack("<I", 99))),
    "longer than it says": Case(edited(24, struct.pack("<I", 99), method=zipfile.ZIP_DEFLATED)),
    "a group that is in no shard": Case(without_a_group),
    "a map of nothing": Case(
        lambda path: write_zip(
            path, members(model__weights__h5=None, model__weights__json=b'{"weight_map": {}}')
        )
    ),
}
MAP = inspecting("m.weights.json")
SHARDED = {
    "a path that leads out": Case(sharded({"/layers/bn/vars": "../x.h5"}), "", MAP),
    "no HDF5 file": Case(sharded({"/layers/bn/vars": ["m_00000.weights.h5", 3]}), "", MAP),
    "a variable twice": Case(twice, "", MAP),
    "no HDF5": Case(text_in_a_shard, "", MAP),
    "a group that is in none": Case(sharded({"/layers/x/vars": "m_00000.weights.h5"}), "", MAP),
}


def of_h5(change: Callable[[str], Any]) -> Write:
    return lambda path: change(write_h5(path, {"bn": full("bn")}, whole=True, config=model()))


CASES = {
    "verify: a checksum in HDF5": Case(bad_checksum, arguments=("verify", "m")),
    **{f"HDF5: {name}": case for name, case in HDF5.items()},
    **{f"HDF5 values: {name}": case for name, case in VALUES.items()},
    **{f"Keras .h5: {name}": Case(of_h5(change)) for name, (change, *_) in OF_H5.items()},
    **{f"configuration: {name}": case for name, case in CONFIGS.items()},
    **{f".keras: {name}": case for name, case in ARCHIVES.items()},
    **{f"shards: {name}": case for name, case in SHARDED.items()},
}
