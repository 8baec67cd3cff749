"""What is read of V2 checkpoints' data files, counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bncheck.checkpoint.bundle import TensorBundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import pytest


def count_reads(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """Count the tensors that are read from now on, by their prefix and offset."""
    counted: Counter[tuple[str, int]] = Counter()
    runs = TensorBundle._runs

    def counting(self: TensorBundle, rows: Any) -> Iterator[Any]:
        for run in runs(self, rows):
            counted.update((self._prefix, offset) for _, _, offset, _, _ in run)
            yield run

    monkeypatch.setattr(TensorBundle, "_runs", counting)
    return counted
