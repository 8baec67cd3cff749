"""HDF5 files made to harm: links that lead elsewhere, values stored nowhere, names without end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.attacks.attack import Attack, Make, run

ROLES = ("gamma", "beta", "moving_mean", "moving_variance")
BN = "layers/batch_normalization/vars"
VALUES = np.linspace(0.5, 1.5, 4, dtype=np.float32)
ELSEWHERE = "elsewhere.h5"


def weights(change: Callable[[h5py.File, Path], None]) -> Make:
    """Write the newer layout with a layer and what an attack adds; another file is beside it."""

    def make(folder: Path) -> Path:
        with h5py.File(folder / ELSEWHERE, "w") as file:
            file[f"{BN}/0"] = VALUES
        path = folder / "model.weights.h5"
        with h5py.File(path, "w", libver="latest") as file:
            for number in range(4):
                file[f"{BN}/{number}"] = VALUES
            change(file, folder)
        return path

    return make


def older(change: Callable[[h5py.File, h5py.Group], None]) -> Make:
    """Write Keras' older layout with a layer, then what the attack changes."""

    def make(folder: Path) -> Path:
        path = folder / "model.h5"
        with h5py.File(path, "w", libver="latest") as file:
            file.attrs["layer_names"] = np.array([b"bn"])
            group = file.create_group("bn")
            group.attrs["weight_names"] = np.array([f"bn/{role}:0".encode() for role in ROLES])
            for role in ROLES:
                group[f"bn/{role}:0"] = VALUES
            change(file, group)
        return path

    return make


def replaced(put: Callable[[h5py.Group], None]) -> Make:
    """Put something else in the place of the moving mean."""

    def change(file: h5py.File, _: Path) -> None:
        del file[f"{BN}/2"]
        put(file[BN])

    return weights(change)


def external_link(group: h5py.Group) -> None:
    group["2"] = h5py.ExternalLink(ELSEWHERE, f"/{BN}/0")


def external_link_to_etc(group: h5py.Group) -> None:
    group["2"] = h5py.ExternalLink("/etc/passwd", "/x")


def external_storage(group: h5py.Group) -> None:
    group.create_dataset("2", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(ELSEWHERE, f"{BN}/0", (4,))
    group.create_virtual_dataset("2", layout)


def soft_link(group: h5py.Group) -> None:
    group["2"] = h5py.SoftLink(f"/{BN}/1")


def soft_circle(group: h5py.Group) -> None:
    group["2"] = h5py.SoftLink(f"/{BN}/2")


def hard_circle(file: h5py.File, _: Path) -> None:
    file["layers/again"] = file["layers"]


def root_in_itself(file: h5py.File, _: Path) -> None:
    file["self"] = file["/"]


def second_link(group: h5py.Group) -> None:
    group["2"] = group["1"]


def terabytes(group: h5py.Group) -> None:
    group.create_dataset("2", (1 << 40,), "f4", chunks=(1 << 20,))


def gigabyte(group: h5py.Group) -> None:
    group.create_dataset("2", (1 << 28,), "f4", fillvalue=1.0)


def compressed(group: h5py.Group) -> None:
    """512 MiB of zeros that deflate packs into 0.5 MB."""
    group.create_dataset("2", (1 << 27,), "f4", chunks=(1 << 26,), compression=9)
    for start in range(0, 1 << 27, 1 << 26):
        group["2"][start : start + (1 << 26)] = 0.0


def many_chunks(group: h5py.Group) -> None:
    group.create_dataset("2", (1 << 40,), "f4", chunks=(1,))


def a_huge_chunk(group: h5py.Group) -> None:
    group.create_dataset("2", (1 << 33,), "i1", chunks=((1 << 32) - 1,))


def plugin(group: h5py.Group) -> None:
    """A filter that HDF5 would look for on this machine."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(group.id, b"2", h5py.h5t.NATIVE_FLOAT, space, plist)


def reference(group: h5py.Group) -> None:
    group.create_dataset("2", (4,), dtype=h5py.ref_dtype)


def compound(group: h5py.Group) -> None:
    group.create_dataset("2", (4,), dtype=np.dtype([(f"f{n}", "f4") for n in range(500)]))


def named_type(group: h5py.Group) -> None:
    group["2"] = np.dtype("f4")


def an_array_type(group: h5py.Group) -> None:
    group.create_dataset("2", (4,), dtype=np.dtype(("f4", (1 << 20,))))


def another_shape(group: h5py.Group) -> None:
    group["2"] = VALUES[:3]


def without_mean(file: h5py.File, _: Path) -> None:
    del file[f"{BN}/2"]


def nested_groups(depth: int) -> Callable[[h5py.File, Path], None]:
    def change(file: h5py.File, _: Path) -> None:
        group = file["layers"]
        for _ in range(depth):
            group = group.create_group("g")

    return change


def many_groups(file: h5py.File, _: Path) -> None:
    for number in range(20_000):
        file.create_group(f"g{number}")


def long_name(file: h5py.File, _: Path) -> None:
    file.create_group("n" * 1_000_000)


def strange_names(file: h5py.File, _: Path) -> None:
    for name in ("\x1b[2J", "a\nb", "\u202eevil", "[red]x[/red]", "::error::x"):
        file[f"layers/{name}/vars/0"] = VALUES
    h5py.h5g.create(file.id, b"\xff\xfe")


def attributes(file: h5py.File, _: h5py.Group) -> None:
    """A list that is split into 5000 pieces, each of which names the layer again."""
    del file.attrs["layer_names"]
    for number in range(5_000):
        file.attrs[f"layer_names{number}"] = np.array([b"bn"])


def huge_attribute(file: h5py.File, _: h5py.Group) -> None:
    file.attrs.create("layer_names", np.full(1 << 20, b"x" * 70))


def one_string_a_million_times(file: h5py.File, group: h5py.Group) -> None:
    names = np.array(["n" * 500_000] * 1000, object)
    del group.attrs["weight_names"]
    group.attrs.create("weight_names", names, dtype=h5py.string_dtype())
    file.flush()


def config(text: str) -> Make:
    def change(file: h5py.File, _: h5py.Group) -> None:
        file.attrs["model_config"] = text

    return older(change)


def names_elsewhere(name: str) -> Make:
    def change(file: h5py.File, _: h5py.Group) -> None:
        file.attrs["layer_names"] = np.array([b"bn", name.encode()])

    return older(change)


def patched(find: bytes, put: bytes, *, libver: str = "earliest") -> Make:
    """Write a layer and overwrite some bytes of the file."""

    def make(folder: Path) -> Path:
        path = folder / "model.weights.h5"
        with h5py.File(path, "w", libver=libver) as file:
            for number in range(4):
                file[f"{BN}/{number}"] = VALUES
        data = path.read_bytes()
        assert find in data
        path.write_bytes(data.replace(find, put, 1))
        return path

    return make


def in_a_hole(folder: Path) -> Path:
    path = weights(lambda *_: None)(folder)
    os.truncate(path, 100 << 30)
    return Path(path)


def user_block(folder: Path) -> Path:
    """A file of 64 GiB of nothing, in which HDF5 could begin at any power of two."""
    path = folder / "m.h5"
    path.touch()
    os.truncate(path, 64 << 30)
    return path


DEEP_JSON = '{"config": ' * 100_000 + "1" + "}" * 100_000
WIDE_JSON = json.dumps({"class_name": "Sequential", "config": {"layers": [[]] * 1_000_000}})
DEEP_MODEL = '{"class_name": "Sequential", "config": {"layers": [' * 2000 + "]}}" * 2000

ATTACKS = {
    "no harm": Attack(weights(lambda *_: None), ("PASS",), code=0),
    "no harm in the older layout": Attack(older(lambda *_: None), ("PASS",), code=0),
    **{
        each.__name__: Attack(replaced(each))
        for each in (
            *(external_link, external_link_to_etc, external_storage, virtual, soft_link),
            *(soft_circle, second_link, terabytes, gigabyte, many_chunks, a_huge_chunk, plugin),
            named_type,
        )
    },
    "reference": Attack(replaced(reference), ("are of no type",)),
    "compound": Attack(replaced(compound), ("are of no type",)),
    "an array type": Attack(replaced(an_array_type), ("are of no type",)),
    "no mean": Attack(weights(without_mean), ("BN105",), code=0),
    "another shape": Attack(replaced(another_shape), ("BN104",), code=1),
    "hard_circle": Attack(weights(hard_circle), ("second link",)),
    "root_in_itself": Attack(weights(root_in_itself), ("second link",)),
    "1000 groups deep": Attack(weights(nested_groups(1000)), ("nests its groups",)),
    "90 groups deep": Attack(weights(nested_groups(90)), ("PASS",), code=0),
    "20,000 groups": Attack(weights(many_groups), ("PASS",), code=0),
    "a name of 1 MB": Attack(weights(long_name), ("PASS",), code=0),
    "strange names": Attack(weights(strange_names), code=0, arguments=("--all",)),
    "5000 pieces of a list": Attack(older(attributes), ("PASS",), code=0),
    "a list of 70 MB": Attack(older(huge_attribute), ("layer_names",)),
    "one string a thousand times": Attack(older(one_string_a_million_times)),
    "a configuration nested 100,000 deep": Attack(config(DEEP_JSON)),
    "a configuration of a million lists": Attack(config(WIDE_JSON), code=0),
    "models in models": Attack(config(DEEP_MODEL)),
    "a configuration of a number of 1 MB": Attack(config("9" * 1_000_000)),
    "a configuration of NaN": Attack(
        config('{"class_name": NaN, "config": Infinity}'), ("PASS",), code=0
    ),
    "a layer called ..": Attack(names_elsewhere("../../etc")),
    "a layer called /": Attack(names_elsewhere("/")),
    "a layer called nothing": Attack(names_elsewhere("")),
    "the symbol table points to itself": Attack(patched(b"SNOD\x01", b"TREE\x01")),
    "no symbol table": Attack(patched(b"SNOD", b"XXXX")),
    "2^16-1 entries in a node": Attack(patched(b"SNOD\x01\0", b"SNOD\x01\0\xff\xff")),
    "a heap of 2^64-1": Attack(patched(b"HEAP\0\0\0\0", b"HEAP\0\0\0\0" + b"\xff" * 8)),
    "a tree of another level": Attack(patched(b"TREE\0\0", b"TREE\0\xff")),
    "version 255": Attack(patched(b"\x89HDF\r\n\x1a\n\0", b"\x89HDF\r\n\x1a\n\xff")),
    "a file that ends at 100 GB": Attack(in_a_hole, code=0),
    "64 GiB of nothing": Attack(user_block),
}


def test_values_that_were_compressed_well(tmp_path: Path) -> None:
    run(Attack(replaced(compressed)), tmp_path)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(tmp_path: Path, name: str) -> None:
    run(ATTACKS[name], tmp_path)
