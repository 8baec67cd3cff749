"""Inspect and audit batch normalization in TensorFlow checkpoints.

The public API: `inspect` audits the checkpoint at a path and returns a Report, `diff` compares two
and returns a DiffReport, `verify` reads every byte of one; `bncheck.history.pipeline.history`
follows a whole run. `assert_healthy` is for tests. `open_checkpoint` and `load_graph` read;
`assignment_map` matches a graph's variables to a checkpoint's. Nothing here imports TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bncheck.version import __version__

if TYPE_CHECKING:
    from bncheck.assignment import AssignmentMap, assignment_map
    from bncheck.audit import Options, inspect
    from bncheck.checkpoint import open_checkpoint
    from bncheck.diffing import DiffOptions, diff
    from bncheck.errors import BncheckError
    from bncheck.graph import load_graph
    from bncheck.history.pipeline import HistoryOptions
    from bncheck.integrations.assertions import assert_healthy
    from bncheck.verifying import verify

__all__ = [
    "AssignmentMap",
    "BncheckError",
    "DiffOptions",
    "HistoryOptions",
    "Options",
    "__version__",
    "assert_healthy",
    "assignment_map",
    "diff",
    "inspect",
    "load_graph",
    "open_checkpoint",
    "verify",
]

_HOMES = {
    "AssignmentMap": "bncheck.assignment",
    "BncheckError": "bncheck.errors",
    "DiffOptions": "bncheck.diffing",
    "HistoryOptions": "bncheck.history.pipeline",
    "Options": "bncheck.audit",
    "assert_healthy": "bncheck.integrations.assertions",
    "assignment_map": "bncheck.assignment",
    "diff": "bncheck.diffing",
    "inspect": "bncheck.audit",
    "load_graph": "bncheck.graph",
    "open_checkpoint": "bncheck.checkpoint",
    "verify": "bncheck.verifying",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `bncheck --help` must not wait for NumPy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
