"""Every fixture cut off and damaged where its structure has a boundary.

That is at the blocks and entries of tables, the ends of tensors, the fields of protobuf messages in
two levels, the headers of zip archives and the signatures of HDF5: cut off there, a byte before and
a byte after it, and with the byte there flipped. What comes of it is an error of bncheck's, a
report that says what could not be audited, or one that says the same of every layer.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bncheck.audit import Options, inspect
from bncheck.errors import BncheckError
from bncheck.proto.tensors_pb2 import BundleEntryProto
from tests.checkpoint.test_flips import Blocks, entries, varint
from tests.commands import FIXTURES

if TYPE_CHECKING:
    from bncheck.report.model import Report

MANIFEST = json.loads((FIXTURES / "MANIFEST.json").read_text("utf-8"))
PATHS = sorted({each["path"] for each in MANIFEST if not each["arguments"] and each["exit"] < 3})
SAMPLED = 4  # boundaries of each fixture; all of them take seven minutes
MAGIC = bytes.fromhex("57fb808b247547db")
SIGNATURES = re.compile(rb"\x89HDF\r\n|TREE|SNOD|HEAP|GCOL|OHDR|OCHK|FRHP|FHDB|FHIB|BTHD|BTLF|FADB")
ZIP_SIGNATURES = re.compile(rb"PK(\x01\x02|\x03\x04|\x05\x06)")
PROTECTED = ("tensor-bundle", "object-based", "saved-model", "tensor-slices-v1", "keras-archive")


def in_table(data: bytes) -> Iterator[int]:
    blocks = Blocks.of(data)
    for block in (*blocks.data, blocks.metaindex, blocks.index):
        yield from (block.start, block.stop - 5, block.stop)
    yield from (blocks.footer, blocks.padding.start, blocks.padding.stop)
    for block in blocks.data:
        position = block.start
        for key, value in entries(data, block):
            position = data.find(value, position) + len(value) if value else position
            yield position
            del key


def tensor_ends(index: bytes, shard: int) -> Iterator[int]:
    for block in Blocks.of(index).data:
        for key, value in entries(index, block):
            if key:
                entry = BundleEntryProto.FromString(value)
                if entry.shard_id == shard:
                    yield from (entry.offset, entry.offset + entry.size)


def fields(data: bytes, start: int, end: int, levels: int) -> Iterator[int]:
    """Yield where the fields of a message begin, and those of the messages in them."""
    position = start
    while position < end:
        yield position
        try:
            tag, position = varint(data, position)
            kind = tag & 7
            if kind == 0:
                _, position = varint(data, position)
            elif kind == 2:
                size, position = varint(data, position)
                if levels > 1 and position + size <= end:
                    yield from fields(data, position, position + size, levels - 1)
                position += size
            elif kind in (1, 5):
                position += 8 if kind == 1 else 4
            else:
                return
        except IndexError:
            return


def boundaries(file: Path) -> list[int]:
    """Return where something begins or ends in a file; nothing for one of no known structure."""
    data = file.read_bytes()
    shard = re.search(r"(.*)\.data-(\d{5})-of-\d{5}$", str(file))
    found: set[int] = set()
    if shard:
        found = set(tensor_ends(Path(f"{shard[1]}.index").read_bytes(), int(shard[2])))
    elif data.endswith(MAGIC):
        found = set(in_table(data))
    elif data.startswith((b"\x89HDF", b"PK")):
        signatures = SIGNATURES if data.startswith(b"\x89") else ZIP_SIGNATURES
        found = {match.start() for match in signatures.finditer(data)}
    elif file.suffix in (".meta", ".pb") and file.name != "fingerprint.pb":
        found = set(fields(data, 0, len(data), 2))
    return sorted(at for at in found if 0 <= at <= len(data))


def damaged(data: bytes, at: int) -> Iterator[tuple[str, bytes]]:
    for end in (at - 1, at, at + 1):
        if 0 <= end < len(data):
            yield f"cut off at {end}", data[:end]
    if at < len(data):
        yield f"flipped at {at}", data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def copied(path: str, folder: Path) -> Path:
    """Copy a fixture with what lies beside it, which may be its graph."""
    source = FIXTURES / path
    if source.is_file() and source.suffix in (".keras", ".h5"):
        return Path(shutil.copy(source, folder))
    whole = source if source.is_dir() else source.parent
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    return folder if source.is_dir() else folder / source.name


def outcome(path: Path) -> Report | None:
    try:
        return inspect(path, Options())
    except BncheckError as error:
        assert error.path
        assert error.what
        return None


def layers(report: Report) -> dict[str, Any]:
    return {
        each.name: [
            (member.name, None if member.values is None else member.values.tobytes())
            for member in each.members.values()
            if member.variable is not None
        ]
        for each in report.layers
    }


def check(truth: Report, found: Report | None, file: Path, what: str) -> None:
    """Check that a report of a damaged checkpoint is no clean one of something else."""
    if found is None or found.verdict == "not-audited":
        return
    told = f"{what} of {file.name}: {truth.verdict} became {found.verdict}"
    if truth.format in PROTECTED:
        # The values stand under checksums, and the graph adds layers that the checkpoint lacks.
        whole, here = layers(truth), layers(found)
        assert all(here.get(name) == each for name, each in whole.items() if any(each)), told
        # Nor does a graph that is damaged hide what it told.
        assert truth.verdict != "fail" or found.verdict == "fail", told
    else:
        assert truth.layers == () or found.layers or found.remarks, told


def check_fixture(path: str, folder: Path, most: int | None) -> int:
    place = copied(path, folder)
    truth = outcome(place)
    assert truth is not None
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    known = [(file, at) for file in files for at in boundaries(file)]
    if most is not None and len(known) > most:
        known = random.Random(path).sample(known, most)  # noqa: S311 - the same ones in each run
    count = 0
    for file, at in known:
        whole = file.read_bytes()
        for what, data in damaged(whole, at):
            file.write_bytes(data)
            check(truth, outcome(place), file, what)
            count += 1
        file.write_bytes(whole)
    return count


@pytest.mark.parametrize("part", range(8))
def test_some_boundaries(tmp_path: Path, part: int) -> None:
    count = 0
    for number, path in enumerate(PATHS[part::8]):
        folder = tmp_path / str(number)
        folder.mkdir()
        count += check_fixture(path, folder, SAMPLED)
    assert count > 500


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_every_boundary(tmp_path: Path, path: str) -> None:
    assert check_fixture(path, tmp_path, None) > 0
