"""LevelDB tables: footer, blocks, entries, Snappy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.table import Table
from fuzz.seeds import contents
from fuzz.tables import mutate_table
from fuzz.target import Target
from fuzz.watch import preparing
from tests.writers import table_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fuzz.target import Depth


def _read(data: bytes, directory: Path, depth: Depth) -> None:  # noqa: ARG001
    path = directory / "table"
    with preparing():
        path.write_bytes(data)
    with RegularFile(str(path)) as file:
        table = Table(file)
        table.first()
        scanned = list(table.scan())
        list(table.find([b"", b"a/gamma", *(key for key, _ in scanned[::3])]))


def _seeds() -> Iterator[bytes]:
    items = [(b"", b"\x08\x01"), *((b"layer_%02d/gamma" % n, b"v" * n) for n in range(40))]
    yield table_bytes(items, block_size=200, snappy=True)
    yield table_bytes(items, block_size=200, restart_interval=2)
    yield table_bytes([])
    yield from contents("tf1/*/*.index", "tf1/state-file-v1*/*-of-*", most=12)


TARGET = Target("table", _read, _seeds, mutate_table)
