"""Graphs as text: enums are names there, and strings may look like them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bncheck.checkpoint.dtypes import NAMES
from bncheck.errors import DamagedError, NotACheckpointError
from bncheck.graph.text_form import _FIELD, _TOKEN, read_text_message
from bncheck.proto.graphs_pb2 import MetaGraphDef


def read(tmp_path: Path, text: str) -> MetaGraphDef:
    path = tmp_path / "graph.pbtxt"
    path.write_text(text, "utf-8")
    return read_text_message(str(path), MetaGraphDef(), "graph")


def test_enums_are_numbers_and_strings_stay(tmp_path: Path) -> None:
    meta = read(
        tmp_path,
        """
        # type: DT_INT64
        saver_def { version: V2 filename_tensor_name: "version: V1" }
        graph_def { node { name: 'type: DT_HALF' attr { key: "T" value { type: DT_FLOAT } }
          attr { key: "\\"dtype: DT_BOOL"
            value { list { type: DT_DOUBLE_REF type: DT_NEWER } } } } }
        unknown_field: DT_FLOAT
        """,
    )
    assert meta.saver_def.version == 2
    assert meta.saver_def.filename_tensor_name == "version: V1"
    (node,) = meta.graph_def.node
    assert node.name == "type: DT_HALF"
    assert node.attr["T"].type == 1
    assert list(node.attr['"dtype: DT_BOOL'].list.type) == [102, 0]


@pytest.mark.tensorflow
def test_all_types_are_spelled_as_tensorflow_does(tf: Any, tmp_path: Path) -> None:
    from tensorflow.core.framework import types_pb2

    assert tf is not None
    for number in NAMES:
        name = types_pb2.DataType.Name(number)
        text = f'graph_def {{ node {{ attr {{ key: "T" value {{ type: {name} }} }} }} }}'
        assert read(tmp_path, text).graph_def.node[0].attr["T"].type == number, name


@pytest.mark.parametrize(
    ("text", "line"), [("graph_def {\n node [", " (line 2)"), ("\n\nwhat is this", " (line 3)")]
)
def test_what_is_no_such_text(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(DamagedError) as caught:
        read(tmp_path, text)
    assert caught.value.what == f"is no graph in text form{line}"


def test_deep_nesting_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="is no graph in text form"):
        read(tmp_path, "any { " * 100_000)
    path = tmp_path / "graph.pbtxt"
    path.write_bytes(b"graph_def { \xff }")
    with pytest.raises(NotACheckpointError, match="is no graph but a text that is no") as caught:
        read_text_message(str(path), MetaGraphDef(), "graph")
    assert caught.value.offset == 12


@pytest.mark.parametrize("text", ["a", " ", '\\"', "a:", "A", "{", "a: A"])
@pytest.mark.parametrize("before", ["", "a", '"', "a:"])
def test_a_text_is_gone_through_once(text: str, before: str) -> None:
    start = time.perf_counter()
    for expression in (_FIELD, _TOKEN):
        assert sum(1 for _ in expression.finditer(before + text * 100_000)) <= 100_001
    assert time.perf_counter() - start < 3


def test_an_attribute_that_does_not_end_takes_no_longer(tmp_path: Path) -> None:
    opened = 'node {\n  attr {\n    key: "_class"\n' + "        value { }\n" * 50
    start = time.perf_counter()
    with pytest.raises(DamagedError, match="is no graph in text form"):
        read(tmp_path, f"graph_def {{\n{opened}")
    assert time.perf_counter() - start < 3
