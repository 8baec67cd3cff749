"""SavedModels and other checkpoints as graphs: their variables, roles, layers' configurations."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bncheck import inspect, load_graph, open_checkpoint
from bncheck.audit import Options
from bncheck.checkpoint import locate
from bncheck.checkpoint.location import Kind
from bncheck.errors import (
    DamagedError,
    NotACheckpointError,
    NotFoundError,
    UnsupportedError,
)
from bncheck.graph import saved_model
from bncheck.proto.graphs_pb2 import SavedModel
from tests.commands import FIXTURES
from tests.writers.bundle import write_bundle
from tests.writers.objects import VALUE, Obj, normalization, write_objects

KERAS2 = FIXTURES / "keras2/trained/saved_model"
KERAS3 = FIXTURES / "keras3/trained/saved_model"
TF1 = FIXTURES / "tf1/saved-model-two-graphs/model"
LAYERS = {"bn_in", "bn_out"}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/saved_model.pb",
        "/variables",
        "/variables/variables",
        "/variables/variables.index",
        "/variables/variables.data-00000-of-00001",
    ],
)
def test_every_path_into_a_saved_model_means_the_model(path: str) -> None:
    location = locate(f"{KERAS2}{path}")
    assert location.kind is Kind.SAVED_MODEL
    assert location.prefix.rstrip("/") == str(KERAS2)
    report = inspect(f"{KERAS2}{path}")
    assert report.format == "saved-model"
    assert {layer.name for layer in report.layers} == LAYERS
    assert report.graph is not None
    assert report.graph.source.endswith("/saved_model.pb")


def test_relative_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(KERAS2)
    assert locate(".") == locate("./")._replace(prefix=".")
    assert locate("variables/variables").prefix == "."
    assert locate("saved_model.pb").prefix == "."
    monkeypatch.chdir(KERAS2 / "variables")
    assert locate("variables").prefix == ".."
    assert locate("variables.index").prefix == ".."


def test_keras_2_describes_its_layers() -> None:
    graph = load_graph(str(KERAS2))
    assert (graph.kind, graph.role) == ("saved-model", "serving")
    batch_norm = {
        name: config
        for name, config in graph.configs.items()
        if config.class_name == "BatchNormalization"
    }
    assert {name.rpartition("/.ATTRIBUTES")[0] for name in batch_norm} == {
        f"layer_with_weights-{layer}/{role}"
        for layer in (1, 3)
        for role in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    assert {(c.momentum, c.epsilon, c.trainable) for c in batch_norm.values()} == {
        (0.9, 0.001, True)
    }
    assert [(each.momentum, each.epsilon) for each in inspect(str(KERAS2)).layers] == [
        (0.9, 0.001)
    ] * 2


def test_statistics_are_not_trainable() -> None:
    for path in (KERAS2, KERAS3):
        graph = load_graph(str(path))
        trainable = graph.collection("trainable")
        statistics = [name for name in graph.variables if "/moving_" in name]
        assert len(statistics) == 4
        assert trainable
        assert not set(statistics) & set(trainable)


@pytest.mark.parametrize("path", [KERAS2, KERAS3, KERAS3.parent / "export"])
def test_every_variable_of_the_graph_is_in_its_own_bundle(path: Path) -> None:
    report = inspect(str(path))
    assert report.assignment is not None
    assert report.assignment.graph_only == ()
    assert report.assignment.checkpoint_only == ()
    assert set(report.graph_used.values()) == {"from-checkpoint"}


def test_trainable_map_of_a_saved_model_drops_the_statistics() -> None:
    report = inspect(str(KERAS2), Options(collection="trainable"))
    assert [(f.rule.code, f.layer) for f in report.findings] == [
        ("BN403", "bn_in"),
        ("BN403", "bn_out"),
    ]


def test_serving_and_training_graphs_of_tensorflow_1_are_one() -> None:
    """The serving graph restores, the training graph knows momentum and update ops."""
    model = SavedModel.FromString((TF1 / "saved_model.pb").read_bytes())
    assert [list(meta.meta_info_def.tags) for meta in model.meta_graphs] == [["train"], ["serve"]]
    graph = load_graph(str(TF1))
    assert graph.role == "serving"
    assert graph.update_ops == 4
    assert set(graph.momentum.values()) == {0.9}
    layers = inspect(str(TF1)).layers
    assert [(each.name, each.momentum, each.epsilon) for each in layers] == [
        ("net/bn_in", 0.9, 0.001),
        ("net/bn_out", 0.9, 0.001),
    ]


def test_as_the_graph_of_a_keras_file_and_of_a_checkpoint() -> None:
    """Names, paths of objects and full names: whichever both sides have."""
    story = FIXTURES / "keras3/trained"
    forms = ["checkpoint", "saved_model", "export", "model.keras", "model.h5", "model.weights.h5"]
    for form in forms:
        for graph in forms:
            report = inspect(str(story / form), Options(graph=str(story / graph)))
            assert {each.name for each in report.layers} == LAYERS, (form, graph)
            assert report.findings == (), (form, graph)
            assert set(report.graph_used.values()) == {"from-checkpoint"}, (form, graph)


def test_another_model_as_the_graph() -> None:
    other = FIXTURES / "keras3/nested/checkpoint"
    report = inspect(str(FIXTURES / "keras3/trained/model.keras"), Options(graph=str(other)))
    found = {(finding.rule.code, finding.layer) for finding in report.findings}
    assert {code for code, _ in found} >= {"BN401", "BN404"}
    assert report.exit_code == 1


def test_objects_match_by_path_where_their_names_differ(tmp_path: Path) -> None:
    mine = write_objects(tmp_path / "mine", Obj({"net": Obj({"bn": normalization("one/bn")})}))
    same = write_objects(tmp_path / "same", Obj({"net": Obj({"bn": normalization("two/bn")})}))
    report = inspect(mine, Options(graph=same))
    assert report.findings == ()
    assert report.assignment is not None
    assert report.assignment.matched[f"net/bn/gamma{VALUE}"] == f"net/bn/gamma{VALUE}"
    # By full name, where the paths differ.
    moved = write_objects(tmp_path / "moved", Obj({"model": normalization("one/bn")}))
    report = inspect(mine, Options(graph=moved))
    assert report.findings == ()
    assert report.assignment is not None
    assert report.assignment.matched[f"net/bn/gamma{VALUE}"] == f"model/gamma{VALUE}"


def test_a_name_based_checkpoint_is_a_graph_too() -> None:
    healthy = str(FIXTURES / "tf1/healthy/model.ckpt-60")
    graph = load_graph(str(FIXTURES / "tf1/state-file-good"))
    assert graph.kind == "checkpoint"
    assert set(graph.variables) == set(open_checkpoint(graph.source).variables)
    report = inspect(graph.source, Options(graph=str(FIXTURES / "tf1/state-file-good")))
    assert report.findings == ()
    report = inspect(healthy, Options(graph=graph.source))
    assert {finding.rule.code for finding in report.findings} == {"BN401", "BN404"}


def test_a_checkpoint_does_not_say_what_is_trainable() -> None:
    options = Options(graph=str(FIXTURES / "tf1/state-file-good"), collection="trainable")
    with pytest.raises(UnsupportedError, match="does not say which variables are trainable"):
        inspect(str(FIXTURES / "tf1/healthy"), options)


def copied(tmp_path: Path, source: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "model"))


def test_without_variables(tmp_path: Path) -> None:
    model = copied(tmp_path, KERAS2)
    shutil.rmtree(model / "variables")
    with pytest.raises(NotFoundError, match="has no variables here") as caught:
        inspect(str(model))
    assert caught.value.path == f"{model}/variables/variables.index"


def test_a_missing_shard(tmp_path: Path) -> None:
    model = copied(tmp_path, KERAS2)
    next((model / "variables").glob("*.data-*")).unlink()
    report = inspect(str(model))
    assert report.exit_code == 3
    # Without the object graph, which is in the data file, the keys tell the layers.
    assert [(each.name, each.status.value) for each in report.layers] == [
        ("layer_with_weights-1", "unreadable"),
        ("layer_with_weights-3", "unreadable"),
    ]
    assert report.skipped[0].what == "_CHECKPOINTABLE_OBJECT_GRAPH"
    assert "this data file is missing" in report.skipped[0].reason


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("saved_model.pb", b"\xff\xff", "is no SavedModel, or it is cut off"),
        ("saved_model.pb", b"", "is no SavedModel but an empty file"),
        ("saved_model.pb", b"\x08\x01", "is a protobuf message, but no SavedModel"),
        ("keras_metadata.pb", b"\xff\xff", "is no Keras metadata, or it is cut off"),
        (
            "keras_metadata.pb",
            b"\x0a\x14\x22\x0f_tf_keras_layer\x2a\x01{",
            "the configuration of a layer is no valid JSON",
        ),
    ],
)
def test_a_damaged_graph_is_said_and_its_variables_are_judged(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    model = copied(tmp_path, KERAS2)
    (model / name).write_bytes(content)
    report = inspect(str(model))
    assert report.exit_code == 3
    assert any(reason in each.reason for each in report.skipped), report.skipped
    assert [(each.name, each.status.value) for each in report.layers] == [
        ("bn_in", "trained"),
        ("bn_out", "trained"),
    ]
    with pytest.raises((DamagedError, NotACheckpointError), match=reason):
        load_graph(str(model))
    assert inspect(str(model), Options(use_graph=False)).exit_code == 0


def test_chunks_are_not_read(tmp_path: Path) -> None:
    model = copied(tmp_path, KERAS2)
    (model / "saved_model.pb").rename(model / "saved_model.cpb")
    with pytest.raises(UnsupportedError, match="in chunks"):
        load_graph(str(model))
    assert inspect(str(model)).exit_code == 3
    assert inspect(str(model), Options(use_graph=False)).exit_code == 0


def test_text_that_is_no_saved_model(tmp_path: Path) -> None:
    model = copied(tmp_path, FIXTURES / "tf1/saved-model-text/model")
    text = model / "saved_model.pbtxt"
    text.write_text(text.read_text("utf-8").replace("meta_graphs {", "meta_graphs [", 1), "utf-8")
    with pytest.raises(DamagedError, match=r"is no SavedModel in text form \(line \d+\)"):
        load_graph(str(model))


def test_variables_of_another_export(tmp_path: Path) -> None:
    """A copy that mixed up two exports: the graph asks for what the bundle lacks."""
    model = copied(tmp_path, KERAS2)
    for path in (model / "variables").iterdir():
        path.unlink()
    root = Obj({"layer_with_weights-1": normalization("bn_in", size=6)})
    write_objects(model / "variables" / "variables", root)
    report = inspect(str(model))
    assert [(f.rule.code, f.layer) for f in report.findings] == [("BN401", "bn_out")]


def test_name_based_variables_under_objects(tmp_path: Path) -> None:
    model = copied(tmp_path, KERAS2)
    for path in (model / "variables").iterdir():
        path.unlink()
    values = {f"bn_in/{role}": np.ones(6, np.float32) for role in ("gamma", "moving_mean")}
    write_bundle(model / "variables" / "variables", values)
    found = {(f.rule.code, f.layer) for f in inspect(str(model)).findings}
    assert ("BN401", "bn_out") in found


def test_the_bundle_is_opened_once_for_all_meta_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SavedModel.FromString((KERAS3 / "saved_model.pb").read_bytes())
    shutil.copytree(KERAS3, tmp_path / "m")
    for _ in range(63):
        model.meta_graphs.add().object_graph_def.SetInParent()
    opened = []
    real = saved_model.TensorBundle
    monkeypatch.setattr(
        saved_model, "TensorBundle", lambda prefix: opened.append(prefix) or real(prefix)
    )
    (tmp_path / "m/saved_model.pb").write_bytes(model.SerializeToString())
    assert saved_model.read_saved_model(str(tmp_path / "m")).variables
    assert len(opened) == 1
    model.meta_graphs.add()
    (tmp_path / "m/saved_model.pb").write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError, match="holds 65 MetaGraphs"):
        saved_model.read_saved_model(str(tmp_path / "m"))
