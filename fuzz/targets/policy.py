"""Policies, bncheck.toml and pyproject.toml, and an audit by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.config.load import find_policy, load_policy
from fuzz.audit import gate
from fuzz.seeds import write_checkpoint
from fuzz.target import Depth, Target
from fuzz.watch import preparing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLICY = b"""\
format = "text"
fail-on = "warning"
select = ["BN201", "negative-variance"]
momentum = { "gan/*" = 0.9 }
require-batch-norm = true
[levels]
BN203 = "error"
[thresholds]
huge-variance = 1e6
[path."models/gan/*"]
momentum = 0.9
ignore = ["BN303"]
[[exceptions]]
rule = "BN201"
layer = "net/*"
reason = "frozen on purpose"
expires = 2030-01-01
"""


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    with preparing():
        (directory / "bncheck.toml").write_bytes(data)
        (directory / "pyproject.toml").write_bytes(b"[tool.bncheck]\n" + data)
        if not (directory / "model.ckpt-60.index").exists():
            roles = ("gamma", "beta", "moving_mean", "moving_variance")
            write_checkpoint(
                directory / "model.ckpt-60", [f"net/bn{n}/{role}" for n in "1234" for role in roles]
            )
    found = find_policy(str(directory))
    policy = load_policy(found or "")
    if depth is Depth.REPORT:
        gate(directory / "model.ckpt-60", policy=policy)
        load_policy(str(directory / "pyproject.toml"))


def _seeds() -> Iterator[bytes]:
    yield _POLICY
    yield b'paths = ["models/*"]\nrecursive = true\nbaseline = "b.json"\nreport = ["sarif=a"]\n'


TARGET = Target(
    "policy",
    _read,
    _seeds,
    tokens=(
        "select", "ignore", "fail-on", "momentum", "levels", "thresholds", "path", "exceptions",
        "rule", "layer", "checkpoint", "reason", "expires", "require-batch-norm", "BN201", "error",
        "warning", "note", "never", "= [", "[[", "]]", "= {", "}", '"""', "'''", "1e999", "nan",
        "2030-01-01", "true", "-1", "0x", "\\\\u0000",
    ),
    longest=4096,
)  # fmt: skip
