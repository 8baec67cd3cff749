"""Graphs: files that are none, SavedModels, lists of names, and programs that fail."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from bncheck import limits
from bncheck.proto.graphs_pb2 import SavedModel
from tests.checkpoint.test_locate_errors import files
from tests.errors.case import Case, Write, inspecting
from tests.graph.test_handmade import ERRORS as OF_META
from tests.graph.test_handmade import meta_graph, node
from tests.graph.test_python_module import FAILING
from tests.writers import write_bundle
from tests.writers.objects import normalization, write_objects

TENSORS = {f"bn/{role}": np.full(3, 0.5) for role in ("moving_mean", "moving_variance")}
GRAPH = inspecting("m", "--graph", "graph")


def beside(write: Write) -> Write:
    """Write a graph, and a checkpoint that is whole."""

    def make(path: Path) -> None:
        write(path)
        write_bundle(path.parent / "m", TENSORS)

    return make


def graph(content: bytes) -> Case:
    return Case(beside(lambda path: path.write_bytes(content)), "graph", GRAPH)


def large(start: bytes) -> Case:
    def write(path: Path) -> None:
        path.write_bytes(start)
        os.truncate(path, limits.LARGEST_GRAPH + 1)

    return Case(beside(write), "graph", GRAPH)


def saved_model(name: str, content: bytes, **others: bytes) -> Case:
    """Write a SavedModel whose variables are whole."""

    def write(folder: Path) -> None:
        files({f"m/{name}": content})(folder)
        files({f"m/{other.replace('__', '.')}": data for other, data in others.items()})(folder)
        (folder / "m/variables").mkdir()
        write_objects(folder / "m/variables/variables", normalization("bn"))

    return Case(write, "", inspecting("m"))


def of_many_graphs() -> bytes:
    model = SavedModel()
    for _ in range(limits.MOST_META_GRAPHS + 1):
        model.meta_graphs.add()
    return model.SerializeToString()


def with_metadata(text: str) -> bytes:
    """Return a SavedModel whose object graph has one Keras layer with that configuration."""
    model = SavedModel()
    objects = model.meta_graphs.add().object_graph_def
    user = objects.nodes.add().user_object
    user.identifier, user.metadata = "_tf_keras_layer", text
    return model.SerializeToString()


UNLISTED = meta_graph(node("v", "VariableV2"), variables=[]).SerializeToString()
MESSAGE = b"\x1a\x02\x0a\x00"  # the field 3 of a message that holds an empty one

FILES = {
    "a prefix": Case(beside(lambda _: None), "x", inspecting("m", "--graph", "x.meta")),
    "a message of no graph": graph(MESSAGE),
    "no nodes": graph(b"versions { producer: 1 }\n"),
    "variables that are not listed": graph(UNLISTED),
    "text of 2 GiB": large(b"node {" + b" " * 5000),
    "a text that is cut off": graph(b"node {\n  name: 'v'\n"),
    "a text that is no UTF-8": graph(b"node { name: '" + b"x" * 5000 + b"\xff' }"),
    "no list of names": graph(b"net/bn/gamma\nThis is prose.\n"),
    "names that contradict each other": graph(b"a [8]\nb\na [9]\n"),
    "no names": graph(b"# nothing\n"),
}
SAVED_MODELS = {
    "chunks": saved_model("saved_model.cpb", b"\x08\x01"),
    "another message": saved_model("saved_model.pb", MESSAGE),
    "cut off": saved_model("saved_model.pb", b"\x12\x05\x0a"),
    "more graphs than uses": saved_model("saved_model.pb", of_many_graphs()),
    "a text that is none": saved_model("saved_model.pbtxt", b"meta_graphs [\n"),
    "a configuration that is no JSON": saved_model("saved_model.pb", with_metadata("{")),
    "metadata that is none": saved_model(
        "saved_model.pb", with_metadata("{}"), keras_metadata__pb=b"\x0a\xff"
    ),
}

TENSORFLOW = """
import contextlib
class Graph:
    def as_default(self): return contextlib.nullcontext(self)
    def get_operations(self): return []
class Variable: pass
"""


def program(called: str, tensorflow: str = TENSORFLOW, **modules: str) -> Case:
    """Write a program, and something that is TensorFlow enough for it to fail."""

    def write(folder: Path) -> None:
        texts = {"tensorflow": tensorflow, "failing": FAILING, **modules}
        files({f"{name}.py": text.encode() for name, text in texts.items()})(folder)
        write_bundle(folder / "m", TENSORS)

    return Case(write, "", inspecting("m", "--graph", called))


def child(says: bytes) -> Case:
    """Let the process that runs a program say this."""
    text = f"import os, sys\nos.write(int(sys.argv[4]), {says!r})\n"

    def write(folder: Path) -> None:
        files({"child.py": text.encode()})(folder)
        write_bundle(folder / "m", TENSORS)

    return Case(
        write,
        "",
        inspecting("m", "--graph", "a.program:function"),
        patches={"bncheck.graph.python_module._CHILD": "child.py"},
    )


PROGRAMS = {
    "no module": program("absent:f"),
    "no function": program("failing:absent"),
    "raises": program("failing:raises"),
    "builds nothing": program("failing:nothing"),
    "crashes": program("failing:crashes"),
    "ends": program("failing:ends"),
    "hangs": Case(
        program("failing:hangs").write,
        "",
        inspecting("m", "--graph", "failing:hangs"),
        patches={"bncheck.graph.python_module._SECONDS": 0.7},
    ),
    "a time that is none": Case(
        program("failing:nothing").write,
        "",
        inspecting("m", "--graph", "failing:nothing"),
        environment={"BNCHECK_GRAPH_TIMEOUT": "soon"},
    ),
    "no TensorFlow": program("failing:raises", "raise ImportError('gone')\n"),
    "cannot be imported": program("broken:f", broken="import nowhere\n"),
    "no graph": child(json.dumps({}).encode() + b"\n\x12\xff"),
    "no nodes": child(json.dumps({}).encode() + b"\n"),
}
CASES = {
    **{
        f"graph: {name}": Case(beside(write), "m.meta", inspecting("m", "--graph", "m.meta"))
        for name, (write, *_) in OF_META.items()
    },
    **{
        f"graph beside: {name}": Case(beside(OF_META[name][0]), "m.meta")
        for name in ("cut off", "another message", "text")
    },
    **{f"graph file: {name}": case for name, case in FILES.items()},
    **{f"SavedModel: {name}": case for name, case in SAVED_MODELS.items()},
    **{f"program: {name}": case for name, case in PROGRAMS.items()},
}
