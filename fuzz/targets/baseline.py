"""Baselines: the JSON of findings that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.config.policy import Policy
from bncheck.gating.auditing import Request
from bncheck.gating.baseline import read_baseline, write_baseline
from bncheck.gating.pipeline import GateOptions, audit_targets
from bncheck.gating.targets import find_targets
from fuzz.json_tree import mutate_json
from fuzz.seeds import write_checkpoint
from fuzz.target import Depth, Target
from fuzz.watch import preparing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BASELINE = b"""{"schema_version": 1, "tool": {"name": "bncheck"}, "findings": [
{"fingerprint": "a", "rule": "BN201", "layer": "net/bn", "checkpoint": "m", "level": "error"},
{"fingerprint": "b", "rule": "BN301", "layer": "", "checkpoint": "m/n-7", "level": "note"}]}"""


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    path = directory / "baseline.json"
    with preparing():
        path.write_bytes(data)
        if not (directory / "model.ckpt-60.index").exists():
            write_checkpoint(directory / "model.ckpt-60", ["net/bn/gamma", "net/bn/moving_mean"])
    known = read_baseline(str(path)).left()
    write_baseline([], known)
    if depth is Depth.REPORT:
        targets = find_targets([str(directory / "model.ckpt-60")], recursive=False)
        request = Request(policy=Policy())
        audit_targets(targets, GateOptions(request=request, jobs=1, baseline=str(path)))


def _seeds() -> Iterator[bytes]:
    yield _BASELINE


TARGET = Target("baseline", _read, _seeds, mutate_json, longest=4096, reads_outside=True)
