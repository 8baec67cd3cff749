"""What is read of V2 checkpoints' data files, counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bncheck.checkpoint.bundle import TensorBundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import pytest


def count_reads(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """Count the tensors that are read from now on, by the checkpoint's prefix and their name."""
    counted: Counter[tuple[str, str]] = Counter()
    runs = TensorBundle._runs

    def counting(self: TensorBundle, *asked: Any) -> Iterator[Any]:
        for run in runs(self, *asked):
            counted.update((self._prefix, name) for name in run.names)
            yield run

    monkeypatch.setattr(TensorBundle, "_runs", counting)
    return counted
