"""Small graphs written in protobuf's text form, for what no fixture has."""

from __future__ import annotations

import re

from google.protobuf import text_format

from bncheck.graph.dataflow import Dataflow
from bncheck.proto.graphs_pb2 import GraphDef

_NODE = re.compile(r"(\S+) = (\w+)\(([^)]*)\)(?: \{(.*)\})?")


def node(line: str) -> str:
    """Return a node's text: `name = Op(input, input) {attribute: value, ...}`.

    An attribute's value is the text of an AttrValue; `b: true` is a bool.
    """
    match = _NODE.fullmatch(line.strip())
    assert match is not None, line
    name, op, inputs, attributes = match.groups()
    text = f'name: "{name}" op: "{op}"'
    text += "".join(f' input: "{each.strip()}"' for each in inputs.split(",") if each.strip())
    for attribute in filter(None, (attributes or "").split(";")):
        key, _, value = attribute.strip().partition("=")
        text += f' attr {{ key: "{key}" value {{ {value} }} }}'
    return text


def function(
    name: str,
    inputs: str,
    outputs: dict[str, str],
    body: str,
    controls: tuple[str, ...] = (),
) -> str:
    """Return a library function's text."""
    text = f'signature {{ name: "{name}"'
    text += "".join(f' input_arg {{ name: "{each}" }}' for each in inputs.split())
    text += "".join(f' output_arg {{ name: "{each}" }}' for each in outputs) + " }"
    text += "".join(f" node_def {{ {node(line)} }}" for line in body.strip().splitlines())
    text += "".join(f' ret {{ key: "{k}" value: "{v}" }}' for k, v in outputs.items())
    text += "".join(f' control_ret {{ key: "{each}" value: "{each}" }}' for each in controls)
    return f"function {{ {text} }}"


def graph(body: str, *functions: str) -> GraphDef:
    """Return a GraphDef of these nodes, one a line, and functions."""
    text = " ".join(f"node {{ {node(line)} }}" for line in body.strip().splitlines())
    return text_format.Parse(f"{text} library {{ {' '.join(functions)} }}", GraphDef())


def flow(body: str, *functions: str) -> Dataflow:
    """Return the same, ready to be walked."""
    return Dataflow(graph(body, *functions))
