"""Keras' archives made to harm: zips that swell, names that climb, lists that lead elsewhere."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.attacks.attack import Attack, Make, run

BN = "layers/batch_normalization/vars"
VALUES = np.linspace(0.5, 1.5, 4, dtype=np.float32)
CONFIG = json.dumps(
    {
        "class_name": "Sequential",
        "config": {
            "name": "m",
            "layers": [{"class_name": "BatchNormalization", "config": {"name": "bn"}}],
        },
    }
).encode()


class Harm:
    """Unpickled, it writes a file; nobody may unpickle it."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harmed",)


def weights() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for number in range(4):
            file[f"{BN}/{number}"] = VALUES
    return stream.getvalue()


Write = Callable[[zipfile.ZipFile], None]


def archive(*writes: Write, without: tuple[str, ...] = (), kind: int = zipfile.ZIP_STORED) -> Make:
    """Write a Keras archive without some of its members, and what an attack adds."""

    def make(folder: Path) -> Path:
        path = folder / "model.keras"
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", kind) as file:
            warnings.simplefilter("ignore", UserWarning)  # of a name that is there twice
            for name, data in (("config.json", CONFIG), ("model.weights.h5", weights())):
                if name not in without:
                    file.writestr(name, data)
            for write in writes:
                write(file)
        return path

    return make


def member(name: str, data: bytes, kind: int = zipfile.ZIP_STORED) -> Write:
    return lambda file: file.writestr(name, data, kind)


def edited(change: Callable[[bytearray], None], make: Make | None = None) -> Make:
    """Write an archive and change its bytes."""

    def edit(folder: Path) -> Path:
        path = Path((make or archive())(folder))
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(data)
        return path

    return edit


def everywhere(signature: bytes, offset: int, value: bytes) -> Callable[[bytearray], None]:
    """Overwrite a field of every header of a kind."""

    def change(data: bytearray) -> None:
        at = data.find(signature)
        while at >= 0:
            data[at + offset : at + offset + len(value)] = value
            at = data.find(signature, at + 4)

    return change


CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def overlapping(data: bytearray) -> None:
    """Let all members of the directory be the first one."""
    everywhere(CENTRAL, 42, bytes(4))(data)


def many_members(file: zipfile.ZipFile) -> None:
    for number in range(20_000):
        file.writestr(f"assets/{number}", b"")


def bomb(name: str, declared: int = 2_000_000_000) -> Make:
    """Write an archive with a member of 2 GB in 2 MB, whose directory declares another size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)

    def swell(data: bytearray) -> None:
        for signature, method, size, named in ((LOCAL, 8, 22, 30), (CENTRAL, 10, 24, 46)):
            at = data.find(signature)
            while data[at + named : at + named + len(name)] != name.encode():
                at = data.find(signature, at + 4)
            data[at + method] = zipfile.ZIP_DEFLATED
            data[at + size : at + size + 4] = struct.pack("<I", declared)

    return edited(swell, archive(member(name, block * 2000), without=(name,)))


def pickled(file: zipfile.ZipFile) -> None:
    stream = io.BytesIO()
    np.savez(stream, w=np.array([Harm()], object))
    file.writestr("model.weights.npz", stream.getvalue())


def nested(file: zipfile.ZipFile) -> None:
    """Put a zip into a zip into a zip, 20 times."""
    data = weights()
    for _ in range(20):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as inner:
            inner.writestr("model.weights.h5", data)
        data = stream.getvalue()
    file.writestr("model.weights.h5", data)


def link(file: zipfile.ZipFile) -> None:
    """Add the weights as a symbolic link, as Info-ZIP stores them."""
    info = zipfile.ZipInfo("model.weights.h5")
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    file.writestr(info, "/etc/passwd")


def secret_beside(folder: Path) -> None:
    (folder / "secret.h5").write_bytes(weights())


def mapped(*files: str, text: str = "") -> Make:
    """Write the map of weights in several files, which names these."""

    def make(folder: Path) -> Path:
        (folder / "inner").mkdir()
        secret_beside(folder)
        path = folder / "inner/model.weights.json"
        names = {f"/layers/batch_normalization_{n}/vars": name for n, name in enumerate(files)}
        path.write_text(text or json.dumps({"metadata": {}, "weight_map": names}))
        return path

    return make


def unzipped(put: Callable[[Path], None]) -> Make:
    def make(folder: Path) -> Path:
        place = folder / "model"
        place.mkdir()
        (place / "config.json").write_bytes(CONFIG)
        (place / "model.weights.h5").write_bytes(weights())
        put(place)
        return place

    return make


def endless_config(place: Path) -> None:
    (place / "config.json").unlink()
    (place / "config.json").symlink_to("/dev/zero")


def huge_config(place: Path) -> None:
    os.truncate(place / "config.json", 100 << 30)


def config(data: bytes) -> Make:
    return archive(member("config.json", data), without=("config.json",))


STRANGE = (
    "../../evil",
    "/etc/evil",
    "C:\\evil",
    "a\x1b[2Jb",
    "\u202eevil",
    "[red]",
    "\n::error::x",
)

ATTACKS = {
    "no harm": Attack(archive(), ("PASS",), code=0),
    "no harm, compressed": Attack(archive(kind=zipfile.ZIP_DEFLATED), ("PASS",), code=0),
    # What nobody asks for may be called as it likes: nothing is unpacked to disk.
    "names that climb": Attack(
        archive(*(member(name, b"x") for name in STRANGE)), ("PASS",), code=0
    ),
    "the weights climb": Attack(
        archive(member("../model.weights.h5", weights()), without=("model.weights.h5",)),
        ("holds no weights",),
    ),
    "the weights are a link": Attack(archive(link, without=("model.weights.h5",))),
    "20,000 members": Attack(archive(many_members), ("PASS",), code=0),
    "a member twice": Attack(archive(member("config.json", CONFIG)), ("holds config.json twice",)),
    "weights twice": Attack(archive(member("model.weights.h5", weights())), ("twice",)),
    "zips in zips": Attack(archive(nested, without=("model.weights.h5",))),
    "a pickle": Attack(archive(pickled, without=("model.weights.h5",)), ("a pickle",)),
    "a pickle alone": Attack(
        archive(member("data.pkl", pickle.dumps(Harm())), without=("config.json",)), ("PyTorch",)
    ),
    "a bomb of weights": Attack(bomb("model.weights.h5"), ("declares 2000000000 bytes",)),
    "a bomb of a configuration": Attack(bomb("config.json"), ("declares 2000000000 bytes",)),
    "a bomb that nobody asks for": Attack(bomb("assets/x"), ("PASS",), code=0),
    "a bomb that lies": Attack(bomb("model.weights.h5", 1000), ("longer than the archive says",)),
    "a bomb of a configuration that lies": Attack(bomb("config.json", 1000), ("longer",)),
    "encrypted": Attack(edited(everywhere(CENTRAL, 8, b"\x01\0")), ("is encrypted",)),
    "an unknown method": Attack(edited(everywhere(CENTRAL, 10, b"\x63\0"))),
    "2^32-1 bytes": Attack(edited(everywhere(CENTRAL, 20, b"\xff" * 8))),
    "2^32-2 bytes": Attack(edited(everywhere(CENTRAL, 20, b"\xfe\xff\xff\xff" * 2))),
    "offsets beyond the end": Attack(edited(everywhere(CENTRAL, 42, b"\xfe\xff\xff\x7f"))),
    "all are one member": Attack(edited(overlapping)),
    "names of 64 KiB": Attack(edited(everywhere(CENTRAL, 28, b"\xff\xff"))),
    "no local header": Attack(edited(everywhere(LOCAL, 0, b"XXXX"))),
    "a local name of 64 KiB": Attack(edited(everywhere(LOCAL, 26, b"\xff\xff\xff\xff"))),
    "65,535 members": Attack(edited(everywhere(END, 8, b"\xff" * 4)), ("PASS",), code=0),
    "a directory of 4 GiB": Attack(edited(everywhere(END, 12, b"\xfe\xff\xff\xff"))),
    "a directory at 4 GiB": Attack(edited(everywhere(END, 16, b"\xfe\xff\xff\xff"))),
    "another CRC": Attack(edited(everywhere(CENTRAL, 16, b"\0\0\0\0")), ("CRC-32",)),
    "a configuration of 100,000 lists": Attack(config(b"[" * 100_000 + b"]" * 100_000)),
    "a configuration of 100,000 dicts": Attack(config(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)),
    "5 million lists": Attack(config(b"[" + b"[]," * 5_000_000 + b"[]]")),
    "a configuration in UTF-16": Attack(config("\ud7ff{}".encode("utf-16"))),
    "a configuration of no UTF-8": Attack(config(b'{"class_name": "\xff"}')),
    "a configuration of nothing": Attack(config(b"")),
    "a number of a million digits": Attack(config(b"9" * 1_000_000)),
    "the map climbs": Attack(mapped("../secret.h5"), ("leads out of its directory",)),
    "the map names /etc": Attack(mapped("/etc/passwd.h5"), ("leads out",)),
    "the map names another drive": Attack(mapped("C:secret.h5"), ("leads out",)),
    "the map names a stream": Attack(mapped("x\\..\\secret.h5"), ("leads out",)),
    "the map names no file": Attack(mapped("gone.h5"), ("gone.h5",)),
    "the map names 20,000": Attack(mapped(*(f"{n}.h5" for n in range(20_000)))),
    "the map is nested": Attack(
        mapped(text='{"weight_map": {"a.h5": ' + "[" * 100_000 + "]" * 100_000 + "}}")
    ),
    "an unzipped configuration without end": Attack(unzipped(endless_config)),
    "an unzipped configuration of 100 GiB": Attack(unzipped(huge_config), ("more than any",)),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(tmp_path: Path, name: str) -> None:
    run(ATTACKS[name], tmp_path)
