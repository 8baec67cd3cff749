"""Graphs in text form, and lists of names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import text_format

from bncheck.graph.text_form import ENUMS
from bncheck.proto.graphs_pb2 import SavedModel
from fuzz.seeds import contents, small_meta_graph
from fuzz.target import Target
from fuzz.targets.graph_file import read_graph

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = """\
# of the encoder
net/bn/gamma:0
net/bn/beta (DT_FLOAT) [8]
net/bn/moving_mean [8] float32
net/bn/moving_variance\tfloat32\t[None, 3]
"""


def _seeds() -> Iterator[bytes]:
    yield _NAMES.encode()
    meta = small_meta_graph()
    yield str(meta.graph_def).encode()
    yield str(meta).encode()
    yield str(SavedModel(saved_model_schema_version=1, meta_graphs=[meta])).encode()
    yield text_format.MessageToString(meta, as_one_line=True).encode()
    yield from contents("tf1/serving-frozen/*.pbtxt")


TARGET = Target(
    "graph_text",
    read_graph,
    _seeds,
    tokens=(
        "node {", "name:", "op:", "input:", "attr {", "key:", "value {", "library {", "function {",
        "signature {", "meta_graphs {", "collection_def {", "saved_model_schema_version:", "}",
        "<", ">", "#", '"', "'", "\\\\", "\\n", "DT_FLOAT_REF", "[type.googleapis.com/x]", "-1",
        "[", "]", "None", "?", "float32", *list(ENUMS)[:8],
    ),
    longest=1 << 14,
)  # fmt: skip
