"""Text files of names as graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bncheck import inspect, load_graph
from bncheck.audit import Options
from bncheck.errors import NotACheckpointError
from tests.commands import FIXTURES

if TYPE_CHECKING:
    from bncheck.graph.model import Graph


def names(tmp_path: Path, text: str) -> Graph:
    path = tmp_path / "names.txt"
    path.write_text(text, "utf-8")
    return load_graph(str(path))


def test_names_shapes_and_types(tmp_path: Path) -> None:
    graph = names(
        tmp_path,
        "\ufeff# of the encoder\n"
        "net/bn/gamma:0\r\n"
        "  net/bn/beta [8] float32  # trained\n"
        "net/bn/moving_mean (DT_HALF_REF) [8]\n"
        "net/bn/moving_variance (8,)\n"
        "net/kernel [3, 3, -1, 64] tf.bfloat16\n"
        "global_step int64 []\n"
        "\n"
        "layer/gamma/.ATTRIBUTES/VARIABLE_VALUE\n"
        "net/bn/gamma\n",
    )
    assert graph.kind == "names"
    assert [(each.name, each.dtype, each.shape) for each in graph.variables.values()] == [
        ("net/bn/gamma", "", None),
        ("net/bn/beta", "float32", (8,)),
        ("net/bn/moving_mean", "float16", (8,)),
        ("net/bn/moving_variance", "", (8,)),
        ("net/kernel", "bfloat16", None),
        ("global_step", "int64", ()),
        ("layer/gamma/.ATTRIBUTES/VARIABLE_VALUE", "", None),
    ]
    assert list(graph.collection("global")) == list(graph.variables)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a/b\nThis is prose.\n", r"\(line 2: 'This is prose.'\)"),
        ("a/b [8] float99", "line 1"),
        ("a/b [x]", "line 1"),
        ("import os", "line 1"),
        ("x = 1", "line 1"),
        ("name: value", "line 1"),
        ("# nothing\n\n", "without any names"),
        ("a [8]\nb\na [9]", "line 3 says otherwise of a"),
        ("<b>", "line 1"),
        ("a/b [" + "9" * 5000 + "]", "line 1"),
        ("a/b [" + " " * 100_000 + "x", r"\(line 1: 'a/b \[ x'\)"),
    ],
)
def test_what_is_no_list_of_names(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(NotACheckpointError, match=what) as caught:
        names(tmp_path, text)
    assert caught.value.path == str(tmp_path / "names.txt")


@pytest.mark.parametrize("text", ['["a/b"]', '{"a": 1}', "<html>"])
def test_other_texts_are_called_by_their_names(tmp_path: Path, text: str) -> None:
    with pytest.raises(NotACheckpointError, match="is no TensorFlow graph but a"):
        names(tmp_path, text)


def test_matched_with_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "names"
    roles = ("gamma", "beta", "moving_mean", "moving_variance", "renamed")
    path.write_text("".join(f"net/bn_in/{role}:0\n" for role in roles), "utf-8")
    report = inspect(str(FIXTURES / "tf1/healthy/model.ckpt-60"), Options(graph=str(path)))
    assert report.assignment is not None
    assert sorted(report.assignment.matched) == sorted(f"net/bn_in/{r}" for r in roles[:-1])
    assert report.assignment.graph_only == ("net/bn_in/renamed",)
