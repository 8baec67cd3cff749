"""Real .meta files, read by bncheck and imported by TensorFlow: the same variables and names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.locate import locate
from bncheck.checkpoint.location import Kind, Location
from bncheck.graph import graph_beside, load_graph, meta_graph
from bncheck.graph.model import COLLECTIONS
from tests.conftest import CORPUS, FIXTURES

SAVE_OPS = {"SaveV2": 3, "SaveSlices": 3, "Save": 2}


def metas(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.meta"))


class Imported:
    """A .meta file as TensorFlow imports it into a fresh graph."""

    def __init__(self, tf: Any, path: Path) -> None:
        self.tf = tf
        self.graph = tf.Graph()
        meta = tf.compat.v1.MetaGraphDef.FromString(path.read_bytes())
        # 2.21 refuses 1.x's shapes of FusedBatchNormGrad's outputs, and the version "0.12.head".
        meta.meta_info_def.tensorflow_version = ""
        for node in meta.graph_def.node:
            node.attr.pop("_output_shapes", None)
        # Keras and loops collect updates that are in a function of their own.
        names = {node.name for node in meta.graph_def.node}
        updates = meta.collection_def["update_ops"].node_list.value
        self.update_ops = set(updates)
        updates[:] = [each for each in updates if each.partition(":")[0] in names]
        with self.graph.as_default():
            self.saver = tf.compat.v1.train.import_meta_graph(meta)

    def collection(self, name: str) -> dict[str, Any]:
        """Return a collection's variables by the name that a Saver gives them; parts as one."""
        return {self.full_name(v): v for v in self.graph.get_collection(name)}

    @staticmethod
    def full_name(variable: Any) -> str:
        info = variable._get_save_slice_info()
        return info.full_name if info else variable.op.name

    def shape(self, variable: Any) -> tuple[int, ...] | None:
        info = variable._get_save_slice_info()
        if info:
            return tuple(info.full_shape)
        # The op of before 2016 spells unknown as a scalar: TensorFlow then knows no shape.
        shape = variable.op.get_attr("shape") if variable.op.type == "Variable" else variable.shape
        dims = [d.size for d in shape.dim] if hasattr(shape, "dim") else shape
        if hasattr(shape, "rank") and shape.rank is None:
            return None
        return tuple(dims) if all(size is not None for size in dims) else None

    def saved_as(self) -> dict[str, str]:
        """Return what the Saver saves: of each tensor the variable that it reads, and the name."""
        full_names = {
            v.op.name: self.full_name(v)
            for collection in ("variables", "local_variables")
            for v in self.graph.get_collection(collection)
        }
        start = self.graph.as_graph_element(self.saver.saver_def.save_tensor_name)
        pending, seen, saved = [start.op], set(), {}
        while pending:
            op = pending.pop()
            if op in seen:
                continue
            seen.add(op)
            if op.type in SAVE_OPS:
                names = self.tf.get_static_value(op.inputs[1])
                tensors = list(op.inputs)[SAVE_OPS[op.type] :]
                for name, tensor in zip(names, tensors, strict=True):
                    source = tensor.op
                    while source.type in ("Identity", "ReadVariableOp"):
                        source = source.inputs[0].op
                    # A distribution strategy saves the mean of its replicas, not a variable.
                    saved[full_names.get(source.name, name.decode())] = name.decode()
            pending += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
        return saved


def compare(tf: Any, path: Path) -> None:
    graph = load_graph(str(path))
    imported = Imported(tf, path)
    assert graph.source == str(path)
    assert graph.kind == "meta-graph"
    known = imported.collection("variables")
    assert list(graph.variables) == list(known)
    for choice, name in COLLECTIONS.items():
        wanted = imported.collection(name)
        assert list(graph.collections[name]) == list(wanted), name
        assert list(graph.collection(choice)) == [v for v in wanted if v in known]
    for name, variable in known.items():
        assert graph.variables[name].name == name
        assert graph.variables[name].dtype == variable.dtype.base_dtype.name, name
        assert graph.variables[name].shape == imported.shape(variable), name
    if imported.saver is None:
        assert graph.saved_as is None
    else:
        assert graph.saved_as == imported.saved_as()
    assert graph.update_ops == len(imported.update_ops)


@pytest.mark.tensorflow
@pytest.mark.parametrize("path", metas(FIXTURES))
def test_fixture(tf: Any, fixtures: Path, path: str) -> None:
    compare(tf, fixtures / path)
    graph = load_graph(str(fixtures / path))
    assert graph.tensorflow_version == "1.15.5"
    # Serving graphs have no optimizer.
    beside = "model.ckpt" in path  # a program's own graph, not one made for serving alone
    serving = "graph-mismatch" in path or ("/serving-" in path and not beside)
    assert graph.role == ("serving" if serving else "training")


@pytest.mark.tensorflow
@pytest.mark.parametrize("path", metas(CORPUS))
def test_corpus(tf: Any, corpus: Path, path: str) -> None:
    compare(tf, corpus / path)


@pytest.mark.tensorflow
@pytest.mark.parametrize("path", metas(FIXTURES))
def test_initial_values(tf: Any, fixtures: Path, path: str) -> None:
    """TensorFlow runs the initializers; whatever is claimed of them is what they give."""
    graph = load_graph(str(fixtures / path))
    imported = Imported(tf, fixtures / path)
    variables = imported.collection("variables")
    # What init_from_checkpoint initialized would need that checkpoint.
    own = {name: v for name, v in variables.items() if not graph.variables[name].restored}
    assert all(graph.variables[name].initial is None for name in set(variables) - set(own))
    with tf.compat.v1.Session(graph=imported.graph) as session:
        values = session.run({name: v.initial_value for name, v in own.items()})
    claimed = 0
    for name, value in values.items():
        variable = graph.variables[name]
        assert variable.initial_known
        if variable.initial is not None:
            assert np.all(value == np.asarray(variable.initial, value.dtype)), name
            claimed += 1
        else:
            uniform = value.size > 1 and np.all(value == value.flat[0])
            assert not uniform or value.dtype.kind not in "fV", name
    assert claimed >= len(own) // 2


def is_beside_a_checkpoint(prefix: str) -> bool:
    return any(Path(prefix + suffix).exists() for suffix in (".index", ""))


@pytest.mark.parametrize("path", metas(FIXTURES))
def test_the_saver_of_a_fixture_wrote_its_checkpoint(fixtures: Path, path: str) -> None:
    prefix = str(fixtures / path)[: -len(".meta")]
    graph = graph_beside(Location(Kind.BUNDLE, prefix))
    assert graph is not None
    assert graph.saved_as is not None
    if "graph-mismatch" in path or not is_beside_a_checkpoint(prefix):
        return  # graphs of other programs
    checkpoint = open_checkpoint(prefix)
    assert set(graph.saved_as.values()) == set(checkpoint.variables)
    for variable, name in graph.saved_as.items():
        assert graph.variables[variable].shape == checkpoint.variables[name].shape, name
        assert graph.variables[variable].dtype == checkpoint.variables[name].dtype, name


BN = [f"net/bn_{place}" for place in ("in", "out")]
SLIM = [f"conv{i}/BatchNorm" for i in (1, 2)]
STATISTICS = ("moving_mean", "moving_variance")
AFFINE = ("gamma", "beta")
# The layers and the momentum of each story (fixtures/make/*.py), and which of a layer's variables
# a constant epsilon can be found for: in training mode a fused batch norm reads no statistics.
STORIES: dict[str, tuple[list[str], float, tuple[str, ...]]] = {
    "healthy/model.ckpt-60": (BN, 0.9, AFFINE),
    "healthy-resource/model.ckpt-60": (BN, 0.9, AFFINE),
    "healthy-phase-placeholder/model.ckpt-60": (BN[:1], 0.9, (*AFFINE, *STATISTICS)),
    "estimator/run/model.ckpt-30": (BN[:1], 0.9, AFFINE),
    "no-update-ops/model.ckpt-60": (BN, 0.9, AFFINE),
    "undertrained/model.ckpt-10": (BN, 0.999, AFFINE),
    "few-steps-after-restore/model.ckpt-10": (BN, 0.999, AFFINE),
    "shared-with-validation/model.ckpt-60": (BN, 0.9, (*AFFINE, *STATISTICS)),
    "towers-shared/model.ckpt-60": (BN, 0.9, AFFINE),
    "v1-single-no-update-ops/model.ckpt-60": (BN, 0.9, AFFINE),
    "v2-sharded/model.ckpt-60": (BN, 0.9, AFFINE),
    "saver-drops-prefix/model.ckpt-60": (BN, 0.9, AFFINE),
    "slim-healthy/model.ckpt-60": (SLIM, 0.9, ("beta",)),
    "slim-updates-in-place/model.ckpt-60": (SLIM, 0.9, AFFINE),
    "partitioned/model.ckpt-60": (BN[1:], 0.9, ()),
}


@pytest.mark.parametrize("path", STORIES)
def test_momentum_and_epsilon(fixtures: Path, path: str) -> None:
    layers, momentum, with_epsilon = STORIES[path]
    graph = load_graph(str(fixtures / "tf1" / f"{path}.meta"))
    assert graph.momentum == {
        f"{layer}/{leaf}": momentum for layer in layers for leaf in STATISTICS
    }
    assert graph.epsilon == {f"{layer}/{leaf}": 0.001 for layer in layers for leaf in with_epsilon}


@pytest.mark.parametrize("path", ["frozen-finetune/model.ckpt-60", "graph-mismatch/same"])
def test_without_updates_there_is_no_momentum(fixtures: Path, path: str) -> None:
    graph = load_graph(str(fixtures / "tf1" / path))
    assert graph.momentum == {}
    assert graph.epsilon == {f"{la}/{leaf}": 0.001 for la in BN for leaf in (*AFFINE, *STATISTICS)}


@pytest.mark.parametrize("name", ["v1-single-no-update-ops", "healthy"])
def test_the_prefix_of_a_graph(fixtures: Path, name: str) -> None:
    """Of a V1 checkpoint the prefix is a file itself; its graph is still the one beside it."""
    prefix = str(fixtures / "tf1" / name / "model.ckpt-60")
    assert (
        load_graph(prefix)
        == load_graph(f"{prefix}.meta")
        == graph_beside(Location(Kind.BUNDLE, prefix))
    )


def test_no_graph_beside(fixtures: Path) -> None:
    assert graph_beside(locate(str(fixtures / "tf1/state-file-good"))) is None


def test_momentum_of_the_corpus(corpus: Path) -> None:
    graph = load_graph(str(corpus / "phasenet/190703-214543/model_95.ckpt"))
    statistics = [name for name in graph.variables if name.endswith(STATISTICS)]
    assert graph.momentum == dict.fromkeys(statistics, 0.99)
    assert len(statistics) == graph.update_ops == 36
    assert {graph.epsilon[name] for name in statistics} == {0.001}
    assert graph.tensorflow_version == "1.10.0"


def test_a_saver_with_a_dict(fixtures: Path) -> None:
    renamed = load_graph(str(fixtures / "tf1/saver-drops-prefix/model.ckpt-60")).saved_as
    assert renamed is not None
    assert renamed["net/bn_in/moving_mean"] == "bn_in/moving_mean"
    assert not any(name.startswith("net/") for name in renamed.values())
    roles = load_graph(str(fixtures / "tf1/saver-renames-roles/model.ckpt-60")).saved_as
    assert roles is not None
    leaves = {
        variable.rpartition("/")[2]: name.rpartition("/")[2].rpartition(".")[2]
        for variable, name in roles.items()
        if variable.startswith("net/bn_in/")
        and variable.endswith(("gamma", "beta", "mean", "variance"))
    }
    assert leaves == {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }


def test_partitioned_variables_count_as_one(fixtures: Path) -> None:
    graph = load_graph(str(fixtures / "tf1/partitioned/model.ckpt-60"))
    assert not any("part_" in name for name in graph.variables)
    assert graph.saved_as is not None
    assert graph.saved_as["net/bn_out/moving_mean"] == "net/bn_out/moving_mean"
    (size,) = graph.variables["net/bn_out/moving_mean"].shape or ()
    assert (size,) == graph.variables["net/bn_out/gamma"].shape
    assert graph.variables["net/bn_out/moving_variance"].initial == 1.0
    assert graph.variables["net/bn_out/moving_mean"].initial == 0.0


def test_the_same_graph_beside_two_checkpoints_is_read_off_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (FIXTURES / "tf1/healthy/model.ckpt-60.meta").read_bytes()
    for name in ("a", "b"):
        (tmp_path / f"{name}.meta").write_bytes(content)
    (tmp_path / "c.meta").write_bytes(
        (FIXTURES / "tf1/no-update-ops/model.ckpt-60.meta").read_bytes()
    )
    built = []
    graph_of = meta_graph.graph_of

    def counting(path: str, *rest: Any, **named: Any) -> Any:
        built.append(Path(path).name)
        return graph_of(path, *rest, **named)

    monkeypatch.setattr(meta_graph, "graph_of", counting)
    monkeypatch.setattr(meta_graph, "_last", {})
    graphs = [meta_graph.read_meta_graph(str(tmp_path / f"{name}.meta")) for name in "abacb"]
    assert built == ["a.meta", "c.meta", "b.meta"]
    assert [Path(graph.source).name for graph in graphs] == [f"{n}.meta" for n in "abacb"]
    assert graphs[0].variables == graphs[1].variables
