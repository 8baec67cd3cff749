"""What decides between the batch's statistics and the averages, in hand-written batch norm."""

from __future__ import annotations

import pytest

from bncheck.graph.layers import Program, find_layers
from tests.graph.graphs import flow

_TRUE = "{value=tensor { dtype: 10 bool_val: true }}"
_FALSE = "{value=tensor { dtype: 10 bool_val: false }}"
_ONE = "{value=tensor { dtype: 1 float_val: 1 }}"

BATCH_NORM = """
x = Placeholder()
axes = Const() {value=tensor { dtype: 3 int_val: 0 tensor_shape { dim { size: 1 } } }}
mean = Mean(x, axes)
squares = SquaredDifference(x, mean)
variance = Mean(squares, axes)
moving_mean = VariableV2()
moving_variance = VariableV2()
gamma = VariableV2()
beta = VariableV2()
epsilon = Const() {value=tensor { dtype: 1 float_val: 0.001 }}
add = Add(v, epsilon)
root = Rsqrt(add)
scale = Mul(root, gamma)
scaled = Mul(x, scale)
shift = Mul(m, scale)
offset = Sub(beta, shift)
y = Add(scaled, offset)
"""
SELECTED = """
v = Select(each, variance, moving_variance)
m = Select(each, mean, moving_mean)
each = Fill(channels, phase)
channels = Const() {value=tensor { dtype: 3 int_val: 4 tensor_shape { dim { size: 1 } } }}
"""
MULTIPLIED = f"""
factor = Cast(phase)
one = Const() {_ONE}
rest = Sub(one, factor)
v1 = Mul(factor, variance)
v2 = Mul(rest, moving_variance)
v = Add(v1, v2)
m1 = Mul(factor, mean)
m2 = Mul(rest, moving_mean)
m = Add(m1, m2)
"""
STRINGS = """
mode = Const() {value=tensor { dtype: 7 string_val: "%s" }}
fed = PlaceholderWithDefault(mode)
train = Const() {value=tensor { dtype: 7 string_val: "train" }}
phase = %s(fed, train)
"""


def _serves(text: str) -> list[str]:
    found = flow(text)
    program = Program({name: name for name in found.nodes}, steps=(), signatures=[["y:0"]])
    return [layer.serves for layer in find_layers(found, program)]


@pytest.mark.parametrize("chosen", [SELECTED, MULTIPLIED], ids=["selected", "multiplied"])
@pytest.mark.parametrize(
    ("phase", "serves"),
    [
        (f"phase = Const() {_TRUE}", "batch"),
        (f"phase = Const() {_FALSE}", "moving"),
        (f"told = Const() {_FALSE}\nphase = PlaceholderWithDefault(told)", "moving"),
        (f"told = Const() {_TRUE}\nphase = PlaceholderWithDefault(told)", "batch"),
        (STRINGS % ("train", "Equal"), "batch"),
        (STRINGS % ("test", "Equal"), "moving"),
        (STRINGS % ("test", "NotEqual"), "batch"),
        ("phase = VariableV2()", "untold"),
    ],
)
def test_the_phase_decides(chosen: str, phase: str, serves: str) -> None:
    text = "\n".join((BATCH_NORM.strip(), chosen.strip(), phase.strip()))
    if chosen is MULTIPLIED:
        # A comparison's outcome is not multiplied out, and an average in a sum is no use of it.
        serves = "untold" if "Equal" in phase else serves.replace("moving", "")
    assert _serves(text) == [serves]


def test_a_placeholder_that_has_to_be_fed() -> None:
    text = "\n".join((BATCH_NORM.strip(), SELECTED.strip(), "phase = Placeholder()"))
    assert _serves(text) == ["undecided"]


def test_standardized_weights_are_no_batch() -> None:
    standardized = "v = Identity(variance)\nm = Identity(mean)"
    text = "\n".join((BATCH_NORM.strip(), standardized))
    assert _serves(text) == ["batch"]
    weights = text.replace("x = Placeholder()", "kernel = VariableV2()\nx = Identity(kernel)")
    assert _serves(weights) == []
    frozen = weights.replace("VariableV2()", f"Const() {_ONE}")
    assert _serves(frozen) == []
