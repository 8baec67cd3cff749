"""State files: the text that says which of a directory's checkpoints is the latest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.state_file import all_prefixes
from fuzz.audit import audit
from fuzz.seeds import contents, write_checkpoint
from fuzz.target import Depth, Target
from fuzz.watch import preparing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    path = directory / "checkpoint"
    with preparing():
        path.write_bytes(data)
        if not (directory / "model.ckpt-60.index").exists():
            write_checkpoint(directory / "model.ckpt-60", ["bn/gamma", "bn/beta"])
    locate(str(directory))
    all_prefixes(str(path))
    if depth is Depth.REPORT:
        audit(directory, depth)


def _seeds() -> Iterator[bytes]:
    yield b'model_checkpoint_path: "model.ckpt-60"\n'
    yield b"# one\nmodel_checkpoint_path: 'C:\\\\run\\\\model' \".ckpt-60\""
    yield b'model_checkpoint_path: "." all_model_checkpoint_paths: ["a", "b/"]'
    yield from contents("*/*/checkpoint", most=20, longest=1024)


TARGET = Target(
    "state_file",
    _read,
    _seeds,
    tokens=(
        "model_checkpoint_path:", "all_model_checkpoint_paths:", "last_preserved_timestamp:",
        "all_model_checkpoint_timestamps:", "model.ckpt-60", "-00000-of-00001", ".index", "..",
        "\\\\", "/", "C:", "\\x00", "#", "{", "}", "<", ">", "[", "]", "'", '"',
    ),
    longest=4096,
    reads_outside=True,
)  # fmt: skip
