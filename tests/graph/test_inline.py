"""Function calls written out: values, effects and conditions keep their ways."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bncheck import limits
from bncheck.graph.conditions import branches_of, decide, is_taken, sources
from bncheck.graph.dataflow import Dataflow
from bncheck.graph.inline import Branch, enclosing_calls, label
from tests.graph.graphs import flow, function, graph

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from bncheck.graph.inline import Node

READ = function(
    "read", "handle x", {"out": "value:value:0", "same": "x"}, "value = ReadVariableOp(handle)"
)


def names(found: Iterable[Node]) -> list[str]:
    return [node.name for node in found]


def test_a_call_gives_out_what_its_function_returns() -> None:
    dataflow = flow(
        """
        v = VarHandleOp()
        x = Placeholder()
        call = PartitionedCall(v, x) {f=func { name: "read" }}
        first = Identity(call)
        second = Identity(call:1)
        """,
        READ,
    )
    assert dataflow.variables_behind("first") == {"v"}
    assert dataflow.variables_behind("call:0") == {"v"}
    assert [s.node.name for s in sources(dataflow, "second")] == ["x"]
    assert "call|value" in dataflow.nodes
    assert (label("call|value"), enclosing_calls("a|b|c")) == ("value", ["a", "a|b"])


def test_calls_within_calls() -> None:
    outer = function(
        "outer",
        "handle x",
        {"out": "inner:output:0"},
        'inner = StatefulPartitionedCall(handle, x) {f=func { name: "read" }}',
    )
    dataflow = flow(
        """
        v = VarHandleOp()
        x = Placeholder()
        call = PartitionedCall(v, x) {f=func { name: "outer" }}
        out = Identity(call)
        """,
        outer,
        READ,
    )
    assert dataflow.variables_behind("out") == {"v"}
    assert "call|inner|value" in dataflow.nodes


def test_a_function_as_an_op() -> None:
    dataflow = flow("v = VarHandleOp()\nx = Placeholder()\nout = read(v, x)", READ)
    assert dataflow.variables_behind("out") == {"v"}


def test_effects_run_with_the_call() -> None:
    write = function(
        "write",
        "handle x",
        {"out": "x"},
        "update = AssignVariableOp(handle, x)\nunused = NoOp()",
        controls=("update",),
    )
    dataflow = flow(
        """
        v = VarHandleOp()
        x = Placeholder()
        call = StatefulPartitionedCall(v, x) {f=func { name: "write" }}
        out = Identity(call)
        waits = NoOp(^call)
        """,
        write,
    )
    for start in ("out", "waits"):
        reached = set(names(dataflow.ancestors([start])))
        assert "call|update" in reached, start
        assert "call|unused" not in reached, start
    assert "call|update" not in names(dataflow.ancestors(["out"], data_only=True))


def test_without_control_outputs_assignments_are_effects() -> None:
    write = function("write", "handle x", {"out": "x"}, "update = AssignVariableOp(handle, x)")
    dataflow = flow("v = VarHandleOp()\nx = Placeholder()\nout = write(v, x)", write)
    assert "out|update" in names(dataflow.ancestors(["out"]))


CONDITION = """
v = VarHandleOp()
w = VarHandleOp()
choice = PlaceholderWithDefault(default)
default = Const() {value=tensor { dtype: 10 bool_val: %s }}
if = If(choice, v, w) {then_branch=func { name: "then" };else_branch=func { name: "else" }}
out = Identity(if)
"""
THEN = function("then", "a b", {"out": "read:value:0"}, "read = ReadVariableOp(a)")
ELSE = function("else", "a b", {"out": "read:value:0"}, "read = ReadVariableOp(b)")


def test_both_sides_of_a_condition() -> None:
    for default in (True, False):
        dataflow = flow(CONDITION % str(default).lower(), THEN, ELSE)
        assert dataflow.variables_behind("out") == {"v", "w"}
        then, other = dataflow.nodes["if|then|read"], dataflow.nodes["if|else|read"]
        assert branches_of(dataflow, then) == [Branch("choice", value=True)]
        assert branches_of(dataflow, other) == [Branch("choice", value=False)]
        assert is_taken(dataflow, branches_of(dataflow, then)) is default
        assert is_taken(dataflow, branches_of(dataflow, other)) is not default


def test_switches_are_conditions_too() -> None:
    dataflow = flow(
        """
        x = Placeholder()
        fed = Placeholder()
        no = LogicalNot(fed)
        never = Const() {value=tensor { dtype: 10 }}
        and = LogicalAnd(fed, never)
        or = LogicalOr(fed, never)
        left = Switch(x, no)
        right = Switch(x, and)
        a = Relu(left:1)
        b = Relu(right:1)
        c = Relu(right)
        """
    )
    assert branches_of(dataflow, dataflow.nodes["a"]) == [Branch("no", value=True)]
    assert decide(dataflow, "no") is None
    assert decide(dataflow, "and") is False
    assert decide(dataflow, "or") is None
    assert is_taken(dataflow, branches_of(dataflow, dataflow.nodes["a"])) is None
    assert is_taken(dataflow, branches_of(dataflow, dataflow.nodes["b"])) is False
    assert is_taken(dataflow, branches_of(dataflow, dataflow.nodes["c"])) is True


def test_a_loop_gives_out_its_start_or_its_last_turn() -> None:
    body = function("body", "i v", {"i": "i", "v": "read:value:0"}, "read = ReadVariableOp(v)")
    cond = function("cond", "i v", {"go": "less:z:0"}, "less = Less(i, i)")
    dataflow = flow(
        """
        i = Const()
        v = VarHandleOp()
        loop = While(i, v) {body=func { name: "body" };cond=func { name: "cond" }}
        out = Identity(loop:1)
        """,
        body,
        cond,
    )
    assert dataflow.variables_behind("out") == {"v"}
    assert {s.node.name for s in sources(dataflow, "loop")} == {"i"}


def test_what_calls_itself_ends() -> None:
    again = function("again", "x", {"out": "more:0"}, "more = again(x)")
    dataflow = flow("x = Placeholder()\nout = again(x)", again)
    assert len(dataflow.nodes) < 1000
    # Two calls in each would double without end.
    twice = function("twice", "x", {"out": "a:0"}, "a = twice(x)\nb = twice(x)")
    start = time.perf_counter()
    assert len(Dataflow(graph("x = Placeholder()\nout = twice(x)", twice)).nodes) < 510_000
    assert time.perf_counter() - start < 60


def test_functions_that_are_not_there_stay_calls() -> None:
    dataflow = flow('x = Placeholder()\nout = PartitionedCall(x) {f=func { name: "gone" }}')
    assert dataflow.nodes["out"].op == "PartitionedCall"
    assert names(dataflow.ancestors(["out"]))[0] == "out"


def test_two_sides_that_are_one_function_end() -> None:
    """Their nodes have the same names, so that what is there does not grow with what is done."""
    sides = 'If(x) {then_branch=func { name: "f" }; else_branch=func { name: "f" }}'
    dataflow = flow(f"x = Placeholder()\nout = {sides}", function("f", "x", {}, f"n = {sides}"))
    assert len(dataflow.nodes) < 1000


def test_names_are_written_out_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = function("inner", "x", {"out": "a:0"}, "a = Neg(x)\nb = Neg(a)")
    graph_text = "x = Placeholder()\nlong_name = inner(x)\nout = inner(x)"
    letters = len("outinner") * 4  # two nodes of an input each
    monkeypatch.setattr(limits, "LONGEST_INLINED", letters)
    assert {"out|a", "long_name"} <= set(flow(graph_text, inner).nodes)
    assert "long_name|a" not in flow(graph_text, inner).nodes
    monkeypatch.setattr(limits, "LONGEST_INLINED", letters - 1)
    assert set(flow(graph_text, inner).nodes) == {"x", "long_name", "out"}
