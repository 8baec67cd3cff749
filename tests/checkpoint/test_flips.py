"""Every byte of small checkpoints damaged in turn: what an audit makes of each.

A flip is `refused` (an error of bncheck's), `not audited` (the verdict, and exit code 3), `finding`
(the audit fails, or warns of more), `noticed` (another report, which shows other layers or values),
or `same`: not one number of the report differs. Where a format stores checksums, nothing may be
`finding` or `noticed`, and what is `same` lies in bytes that belong to no variable that was judged:
the bytes of others, the alignment between them, and the few of a table that nobody reads.

| file | flips | refused | not audited | finding | noticed | same |
| --- | --- | --- | --- | --- | --- | --- |
| V2 index, every byte | 548 | 501 | 0 | 0 | 0 | 47 |
| V2 index, every bit | 4384 | 3986 | 0 | 0 | 0 | 398 |
| V2 data, every byte in three ways | 1236 | 0 | 408 | 0 | 0 | 828 |
| V1, every byte | 2364 | 943 | 745 | 0 | 0 | 676 |
| .keras, a seventh of its weights | 1644 | 1412 | 0 | 0 | 0 | 232 |
| .weights.h5, a seventh | 1386 | 172 | 7 | 1 | 17 | 1189 |
| .weights.h5, every byte | 9696 | 1241 | 44 | 5 | 104 | 8302 |

HDF5 stores no checksums in what Keras writes. Of the 104 that are `noticed`, 45 are bytes of floats
that became other floats, and 59 are of names, addresses and byte orders, which lead to layers of
other names or to other values: nobody can tell those from right ones. No layer goes without a word.
What is `same` there is mostly room that HDF5 left unused. In the `.keras` archive the same file has
a CRC-32, which is checked, and nothing of it passes.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest

from bncheck.audit import Options, inspect
from bncheck.errors import BncheckError
from bncheck.proto.tensors_pb2 import BundleEntryProto, SavedTensorSlices
from bncheck.report.json_format import to_json
from tests.writers import slice_key, write_bundle, write_v1

ROLES = ("gamma", "beta", "moving_mean", "moving_variance")
OUTCOMES = ("refused", "not audited", "finding", "noticed", "same")
WHOLE_BYTE = (0xFF,)
SINGLE_BITS = tuple(1 << bit for bit in range(8))
FOOTER, TRAILER = 48, 5


def tensors() -> dict[str, np.ndarray]:
    """Return two layers with an optimizer's slots, two kernels and the step."""
    numbers = np.random.default_rng(7)
    found: dict[str, np.ndarray] = {"global_step": np.array(60, np.int64)}
    for layer, size in (("net/bn_1", 3), ("net/bn_2", 5)):
        for role in ROLES:
            name = f"{layer}/{role}"
            found[name] = numbers.uniform(0.5, 1.5, size).astype(np.float32)
            if role in ("gamma", "beta"):
                found[f"{name}/Momentum"] = numbers.normal(size=size).astype(np.float32)
    for number, shape in enumerate(((3, 3), (3, 5))):
        found[f"net/dense_{number}/kernel"] = numbers.normal(size=shape).astype(np.float32)
    return found


def is_judged(name: str) -> bool:
    return name.rpartition("/")[2] in ROLES or name == "global_step"


@dataclass
class Flips:
    """How often each thing became of a flip, and where nothing did, or the numbers differ."""

    counts: Counter[str] = field(default_factory=Counter)
    same: set[int] = field(default_factory=set)
    noticed: set[int] = field(default_factory=set)

    def row(self, what: str) -> str:
        """Return the line of the table above."""
        counts = " | ".join(str(self.counts[each]) for each in OUTCOMES)
        return f"| {what} | {sum(self.counts.values())} | {counts} |"


def check_row(found: Flips, what: str) -> None:
    """Check the counts: the table above, which the documentation quotes, holds them."""
    assert found.row(what) in str(__doc__), found.row(what)


def told(path: Path) -> tuple[str, str, bytes]:
    """Return a report's verdict, all that it says, and the values that it rests on."""
    report = inspect(path, Options())
    values = b"".join(
        each.values.tobytes()
        for layer in report.layers
        for each in layer.members.values()
        if each.values is not None
    )
    return report.verdict, to_json(report, everything=True), values


def outcome(path: Path, truth: tuple[str, str, bytes]) -> str:
    """Inspect a damaged checkpoint; anything but an error of bncheck's and a report fails."""
    try:
        found = told(path)
    except BncheckError:
        return "refused"
    if found == truth:
        return "same"
    if found[0] == "not-audited":
        return "not audited"
    report, whole = json.loads(found[1]), json.loads(truth[1])
    if found[0] == "fail" or len(report["findings"]) > len(whole["findings"]):
        return "finding"
    # No layer goes without a word.
    assert len(report["layers"]) == len(whole["layers"]) or report["checkpoint"]["remarks"]
    return "noticed"


def flipped(
    path: Path, file: Path, masks: Iterable[int] = WHOLE_BYTE, positions: Iterable[int] = ()
) -> Flips:
    """Flip bytes of a file, all of them unless positions are given, and sort what comes of each."""
    whole = file.read_bytes()
    truth = told(path)
    assert truth[0] == "pass"
    found = Flips()
    for position in positions or range(len(whole)):
        for mask in masks:
            damaged = bytearray(whole)
            damaged[position] ^= mask
            file.write_bytes(damaged)
            became = outcome(path, truth)
            found.counts[became] += 1
            if became == "same":
                found.same.add(position)
            if became == "noticed":
                found.noticed.add(position)
    file.write_bytes(whole)
    assert told(path) == truth
    return found


# What the index itself says, by a reader of its own, as short as a right file allows.


def varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def handle(data: bytes, position: int) -> tuple[range, int]:
    """Return the bytes of a block with its trailer, and where the handle ends."""
    start, position = varint(data, position)
    size, position = varint(data, position)
    return range(start, start + size + TRAILER), position


def entries(data: bytes, block: range) -> Iterator[tuple[bytes, bytes]]:
    contents = data[block.start : block.stop - TRAILER]
    end = len(contents) - 4 * (struct.unpack("<I", contents[-4:])[0] + 1)
    position, key = 0, b""
    while position < end:
        shared, position = varint(contents, position)
        unshared, position = varint(contents, position)
        length, position = varint(contents, position)
        key = key[:shared] + contents[position : position + unshared]
        position += unshared
        yield key, contents[position : position + length]
        position += length


@dataclass
class Blocks:
    """A table's blocks, and the bytes of it that nobody reads."""

    data: list[range]
    metaindex: range
    index: range
    footer: int
    padding: range

    @classmethod
    def of(cls, table: bytes) -> Blocks:
        footer = len(table) - FOOTER
        metaindex, position = handle(table, footer)
        index, end = handle(table, position)
        data = [handle(value, 0)[0] for _, value in entries(table, index)]
        return cls(data, metaindex, index, footer, range(end, len(table) - 8))

    def unread(self) -> set[int]:
        """Return the bytes that no reader looks at, TensorFlow's included.

        The metaindex block, its handle, and the zeros behind the handles. Of the last byte of the
        index block's handle, bit 7 joins it with such a zero and changes nothing.
        """
        metaindex_handle = len(encoded(self.metaindex.start))
        metaindex_handle += len(encoded(len(self.metaindex) - TRAILER))
        handles = range(self.footer, self.footer + metaindex_handle)
        return {*self.metaindex, *self.padding, *handles, self.padding.start - 1}


def encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def nobodys_data(index: bytes, size: int) -> tuple[set[int], set[int]]:
    """Return the bytes of a data file that belong to no variable that is judged, and to none."""
    judged: set[int] = set()
    owned: set[int] = set()
    for block in Blocks.of(index).data:
        for key, value in entries(index, block):
            if key:
                entry = BundleEntryProto.FromString(value)
                here = range(entry.offset, entry.offset + entry.size)
                owned.update(here)
                judged.update(here if is_judged(key.decode()) else ())
    return set(range(size)) - judged, set(range(size)) - owned


def bundle(folder: Path) -> tuple[Path, Path, Path]:
    index, data = write_bundle(folder / "model.ckpt-60", tensors(), alignment=16)
    return folder / "model.ckpt-60", index, data


@pytest.mark.parametrize(("masks", "what"), [(WHOLE_BYTE, "byte"), (SINGLE_BITS, "bit")])
def test_index(tmp_path: Path, masks: tuple[int, ...], what: str) -> None:
    path, index, _ = bundle(tmp_path)
    found = flipped(path, index, masks)
    check_row(found, f"V2 index, every {what}")
    assert found.same <= Blocks.of(index.read_bytes()).unread()
    assert set(found.counts) == {"refused", "same"}


def test_data(tmp_path: Path) -> None:
    path, index, data = bundle(tmp_path)
    found = flipped(path, data, (0x01, 0x80, 0xFF))
    check_row(found, "V2 data, every byte in three ways")
    unjudged, nobodys = nobodys_data(index.read_bytes(), data.stat().st_size)
    assert found.same == unjudged
    assert nobodys
    assert set(found.counts) == {"not audited", "same"}
    assert found.counts["same"] == 3 * len(unjudged)


def test_v1(tmp_path: Path) -> None:
    """Each slice is in a block of its own, so that those of other variables can be told apart."""
    (path,) = write_v1(tmp_path / "model.ckpt-60", tensors(), block_size=1)
    found = flipped(path, path)
    check_row(found, "V1, every byte")
    table = path.read_bytes()
    blocks = Blocks.of(table)
    others = {
        position
        for block in blocks.data
        for key, value in entries(table, block)
        if key and not is_judged(SavedTensorSlices.FromString(value).data.name.decode())
        for position in block
    }
    assert slice_key("net/dense_0/kernel", [(0, -1), (0, -1)]) in {
        key for block in blocks.data for key, _ in entries(table, block)
    }
    assert others < found.same <= others | blocks.unread()
    assert set(found.counts) == {"refused", "not audited", "same"}


def weights(path: Path | io.BytesIO) -> None:
    """Write a layer and a kernel in Keras' newer layout."""
    numbers = np.random.default_rng(7)
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/batch_normalization/vars")
        for number in range(4):
            group[str(number)] = numbers.uniform(0.5, 1.5, 3).astype(np.float32)
        file["layers/dense/vars/0"] = numbers.normal(size=(3, 3)).astype(np.float32)


def archive(folder: Path) -> Path:
    stream = io.BytesIO()
    weights(stream)
    layers = [
        {"class_name": "BatchNormalization", "config": {"name": "bn"}},
        {"class_name": "Dense", "config": {"name": "dense"}},
    ]
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": layers}}
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(zipfile.ZipInfo("metadata.json"), b'{"keras_version": "3.0.0"}')
        file.writestr(zipfile.ZipInfo("config.json"), json.dumps(config))
        file.writestr(zipfile.ZipInfo("model.weights.h5"), stream.getvalue())
    return path


def zip_parts(path: Path) -> tuple[set[int], set[int], set[int]]:
    """Return the bytes of the members that are read, of the one that is not, and of the rest."""
    read: set[int] = set()
    unread: set[int] = set()
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            start = info.header_offset + 30 + len(info.filename)
            members = unread if info.filename == "metadata.json" else read
            members |= set(range(start, start + info.file_size))
    return read, unread, set(range(path.stat().st_size)) - read - unread


def test_archive(tmp_path: Path) -> None:
    path = archive(tmp_path)
    read, metadata, headers = zip_parts(path)
    # The weights' own bytes are all the same to a CRC-32.
    weights_at = max(read) + 1 - zipped_size(path)
    positions = [at for at in range(path.stat().st_size) if at not in read or at < weights_at]
    positions += range(weights_at, max(read) + 1, STRIDE)
    found = flipped(path, path, WHOLE_BYTE, positions)
    assert not found.same & read
    assert found.same <= headers | metadata
    assert set(found.counts) == {"refused", "same"}
    assert found.counts["same"] == 232
    if KNOWN:
        check_row(found, ".keras, a seventh of its weights")


def zipped_size(path: Path) -> int:
    with zipfile.ZipFile(path) as file:
        return file.getinfo("model.weights.h5").file_size


# Of every so many bytes of an HDF5 file one is flipped; the test of them all takes a minute.
STRIDE = 7
# Another version of the library may lay a file out in another way.
KNOWN = h5py.version.hdf5_version.startswith("1.14.")


def values_in(path: Path) -> tuple[set[int], set[int]]:
    """Return where an HDF5 file keeps the values of the layer, and of all datasets."""
    judged: set[int] = set()
    stored: set[int] = set()
    with h5py.File(path) as file:

        def take(name: str, thing: object) -> None:
            if isinstance(thing, h5py.Dataset):
                start = thing.id.get_offset()
                here = range(start, start + thing.id.get_storage_size())
                stored.update(here)
                judged.update(here if "batch_normalization" in name else ())

        file.visititems(take)
    return judged, stored


def check_hdf5(tmp_path: Path, stride: int) -> Flips:
    path = tmp_path / "model.weights.h5"
    weights(path)
    found = flipped(path, path, WHOLE_BYTE, range(0, path.stat().st_size, stride))
    judged, _ = values_in(path)
    # A value may become another one, and nobody can tell; it is seen in the report all the same.
    assert not found.same & judged
    return found


def test_hdf5(tmp_path: Path) -> None:
    found = check_hdf5(tmp_path, STRIDE)
    if KNOWN:
        check_row(found, ".weights.h5, a seventh")


@pytest.mark.slow
def test_hdf5_whole(tmp_path: Path) -> None:
    found = check_hdf5(tmp_path, 1)
    judged, _ = values_in(tmp_path / "model.weights.h5")
    if KNOWN:
        check_row(found, ".weights.h5, every byte")
        assert (len(found.noticed & judged), len(found.noticed - judged)) == (45, 59)
