"""The step: which counters count, and which values are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bncheck.batchnorm.others import step_of
from bncheck.checkpoint.model import Values


def step(*arrays: Any) -> int | None:
    values = Values({str(index): np.asarray(array) for index, array in enumerate(arrays)})
    return step_of(values, [*values.arrays, "unread"])


@pytest.mark.parametrize("counter", [np.int64(7), np.int32(7), np.uint64(7), 7.0, np.float16(7)])
def test_a_whole_number_is_a_step(counter: Any) -> None:
    assert step(counter) == 7


@pytest.mark.parametrize(
    "counter",
    [
        np.array([1, 2]),
        np.array([7]),
        np.zeros((0,), np.int64),
        b"7",
        np.array(b"7", object),
        np.nan,
        np.inf,
        7.5,
        7 + 0j,
        True,
    ],
)
def test_anything_else_is_none(counter: Any) -> None:
    assert step(counter) is None
    assert step(counter, np.int64(3)) == 3


def test_counters_that_disagree_tell_nothing() -> None:
    assert step(1, 1.0) == 1
    assert step(1, 2) is None
    assert step() is None
