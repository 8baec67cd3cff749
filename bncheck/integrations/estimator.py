"""A listener for TensorFlow 1's sessions and Estimators that audits every checkpoint they save.

TensorFlow is imported when the listener is made. It is TensorFlow 2 with its `compat.v1`: there is
no TensorFlow 1 for the Python that bncheck needs.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bncheck.integrations.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Unpack

    from bncheck.integrations.auditing import PolicyArguments
    from bncheck.integrations.watch import OnFinding


def audit_listener(
    checkpoint_dir: str | os.PathLike[str] | None = None,
    *,
    on_finding: OnFinding = "stop",
    **policy: Unpack[PolicyArguments],
) -> Any:
    """Return a CheckpointSaverListener that audits what its hook just saved.

    "stop" warns and asks the hook to end the training, "warn" only warns, "raise" raises
    AssertionError. The policy's keywords are those of `assert_healthy`. Without `checkpoint_dir`
    the graph's Savers tell what was saved; one that was given to the hook alone is none of them.
    """
    directory = None if checkpoint_dir is None else os.fspath(checkpoint_dir)
    tf: Any = import_module("tensorflow").compat.v1
    return _make(tf, Watch(on_finding, policy), directory)


def _make(tf: Any, watch: Watch, directory: str | None) -> Any:
    # The base is Any to a type checker: TensorFlow has no types, and need not be installed.
    class AuditListener(tf.train.CheckpointSaverListener):  # type: ignore[misc]
        """Audits each save but that of step 0; `reports` holds the gate's reports."""

        def __init__(self) -> None:
            super().__init__()
            self.reports = watch.reports

        def after_save(self, session: Any, global_step_value: int) -> bool:
            # The hook saves before the first step, when every layer is as it was initialized.
            if global_step_value == 0:
                return False
            for path in _saved(tf, session, directory):
                if path.endswith(f"-{global_step_value}"):
                    return watch.audit(path)
            watch.miss(
                f"which checkpoint was saved at step {global_step_value} cannot be told, and it "
                "was not audited: give the listener its checkpoint_dir"
            )
            return False

    return AuditListener()


def _saved(tf: Any, session: Any, directory: str | None) -> Iterator[str]:
    """Yield the last checkpoint of the directory, or of each of the graph's Savers."""
    if directory is not None:
        latest = tf.train.latest_checkpoint(directory)
        yield from [latest] if latest else []
        return
    for saver in session.graph.get_collection(tf.GraphKeys.SAVERS):
        yield from saver.last_checkpoints[-1:]
