"""Batch norms made of single ops, as they are found, and where ops lack inputs."""

from __future__ import annotations

import pytest

from bncheck.graph.dataflow import Dataflow
from bncheck.graph.normalizations import Use, find_uses
from bncheck.proto.graphs_pb2 import GraphDef
from tests.graph.graphs import graph

VARIABLES = """
    x = Placeholder()
    gamma = VariableV2()
    beta = VariableV2()
    mean = VariableV2()
    variance = VariableV2()
    epsilon = Const() {value=tensor { dtype: 1 float_val: 0.001 tensor_shape { } }}
    add = AddV2(variance, epsilon)
    sub = Sub(x, mean)
    """
# How the four meet: over a square root, multiplied one by one, and with the mean taken away later.
FORMS = {
    "divided": """
        sqrt = Sqrt(add)
        scaled = Mul(gamma, sub)
        div = RealDiv(scaled, sqrt)
        out = Add(div, beta)
        """,
    "divided-without-gamma": """
        sqrt = Sqrt(add)
        div = RealDiv(sub, sqrt)
        out = Add(div, beta)
        """,
    "multiplied": """
        rsqrt = Rsqrt(add)
        factor = Mul(rsqrt, gamma)
        scaled = Mul(sub, factor)
        out = Add(scaled, beta)
        """,
    "negative": """
        rsqrt = Rsqrt(add)
        negative = Neg(mean)
        factor = Mul(rsqrt, gamma)
        shift = Mul(negative, factor)
        total = AddV2(shift, beta)
        scaled = Mul(x, factor)
        out = AddV2(scaled, total)
        """,
}


def uses(message: GraphDef) -> list[Use]:
    return find_uses(Dataflow(message), [])


@pytest.mark.parametrize("form", FORMS)
def test_the_roles_of_each_form(form: str) -> None:
    (use,) = uses(graph(VARIABLES + FORMS[form].lstrip("\n")))
    expected = {"moving_mean": "mean", "moving_variance": "variance", "beta": "beta"}
    if form != "divided-without-gamma":
        expected["gamma"] = "gamma"
    assert use.roles == expected
    assert not use.batch


@pytest.mark.parametrize("form", FORMS)
def test_ops_without_all_of_their_inputs(form: str) -> None:
    """Such a graph cannot run, and whoever reads it says at most less about it."""
    whole = graph(VARIABLES + FORMS[form].lstrip("\n"))
    for number, node in enumerate(whole.node):
        for left in range(len(node.input)):
            cut = GraphDef()
            cut.CopyFrom(whole)
            del cut.node[number].input[left:]
            for use in uses(cut):
                assert set(use.roles.values()) <= {"gamma", "beta", "mean", "variance"}
