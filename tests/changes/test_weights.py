"""The variables outside of batch norm: the same or not, with as little reading as that takes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.batchnorm.names import Kind
from bncheck.changes.comparison import compare
from bncheck.checkpoint import open_checkpoint
from bncheck.diffing import DiffOptions, diff
from bncheck.snapshot import take_snapshot
from tests.changes.checkpoints import InMemory
from tests.commands import FIXTURES
from tests.reads import count_reads

RNG = np.random.default_rng(7)
LAYER = {
    f"net/bn/{role}": RNG.uniform(0.5, 2, 4).astype(np.float32)
    for role in ("gamma", "beta", "moving_mean", "moving_variance")
}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """What is read of data files."""
    return count_reads(monkeypatch)


def test_stored_checksums_spare_reading_the_weights(reads: Counter[tuple[str, str]]) -> None:
    paths = [FIXTURES / f"runs/tf1-healthy/model.ckpt-{step}" for step in (100, 120)]
    report = diff(*paths)
    assert report.comparison.others.differ[Kind.WEIGHT] == 5
    # Three layers of four variables, and the step, on each side; nothing of them twice.
    assert len(reads) == 2 * 13
    assert set(reads.values()) == {1}


def test_diff_with_itself_reads_no_tensor_twice(
    reads: Counter[tuple[str, str]], tmp_path: Path
) -> None:
    path = FIXTURES / "runs/tf1-healthy/model.ckpt-120"
    assert diff(path, path).findings == ()
    assert len(reads) == 13
    assert set(reads.values()) == {1}
    reads.clear()
    link = tmp_path / "link"
    link.symlink_to(path.parent)
    assert diff(link / path.name, path).findings == ()
    assert set(reads.values()) == {1}


def test_checksums_of_one_side_spare_reading_it(reads: Counter[tuple[str, str]]) -> None:
    run = FIXTURES / "runs/tf1-two-formats"
    bundle_alone = diff(run / "checkpoint/model.ckpt-100", run / "v1/model.ckpt-100")
    assert bundle_alone.comparison.others.identical[Kind.WEIGHT] == 5
    assert len(reads) == 13  # the V1 side has no bundle, and the bundle's weights are not read


def test_a_tolerance_needs_the_values() -> None:
    paths = [FIXTURES / f"runs/tf1-healthy/model.ckpt-{step}" for step in (100, 120)]
    strict = diff(*paths).comparison.others
    loose = diff(*paths, DiffOptions(tolerance=1.0)).comparison.others
    assert (strict.differ[Kind.WEIGHT], loose.differ.get(Kind.WEIGHT, 0)) == (5, 0)
    assert loose.identical[Kind.WEIGHT] == 5


def test_partitioned_variables_are_compared_by_their_slices(
    reads: Counter[tuple[str, str]],
) -> None:
    paths = [FIXTURES / f"runs/tf1-partitioned/model.ckpt-{step}" for step in (100, 120)]
    variables = open_checkpoint(str(paths[0])).variables
    assert variables["net/conv_2/kernel"].shape
    others = diff(*paths).comparison.others
    assert others.moved["net/conv_2/kernel"] is True
    assert len(reads) == 2 * 13


def test_the_rest_is_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bncheck.changes.weights._AT_ONCE", 100)
    weights = {f"net/w{n}": RNG.normal(size=20).astype(np.float32) for n in range(5)}
    old = InMemory(LAYER | weights)
    new = InMemory(LAYER | weights | {"net/w3": weights["net/w3"] + np.float32(1)})
    batches: list[int] = []
    read = new.read

    def counting(names: Any) -> Any:
        names = list(names)
        batches.append(len(names))
        return read(names)

    monkeypatch.setattr(new, "read", counting)
    comparison = compare(take_snapshot(old), take_snapshot(new))
    assert batches[1:] == [1] * 5  # the first is the layer's
    assert comparison.others.moved == {f"net/w{n}": n == 3 for n in range(5)}
    assert set(old.reads.values()) == {1}


def test_what_only_one_side_has_and_what_has_another_shape() -> None:
    old = InMemory(LAYER | {"net/w": np.ones(3, np.float32), "net/gone": np.ones(2, np.float32)})
    new = InMemory(LAYER | {"net/w": np.ones(4, np.float32), "net/fresh": np.ones(5, np.float32)})
    others = compare(take_snapshot(old), take_snapshot(new)).others
    assert (others.only_before, others.only_after) == (("net/gone",), ("net/fresh",))
    assert others.differ == {Kind.WEIGHT: 1}


def test_strings_and_integers() -> None:
    text = np.array([b"a", b"bc"], object)
    counts = np.arange(3)

    class Texts(InMemory):
        def __init__(self, arrays: Any) -> None:
            super().__init__(arrays)
            self.variables = {
                n: v._replace(dtype="string") if n == "net/words" else v
                for n, v in self.variables.items()
            }

    old = Texts(LAYER | {"net/words": text, "net/ids": counts})
    same = Texts(LAYER | {"net/words": text.copy(), "net/ids": counts.copy()})
    other = Texts(LAYER | {"net/words": text[::-1].copy(), "net/ids": counts + 1})
    assert compare(take_snapshot(old), take_snapshot(same)).others.differ == {}
    for tolerance in (0.0, 0.1):
        moved = compare(take_snapshot(old), take_snapshot(other), tolerance).others.moved
        assert moved == {"net/words": True, "net/ids": True}
