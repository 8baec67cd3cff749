"""The numbers of many vectors in one pass, against NumPy one by one."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bncheck.batchnorm.statistics import summarise

_SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@settings(max_examples=100, deadline=None)
@given(st.lists(arrays.arrays(np.float32, _SHAPES), max_size=6))
def test_each_summary_is_that_of_its_vector(vectors: list[np.ndarray]) -> None:
    for vector, summary in zip(vectors, summarise(vectors), strict=True):
        wide = vector.astype(np.float64)
        finite = wide[np.isfinite(wide)]
        assert summary.size == vector.size
        assert summary.nonfinite == vector.size - finite.size
        assert summary.zeros == int((wide == 0).sum())
        assert summary.negative_zeros == int(((wide == 0) & np.signbit(wide)).sum())
        if not finite.size:
            assert np.isnan([summary.minimum, summary.maximum, summary.mean, summary.std]).all()
            continue
        assert (summary.minimum, summary.maximum) == (finite.min(), finite.max())
        scale = np.abs(finite).max()
        assert summary.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-9 * scale)
        assert summary.std == pytest.approx(finite.std(), rel=1e-6, abs=1e-9 * scale)


def test_nothing_gives_nothing() -> None:
    assert summarise([]) == []


@pytest.mark.parametrize(
    ("vector", "value", "expected"),
    [
        (np.zeros(4, np.float32), 0.0, True),
        (np.ones((1, 1, 1, 4), np.float32), 1.0, True),
        (np.array([0.0, -0.0], np.float32), 0.0, False),  # no initializer writes -0
        (np.array([1.0, np.nextafter(np.float32(1), np.float32(2))], np.float32), 1.0, False),
        (np.array([0.0, 1e-45], np.float32), 0.0, False),
        (np.array([0.0, np.nan], np.float32), 0.0, False),
        (np.zeros(0, np.float32), 0.0, False),
        (np.ones(3, ml_dtypes.bfloat16), 1.0, True),
        (np.full(3, 0.1, np.float32), float(np.float32(0.1)), True),
    ],
)
def test_initial_means_bit_exactly_initial(
    vector: np.ndarray, value: float, expected: bool
) -> None:
    assert summarise([vector])[0].is_all(value) is expected
