"""Keras' archives: a zip of config.json and model.weights.h5."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from fuzz.audit import audit
from fuzz.json_tree import mutate_json
from fuzz.seeds import contents
from fuzz.target import Target
from fuzz.watch import preparing

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from fuzz.target import Depth, Raw

_LARGEST = 1 << 20


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    path = directory / "model.keras"
    with preparing():
        path.write_bytes(data)
    audit(path, depth)


def _members(data: bytes) -> dict[str, bytes] | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if sum(each.file_size for each in infos) > _LARGEST:
                return None
            return {each.filename: archive.read(each) for each in infos}
    except Exception:  # zipfile has no list of what it raises
        return None


def _archive(members: dict[str, bytes], method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name or "_"), content, method)
    return stream.getvalue()


def _mutate(data: bytes, raw: Raw, rng: random.Random) -> bytes:
    members = _members(data) if rng.random() < 0.7 else None
    if not members:
        return raw(data)
    name = rng.choice(list(members))
    if rng.random() < 0.05:
        members[raw(name.encode()).decode("utf-8", "replace")] = members.pop(name)
    elif name.endswith(".json"):
        members[name] = mutate_json(members[name], raw, rng)
    else:
        members[name] = raw(members[name])
    return _archive(members, zipfile.ZIP_DEFLATED if rng.random() < 0.3 else zipfile.ZIP_STORED)


def _seeds() -> Iterator[bytes]:
    for data in contents("*/*/*.keras", most=10, longest=1 << 15):
        yield data
        members = _members(data)
        if members:
            yield _archive(members, zipfile.ZIP_DEFLATED)


TARGET = Target("keras_archive", _read, _seeds, _mutate, longest=1 << 17)
