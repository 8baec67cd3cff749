"""GraphDefs and other graphs in one file: told by content, and as good as the .meta beside them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import text_format

from bncheck import inspect, load_graph
from bncheck.errors import BncheckError, DamagedError, NotACheckpointError, UnsupportedError
from bncheck.proto.graphs_pb2 import GraphDef, MetaGraphDef, NodeDef, SavedModel
from tests.commands import FIXTURES
from tests.graph.test_handmade import const, node

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from bncheck.graph.model import Graph

ESTIMATOR = FIXTURES / "tf1/estimator/run"
HEALTHY = FIXTURES / "tf1/healthy/model.ckpt-60.meta"
LIKE_META = ["healthy-resource", "partitioned", "v2-sharded", "slim-healthy", "half-of-updates"]


def binary(path: Path, message: Message) -> str:
    path.write_bytes(message.SerializeToString())
    return str(path)


def text(path: Path, message: Message) -> str:
    path.write_text(text_format.MessageToString(message), "utf-8")
    return str(path)


def meta_of(path: Path) -> MetaGraphDef:
    return MetaGraphDef.FromString(path.read_bytes())


def assert_alike(mine: Graph, meta: Graph) -> None:
    """What a GraphDef says is what its MetaGraphDef says."""
    assert mine.variables == meta.variables
    assert mine.saved_as == meta.saved_as
    assert mine.momentum == meta.momentum
    assert mine.epsilon == meta.epsilon
    assert mine.role == meta.role
    assert set(mine.collection("trainable")) == set(meta.collection("trainable"))


def test_the_graph_of_an_estimator() -> None:
    graph = load_graph(str(ESTIMATOR / "graph.pbtxt"))
    assert (graph.kind, graph.update_ops) == ("graph-def", 0)
    assert_alike(graph, load_graph(str(ESTIMATOR / "model.ckpt-60.meta")))


def test_the_graph_of_an_estimator_with_partitioned_slots(corpus: Path) -> None:
    run = corpus / "census-estimator-sharded"
    assert_alike(load_graph(str(run / "graph.pbtxt")), load_graph(f"{run}/model.ckpt-5000"))


@pytest.mark.parametrize("write", [binary, text])
@pytest.mark.parametrize("story", LIKE_META)
def test_the_nodes_alone_say_what_the_collections_do(
    tmp_path: Path, story: str, write: Any
) -> None:
    path = next((FIXTURES / "tf1" / story).rglob("*.meta"))
    graph = load_graph(write(tmp_path / "graph", meta_of(path).graph_def))
    meta = load_graph(str(path))
    assert graph.kind == "graph-def"
    assert_alike(graph, meta)


@pytest.mark.parametrize("name", ["m.meta", "m.pb", "m.txt", "saved_model.pb", "m"])
@pytest.mark.parametrize("write", [binary, text])
def test_the_content_tells_the_message(tmp_path: Path, name: str, write: Any) -> None:
    meta = meta_of(HEALTHY)
    path = tmp_path / name
    assert load_graph(write(path, meta)) == _from(load_graph(str(HEALTHY)), path)
    assert load_graph(write(path, meta.graph_def)).kind == "graph-def"
    model = SavedModel(saved_model_schema_version=1, meta_graphs=[meta])
    assert load_graph(write(path, model)).kind == "saved-model"


def _from(graph: Graph, path: Path) -> Graph:
    from dataclasses import replace

    return replace(graph, source=str(path))


def test_one_node_is_no_meta_info(tmp_path: Path) -> None:
    graph = GraphDef(node=[node("v", "VariableV2")])
    assert load_graph(binary(tmp_path / "g", graph)).kind == "graph-def"
    graph = GraphDef(node=[node("", "NoOp"), node("v" * 70_000, "NoOp")])
    assert load_graph(binary(tmp_path / "g", graph)).kind == "graph-def"
    meta = MetaGraphDef(graph_def=graph)
    meta.meta_info_def.tags.append("serve")
    assert load_graph(binary(tmp_path / "g", meta)).kind == "meta-graph"


def variable(name: str, op: str = "VarHandleOp", shared: str = "") -> NodeDef:
    made = node(name, op)
    made.attr["dtype"].type = 1
    made.attr["shape"].shape.dim.add().size = 2
    if shared:
        made.attr["shared_name"].s = shared.encode()
    return made


def save(name: str, tensors: list[str], names: list[str], slices: list[str]) -> list[NodeDef]:
    constants = [const(f"{name}/{part}") for part in ("names", "slices")]
    for each, strings in zip(constants, (names, slices), strict=True):
        each.attr["value"].tensor.string_val.extend(string.encode() for string in strings)
    inputs = ["file", *(each.name for each in constants), *tensors]
    return [*constants, node(f"{name}/SaveV2", "SaveV2", *inputs)]


def graph_of(tmp_path: Path, *nodes: NodeDef) -> Graph:
    return load_graph(binary(tmp_path / "g.pb", GraphDef(node=nodes)))


def test_resources_go_by_their_shared_names(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path,
        variable("import/x", shared="x"),
        variable("import/y"),
        variable("import/z", "VariableV2", shared="z"),
    )
    assert list(graph.variables) == ["x", "import/y", "import/z"]
    assert {each.shape for each in graph.variables.values()} == {(2,)}


def test_parts_are_joined_where_a_saver_tells_their_slices(tmp_path: Path) -> None:
    parts = [variable("x/part_0"), variable("x/part_1")]
    assert list(graph_of(tmp_path, *parts).variables) == ["x/part_0", "x/part_1"]
    tensors = [each.name for each in parts]
    graph = graph_of(tmp_path, *parts, *save("save", tensors, ["x"], ["4 0,2", "4 2,2"]))
    assert [(each.name, each.shape) for each in graph.variables.values()] == [("x", (4,))]
    assert graph.saved_as == {"x": "x"}


def test_of_two_savers_neither_is_the_graphs_own(tmp_path: Path) -> None:
    nodes = [variable("x"), *save("save", ["x"], ["x"], [""])]
    assert graph_of(tmp_path, *nodes).saved_as == {"x": "x"}
    assert graph_of(tmp_path, *nodes, *save("save_1", ["x"], ["y"], [""])).saved_as is None


def test_what_an_optimizer_updates_is_trainable(tmp_path: Path) -> None:
    nodes = [variable("x"), variable("m")]
    assert graph_of(tmp_path, *nodes).collection("trainable") == {}
    graph = graph_of(tmp_path, *nodes, node("step", "ResourceApplyMomentum", "x", "m"))
    assert list(graph.collection("trainable")) == ["x"]
    assert graph.role == "training"


def test_variables_of_functions_are_not_the_graphs(tmp_path: Path) -> None:
    graph = GraphDef(node=[variable("x"), node("call", "StatefulPartitionedCall")])
    graph.node[1].attr["f"].func.name = "f"
    function = graph.library.function.add()
    function.signature.name = "f"
    function.node_def.append(variable("inner"))
    assert list(load_graph(binary(tmp_path / "g", graph)).variables) == ["x"]


def test_what_initializes_is_known_only_where_it_is_there(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path,
        variable("x"),
        variable("y"),
        const("zeros", 0),
        node("x/Assign", "AssignVariableOp", "x", "zeros"),
    )
    known = [(each.initial, each.initial_known) for each in graph.variables.values()]
    assert known == [(0.0, True), (None, False)]


def test_a_frozen_graph_has_no_variables(tmp_path: Path) -> None:
    nodes = [const("mean", 0), node("bn", "FusedBatchNormV3", "x", "g", "b", "mean", "v")]
    graph = graph_of(tmp_path, *nodes)
    assert (graph.kind, dict(graph.variables)) == ("graph-def", {})


def test_unknown_fields_are_passed(tmp_path: Path) -> None:
    path = tmp_path / "g.pbtxt"
    path.write_text(
        '# made by hand\ndebug_info { files: "node {" }\n'
        'node { name: "x" op: "VariableV2" experimental_debug_info { original_node_names: "y" } '
        'attr { key: "dtype" value { type: DT_FLOAT } } device: "/cpu:0" }',
        "utf-8",
    )
    assert load_graph(str(path)).variables["x"].dtype == "float32"
    raw = GraphDef(node=[variable("x")]).SerializeToString() + b"\xc2\x3e\x01x\xf8\x07\x01"
    (tmp_path / "g.pb").write_bytes(raw)
    assert list(load_graph(str(tmp_path / "g.pb")).variables) == ["x"]


def test_attributes_that_are_passed_over_leave_the_lines_alone(tmp_path: Path) -> None:
    whole = (ESTIMATOR / "graph.pbtxt").read_text("utf-8")
    path = tmp_path / "graph.pbtxt"
    path.write_text(f"{whole}what is this", "utf-8")
    line = whole.count("\n") + 1
    with pytest.raises(DamagedError, match=rf"is no TensorFlow graph in text form \(line {line}\)"):
        load_graph(str(path))


def sparse(path: Path) -> None:
    with path.open("wb") as opened:
        opened.truncate(1 << 31)


@pytest.mark.parametrize(
    ("content", "kind", "what"),
    [
        (b"\x22\x02\x08\x1b", NotACheckpointError, "but no TensorFlow graph"),
        (b"versions { producer: 27 }", DamagedError, "without any nodes"),
        (b'node { name: "x"', DamagedError, r"in text form \(line 1\)"),
        (b"node { name: '\xff' }", DamagedError, "or it is cut off"),
        (b"node { name: '" + b"x" * 5000 + b"\xff' }", NotACheckpointError, "is no UTF-8"),
        (b"\x0a\x09\x0a\x01v\x12\x04NoOp"[:-1], DamagedError, "or it is cut off"),
        (b"PK\x03\x04", NotACheckpointError, "a zip archive that is damaged"),
    ],
)
def test_errors(tmp_path: Path, content: bytes, kind: type[BncheckError], what: str) -> None:
    path = tmp_path / "graph"
    path.write_bytes(content)
    with pytest.raises(BncheckError, match=what) as caught:
        load_graph(str(path))
    assert (type(caught.value), caught.value.path) == (kind, str(path))


def test_two_gigabytes(tmp_path: Path) -> None:
    sparse(tmp_path / "g.pb")
    with pytest.raises(UnsupportedError, match="larger than 2 GiB"):
        load_graph(str(tmp_path / "g.pb"))
    path = tmp_path / "g.pbtxt"
    sparse(path)
    with path.open("r+b") as opened:
        opened.write(b"node {" + b" " * 5000)
    with pytest.raises(UnsupportedError, match="text of more than 2 GiB") as caught:
        load_graph(str(path))
    assert "as_text=False" in caught.value.remedy


def test_cut_off_anywhere(tmp_path: Path) -> None:
    """A shorter message can be a valid one; whatever happens, only our own errors come out."""
    whole = meta_of(HEALTHY).graph_def.SerializeToString()
    path = tmp_path / "g.pb"
    refused = 0
    for size in range(1, len(whole), 997):
        path.write_bytes(whole[:size])
        try:
            load_graph(str(path))
        except BncheckError:
            refused += 1
    assert refused > 0.9 * (len(whole) // 997)


def without_meta(tmp_path: Path, source: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "run", ignore=shutil.ignore_patterns("*.meta")))


def test_an_estimators_graph_beside_its_checkpoint(tmp_path: Path) -> None:
    run = without_meta(tmp_path, ESTIMATOR)
    report = inspect(str(run))
    assert report.graph is not None
    assert report.graph.source == str(run / "graph.pbtxt")
    assert report.findings == ()
    assert [each.momentum for each in report.layers] == [0.9]
    # The graph that was saved with the checkpoint goes before it.
    own = inspect(str(ESTIMATOR)).graph
    assert own is not None
    assert own.source.endswith("model.ckpt-60.meta")


def test_a_directory_with_a_graph_alone(tmp_path: Path) -> None:
    shutil.copy(ESTIMATOR / "graph.pbtxt", tmp_path)
    assert load_graph(str(tmp_path)).kind == "graph-def"


@pytest.mark.tensorflow
def test_what_tensorflow_writes(tf: Any, tmp_path: Path) -> None:
    with tf.Graph().as_default() as built:
        variables = [
            tf.compat.v1.get_variable(f"bn/{name}", [3], trainable=name == "gamma", **how)
            for name, how in [("gamma", {}), ("moving_mean", {"use_resource": True})]
        ]
        tf.compat.v1.train.MomentumOptimizer(0.1, 0.9).minimize(variables[0] * variables[1])
        tf.compat.v1.train.Saver()
        expected = {each.op.name for each in tf.compat.v1.global_variables()}
    for as_text in (True, False):
        path = tf.io.write_graph(built, str(tmp_path), "graph", as_text=as_text)
        graph = load_graph(path)
        assert graph.kind == "graph-def"
        assert set(graph.variables) == expected
        assert list(graph.collection("trainable")) == ["bn/gamma"]
        assert graph.saved_as == {name: name for name in expected}
