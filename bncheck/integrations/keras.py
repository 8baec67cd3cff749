"""A callback for Keras that audits every checkpoint right after it was saved.

Keras is imported when the callback is made, and it may be Keras 2, Keras 3 or tf_keras.
"""

from __future__ import annotations

import glob
import os
import re
import string
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bncheck.integrations.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Unpack

    from bncheck.integrations.auditing import PolicyArguments
    from bncheck.integrations.watch import OnFinding

_INDEX: Final = ".index"
# What lies beside a checkpoint without a suffix, and starts none itself.
_PARTS: Final = re.compile(r"\.data-\d{5}-of-\d{5}|(^|/)checkpoint$|\.tempstate")
_TRUE: Final = ("1", "true")


class _Stamp(NamedTuple):
    """What changes where a file is written anew."""

    modified: int
    size: int
    number: int


def audit_checkpoints(
    saves: Any, *, on_finding: OnFinding = "stop", **policy: Unpack[PolicyArguments]
) -> Any:
    """Return a callback that audits what a ModelCheckpoint saves; put it behind that one.

    `saves` is the ModelCheckpoint itself, or a path with placeholders as it takes one. "stop" warns
    and sets `model.stop_training`, "warn" only warns, "raise" raises AssertionError. The policy's
    keywords are those of `assert_healthy`. Without a ModelCheckpoint, the path is looked at after
    each epoch, and the callback is for the Keras that TensorFlow itself would take.
    """
    is_callback = hasattr(saves, "filepath")
    path = os.fspath(saves.filepath if is_callback else saves)
    base = _callback_class(saves if is_callback else None)
    # With an integer it saves between epochs, too, after so many batches.
    by_batch = is_callback and isinstance(saves.save_freq, int)
    return _make(base, _Saves(path, Watch(on_finding, policy)), by_batch=by_batch)


def _callback_class(callback: Any) -> Any:
    """Return the class Callback of the same Keras as a callback, or of TensorFlow's Keras."""
    if callback is not None:
        return next(each for each in type(callback).__mro__ if each.__name__ == "Callback")
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in _TRUE
    return import_module("tf_keras" if legacy else "keras").callbacks.Callback


def _make(base: Any, saves: _Saves, *, by_batch: bool) -> Any:
    # The base is whichever Keras is there, and Any to a type checker.
    class AuditCheckpoints(base):  # type: ignore[misc]
        """Audits what was saved since it last looked; `reports` holds the gate's reports."""

        def __init__(self) -> None:
            super().__init__()
            self.reports = saves.watch.reports

        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras's call
            saves.new()  # what lies there already is no save of this training

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            if by_batch and saves.audit():
                self.model.stop_training = True

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            if saves.audit():
                self.model.stop_training = True

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
            saves.audit()  # a ModelCheckpoint behind this callback has saved after the last look
            saves.miss_any()

    return AuditCheckpoints()


class _Saves:
    """The checkpoints of a path with placeholders, and which of them are new.

    What Keras calls its files is left to Keras: whatever fits the path and has changed was saved.
    """

    def __init__(self, path: str, watch: Watch) -> None:
        self.watch = watch
        self._path = path
        self._pattern = "".join(
            glob.escape(text) + ("*" if field is not None else "")
            for text, field, _, _ in string.Formatter().parse(path)
        )
        self._seen: dict[str, _Stamp] = {}
        self._found = False

    def audit(self) -> bool:
        """Audit what is new, and return whether the training should stop."""
        new = self.new()
        self._found = self._found or bool(new)
        verdicts = [self.watch.audit(path) for path in new]
        return any(verdicts)

    def miss_any(self) -> None:
        """Say so if nothing was saved: a check of nothing must not look like one that passed."""
        if not self._found:
            self.watch.miss(f"no checkpoint was saved at {self._path}: nothing was audited")

    def new(self) -> list[str]:
        """Return what was written since the last call, in the order of writing."""
        now = dict(self._there())
        changed = [path for path, stamp in now.items() if self._seen.get(path) != stamp]
        self._seen = now
        return sorted(changed, key=lambda path: now[path].modified)

    def _there(self) -> Iterator[tuple[str, _Stamp]]:
        for match in glob.glob(self._pattern) + glob.glob(self._pattern + _INDEX):
            if _PARTS.search(match.replace(os.sep, "/")):
                continue
            stamp = _stamp(match)
            if stamp is not None:
                yield match.removesuffix(_INDEX), stamp


def _stamp(path: str) -> _Stamp | None:
    """Return a checkpoint's stamp; None where it is none, or was removed just now."""
    file = path
    if os.path.isdir(path):
        file = os.path.join(path, "saved_model.pb")
    try:
        status = os.stat(file)
    except OSError:
        return None
    return _Stamp(status.st_mtime_ns, status.st_size, status.st_ino)
