"""What a person sees: the whole screen, compared with a stored one.

Run with BNCHECK_WRITE_SNAPSHOTS=1 to store the screens anew, and look at the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.commands import FIXTURES, ROOT, bncheck

_PATH = re.compile(r"(tf[12]|keras[123])/")
SNAPSHOTS = ROOT / "tests" / "snapshots"

SCREENS = {
    "healthy": ("inspect", "tf1/healthy"),
    "healthy-all": ("inspect", "tf1/healthy", "--all"),
    "healthy-quiet": ("inspect", "tf1/healthy", "-q"),
    "no-update-ops": ("inspect", "tf1/no-update-ops"),
    "no-update-ops-no-graph": ("inspect", "tf1/no-update-ops", "--no-graph"),
    "trainable-saver": ("inspect", "tf1/trainable-saver"),
    "trainable-map": ("inspect", "tf1/healthy", "--collection", "trainable"),
    "renamed-scope": (
        *("inspect", "tf1/graph-mismatch/model.ckpt-60"),
        *("--graph", "tf1/graph-mismatch/renamed-scope.meta"),
    ),
    "new-head": ("inspect", "tf1/new-head"),
    "nan": ("inspect", "tf1/nan"),
    "dead-channels": ("inspect", "tf1/dead-channels", "--fail-on", "note"),
    "undertrained": ("inspect", "tf1/undertrained", "--fail-on", "warning"),
    "renorm": ("inspect", "tf1/renorm-healthy"),
    "no-batch-norm": ("inspect", "tf1/no-batch-norm"),
    "v1-sharded": ("inspect", "tf1/v1-sharded"),
    "stale-state-file": ("inspect", "tf1/state-file-stale-absolute-path"),
    "ambiguous": ("inspect", "tf1/state-file-gone-two-left"),
    "object-based": ("inspect", "keras3/trained/checkpoint", "--all"),
    "saved-model": ("inspect", "keras2/trained/saved_model"),
    "saved-model-of-tensorflow-1": ("inspect", "tf1/saved-model-two-graphs/model"),
    "keras-archive": ("inspect", "keras3/no-training-argument/model.keras"),
    "keras-h5": ("inspect", "keras2/nan/model.h5"),
    "keras-weights": ("inspect", "keras2/no-scale-no-center/model.weights.h5"),
    "statistics-optimized": ("inspect", "tf2/object-based-optimized-adam"),
    "optimizer-only": ("inspect", "tf2/object-based-optimizer-only"),
    "diff-healthy": (
        *("diff", "runs/tf1-healthy/model.ckpt-20"),
        "runs/tf1-healthy/model.ckpt-120",
    ),
    "diff-shifted": (
        *("diff", "runs/tf1-inserted-in-the-middle/model.ckpt-100"),
        "runs/tf1-inserted-in-the-middle/model.ckpt-105",
    ),
    "diff-swapped": (
        *("diff", "runs/tf1-swapped/model.ckpt-100"),
        "runs/tf1-swapped/swapped.ckpt-100",
    ),
    "diff-half-precision": (
        *("diff", "runs/tf1-half-precision/model.ckpt-100"),
        "runs/tf1-half-precision/half.ckpt-100",
    ),
    "diff-reshaped": (*("diff", "tf1/swapped-shapes/model.ckpt-60", "tf1/healthy/model.ckpt-60"),),
    "diff-same": ("diff", "runs/tf2-two-formats/checkpoint", "runs/tf2-two-formats/model.keras"),
    "diff-renamed": (
        *("diff", "runs/tf1-renamed-scope/model.ckpt-100"),
        "runs/tf1-renamed-scope/model.ckpt-110",
    ),
    "gate": ("gate", "--isolated", "tf1/healthy", "tf1/nan", "tf1/no-such", "tf1/no-batch-norm"),
    "gate-empty": ("gate", "--isolated", "-r", "make"),
    "history-healthy": ("history", "runs/tf1-healthy"),
    "history-reset-retrained": ("history", "runs/tf1-reset-retrained"),
    "history-stopped": ("history", "runs/tf2-updates-stopped"),
    "wrong-path": ("inspect", "tf1/healthy/model.ckpt-6"),
    "wrong-directory": ("inspect", "tf1/health/model.ckpt-60"),
    "meta-as-path-without-checkpoint": ("inspect", "tf1/graph-mismatch/renamed-scope.meta"),
    "not-a-checkpoint": ("inspect", "make/tf1.py"),
    "unknown-rule": ("inspect", "tf1/healthy", "--ignore", "BN2O1"),
    "rules": ("rules",),
    "rule": ("rules", "untrained-statistics"),
    "verify": ("verify", "tf1/healthy"),
    "verify-state-file": ("verify", "tf1/state-file-gone-one-left"),
    "verify-archive": ("verify", "keras3/no-training-argument/model.keras"),
    "help": ("--help",),
}


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("name", SCREENS)
def test_screen(name: str, columns: int) -> None:
    outcome = bncheck(*SCREENS[name], columns=columns, cwd=FIXTURES)
    shown = f"{outcome.out}{outcome.err}exit {outcome.code}\n"
    stored = SNAPSHOTS / f"{name}-{columns}.txt"
    if os.environ.get("BNCHECK_WRITE_SNAPSHOTS"):
        stored.write_text(shown, "utf-8")
    assert shown == stored.read_text("utf-8")


def test_no_stored_screen_is_left_over() -> None:
    expected = {f"{name}-{columns}.txt" for name in SCREENS for columns in (80, 200)}
    assert {path.name for path in Path(SNAPSHOTS).iterdir()} == expected


@pytest.mark.parametrize("name", SCREENS)
def test_eighty_columns_are_enough(name: str) -> None:
    # Paths and names are never broken; everything else fits.
    lines = (SNAPSHOTS / f"{name}-80.txt").read_text("utf-8").split("\n")
    too_long = [line for line in lines if len(line) > 80 and not _PATH.search(line)]
    assert [
        line for line in too_long if not line.startswith(("bncheck:", "Error:", "            "))
    ] == []
