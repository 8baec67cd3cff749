"""The house: a room imports only from rooms before it, and starting up stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import FIXTURES, ROOT

# The one direction of imports: path -> checkpoint -> graph -> layers -> map -> rules -> report.
ORDER = [
    "version",
    "errors",
    "limits",
    "records",
    "parallel",
    "proto",
    "checkpoint",
    "graph",
    "batchnorm",
    "assignment",
    "pairing",
    "snapshot",
    "changes",
    "rehearsal",
    "rules",
    "report",
    "audit",
    "mapping",
    "diffing",
    "verifying",
    "history",
    "config",
    "gating",
    "integrations",
    "cli",
]
PACKAGE = ROOT / "bncheck"
FILES = [path for path in PACKAGE.rglob("*.py") if not path.name.endswith("_pb2.py")]


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("bncheck.")}
    return rooms & set(ORDER)


@pytest.mark.parametrize(
    "path", [p for p in FILES if _room(p) in ORDER], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_rooms_import_only_from_rooms_before_them(path: Path) -> None:
    allowed = set(ORDER[: ORDER.index(_room(path)) + 1])
    assert _imported_rooms(path) <= allowed


def test_every_room_has_its_place() -> None:
    outside = {_room(path) for path in FILES} - set(ORDER)
    assert outside == {"__init__", "__main__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 400


def _modules(*arguments: str) -> set[str]:
    code = (
        f"import sys; sys.argv = ['bncheck', *{list(arguments)!r}]\n"
        "from bncheck.cli.main import _exit_code\n"
        "_exit_code()\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=True, timeout=60
    )
    return {name.split(".")[0] for name in done.stderr.decode().split()}


def test_inspect_imports_neither_tensorflow_nor_what_it_does_not_need() -> None:
    modules = _modules("inspect", str(FIXTURES / "tf1/healthy/model.ckpt-60"))
    assert {"numpy", "rich", "click", "google"} <= modules
    assert modules & {"tensorflow", "h5py", "keras", "ml_dtypes", "cramjam", "zipfile"} == set()


def test_json_needs_no_rich() -> None:
    path = str(FIXTURES / "tf1/healthy/model.ckpt-60")
    assert "rich" not in _modules("inspect", path, "--format", "json")


def test_help_needs_neither_numpy_nor_protobuf() -> None:
    assert _modules("--help") & {"numpy", "google", "rich"} == set()
