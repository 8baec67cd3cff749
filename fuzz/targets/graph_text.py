"""Graphs in text form, and lists of names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import text_format

from bncheck.graph.text_form import ENUMS
from fuzz.seeds import contents
from fuzz.target import Target
from fuzz.targets.graph_file import read_graph
from tests.graph.graphs import function, graph

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = """\
# of the encoder
net/bn/gamma:0
net/bn/beta (DT_FLOAT) [8]
net/bn/moving_mean [8] float32
net/bn/moving_variance\tfloat32\t[None, 3]
"""
_VARIABLES = r"""
collection_def { key: "variables" value { bytes_list {
  value: "\n\016net/bn/gamma:0" value: "\n\024net/bn/moving_mean:0" } } }
"""


def _seeds() -> Iterator[bytes]:
    yield _NAMES.encode()
    body = """
        net/bn/gamma = VariableV2() {dtype=type: 1; shape=shape { dim { size: 3 } }}
        net/bn/moving_mean = VarHandleOp() {shared_name=s: "net/bn/moving_mean"; dtype=type: 1}
        x = Placeholder()
        read = Identity(net/bn/gamma)
        norm = FusedBatchNormV3(x, read, read, read, read) {is_training=b: true}
        call = PartitionedCall(norm:1) {f=func { name: "update" }}
        """
    text = str(graph(body, function("update", "m", {"out": "one:output:0"}, "one = Identity(m)")))
    yield text.encode()
    meta = f"graph_def {{ {text} }} {_VARIABLES}"
    yield meta.encode()
    yield f"saved_model_schema_version: 1 meta_graphs {{ {meta} }}".encode()
    yield text_format.MessageToString(graph(body), as_one_line=True).encode()
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
