"""What each loader restores, skips and refuses; where TensorFlow is there, it is the judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.assignment.loaders import Loader, Outcome, load, request_of
from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.structure import StoredObject, Structure
from bncheck.errors import UnsupportedError
from bncheck.graph import load_graph
from bncheck.graph.model import Graph, GraphVariable
from tests.commands import FIXTURES
from tests.writers import write_bundle

STATISTICS = {
    f"net/{layer}/{role}"
    for layer in ("bn_in", "bn_out")
    for role in ("moving_mean", "moving_variance")
}


def _load(
    loader: Loader, path: str, graph: str | None = None, collection: str | None = None
) -> Outcome:
    checkpoint = open_checkpoint(str(FIXTURES / path))
    loaded = load_graph(str(FIXTURES / graph) if graph else checkpoint.path)
    request = request_of(loaded, checkpoint, collection)
    outcome = load(loader, request)
    told = [*outcome.restored, *outcome.skipped, *outcome.refused]
    assert sorted(told) == sorted(request.graph.variables), "every variable has one fate"
    return outcome


def _graph(**variables: tuple[tuple[int, ...] | None, str]) -> Graph:
    """Return a graph of variables that are all trainable but for those called after statistics."""
    made = {name: GraphVariable(name, dtype, shape) for name, (shape, dtype) in variables.items()}
    trainable = tuple(name for name in made if "moving" not in name)
    collections = {"variables": tuple(made), "trainable_variables": trainable}
    return Graph("program", "python", made, collections)


def test_the_map_of_the_trainable_variables_drops_the_statistics() -> None:
    outcome = _load(Loader.ASSIGNMENT_MAP, "tf1/healthy", collection="trainable")
    assert outcome.skipped.keys() == {*STATISTICS, "global_step"}
    assert not outcome.raises
    everything = _load(Loader.ASSIGNMENT_MAP, "tf1/healthy")
    assert len(everything.restored) == 13
    assert everything.skipped == {}


def test_the_map_skips_what_is_missing_and_raises_on_a_shape() -> None:
    renamed = _load(
        Loader.ASSIGNMENT_MAP,
        "tf1/graph-mismatch/model.ckpt-60",
        "tf1/graph-mismatch/renamed-scope.meta",
    )
    assert (len(renamed.restored), renamed.raises) == (0, False)
    wider = _load(
        Loader.ASSIGNMENT_MAP,
        "tf1/graph-mismatch/model.ckpt-60",
        "tf1/graph-mismatch/more-channels.meta",
    )
    assert wider.refused["net/bn_out/moving_mean"] == (
        "net/bn_out/moving_mean",
        "ValueError: shape [5] in the graph",
    )
    assert len(wider.refused) == 6


def test_the_own_saver_of_a_graph_knows_its_names() -> None:
    outcome = _load(Loader.SAVER, "tf1/saver-drops-prefix")
    assert outcome.restored["net/bn_in/moving_mean"] == "bn_in/moving_mean"
    assert len(outcome.restored) == 13
    # A new Saver over the same variables looks for them under their own names.
    other = _load(Loader.SAVER, "tf1/saver-drops-prefix", collection="global")
    assert len(other.refused) == 12
    assert other.refused["net/bn_in/gamma"][1] == "NotFoundError: not in the checkpoint"


def test_the_own_saver_of_the_trainable_variables_forgets_the_statistics() -> None:
    outcome = _load(Loader.SAVER, "tf1/trainable-saver")
    assert outcome.skipped.keys() == {*STATISTICS, "global_step"}
    assert set(outcome.skipped.values()) == {"the graph's own Saver does not list it"}
    assert not outcome.raises


def test_a_warm_start_takes_the_trainable_variables_and_raises_on_missing_ones() -> None:
    outcome = _load(Loader.WARM_START, "tf1/healthy")
    assert outcome.skipped.keys() == {*STATISTICS, "global_step"}
    assert set(outcome.skipped.values()) == {"not trainable, so not warm-started"}
    assert len(_load(Loader.WARM_START, "tf1/healthy", collection="global").restored) == 13
    renamed = _load(
        Loader.WARM_START,
        "tf1/graph-mismatch/model.ckpt-60",
        "tf1/graph-mismatch/renamed-scope.meta",
    )
    assert renamed.raises
    assert renamed.refused["model/bn_in/gamma"] == ("", "ValueError: not in the checkpoint")


def test_slim_skips_what_is_missing_raises_on_shapes_and_casts_types(tmp_path: Path) -> None:
    prefix = str(tmp_path / "m")
    write_bundle(tmp_path / "m", {b"a": np.zeros(3, np.float16), b"b": np.zeros(3, np.float32)})
    graph = _graph(a=((3,), "float32"), b=((4,), "float32"), c=((3,), "float32"), d=(None, ""))
    outcome = load(Loader.SLIM, request_of(graph, open_checkpoint(prefix)))
    assert outcome.restored == {"a": "a"}
    assert outcome.refused == {"b": ("b", "ValueError: shape [4] in the graph")}
    assert outcome.skipped.keys() == {"c", "d"}
    strict = load(Loader.ASSIGNMENT_MAP, request_of(graph, open_checkpoint(prefix)))
    assert strict.refused["a"] == ("a", "InvalidArgumentError: float16, and float32 in the graph")


def test_by_names_an_object_based_checkpoint_is_found_by_full_names_or_not_at_all() -> None:
    checkpoint = open_checkpoint(str(FIXTURES / "tf2/object-based-module-name-scope"))
    keys = {name: key for key, name in checkpoint.structure.full_names.items()}
    told = {name: checkpoint.variables[key] for name, key in keys.items()}
    graph = _graph(**{name: (each.shape, each.dtype) for name, each in told.items()})
    request = request_of(graph, checkpoint, "global")
    assert len(keys) == 10
    for loader in (Loader.SAVER, Loader.WARM_START):
        # Six variables are called net/Variable; object_graph_key_mapping keeps the last of them.
        assert load(loader, request).restored == keys, loader
    mapped = load(Loader.ASSIGNMENT_MAP, request)
    assert mapped.restored.items() == keys.items() - {("net/Variable", keys["net/Variable"])}
    # slim asks for keys, and the keys are paths of objects.
    assert load(Loader.SLIM, request).restored == {}


def test_objects_are_restored_by_their_paths_and_the_rest_is_skipped() -> None:
    path = "tf2/object-based-module"
    outcome = _load(Loader.OBJECT, path, path)
    assert outcome.skipped == {}
    assert all(name == key for name, key in outcome.restored.items())
    other = _load(Loader.OBJECT, path, "keras3/trained/checkpoint")
    assert other.restored.keys() <= {"save_counter/.ATTRIBUTES/VARIABLE_VALUE"}
    assert "no way through the checkpoint's objects leads to it" in other.skipped.values()
    assert not other.raises


def test_objects_are_restored_along_every_way_and_not_the_shortest_alone() -> None:
    # model.save keeps the layers of a Keras model, whose paths are shorter than those through the
    # list of its variables; model.export keeps the list.
    outcome = _load(Loader.OBJECT, "keras2/mirrored/export", "keras2/trained/saved_model")
    assert len(outcome.restored) == 14
    mean = "layer_with_weights-1/moving_mean/.ATTRIBUTES/VARIABLE_VALUE"
    assert outcome.restored[mean] == "variables/4/.ATTRIBUTES/VARIABLE_VALUE"


def test_objects_need_a_graph_that_tells_them() -> None:
    with pytest.raises(UnsupportedError, match="does not tell its objects"):
        _load(Loader.OBJECT, "tf1/healthy")


def test_keras_by_name_pairs_the_weights_of_layers_of_equal_names() -> None:
    outcome = _load(Loader.KERAS_BY_NAME, "keras2/trained/model.h5", "keras3/trained/model.h5")
    mean = "model_weights/bn_in/bn_in/moving_mean"
    assert outcome.restored[mean] == "model_weights/bn_in/bn_in/moving_mean:0"
    assert len(outcome.restored) == 14


def test_keras_by_name_refuses_another_number_of_weights_and_skips_unknown_layers() -> None:
    checkpoint = open_checkpoint(str(FIXTURES / "keras2/trained/model.h5"))
    objects = (
        StoredObject("bn_in", {"beta": "b", "moving_mean": "m", "moving_variance": "v"}),
        StoredObject("bn_new", {"gamma": "n"}),
        StoredObject("bn_out", {"gamma": "1", "beta": "2", "moving_mean": "3", "x": "4"}),
    )
    shapes = {"b": 6, "m": 6, "v": 6, "n": 6, "1": 8, "2": 8, "3": 9, "4": 8}
    variables = {key: GraphVariable(key, "float32", (size,)) for key, size in shapes.items()}
    graph = Graph("model.h5", "checkpoint", variables, structure=Structure(objects))
    outcome = load(Loader.KERAS_BY_NAME, request_of(graph, checkpoint))
    uneven = "ValueError: the layer has 3 weights, and 4 in the file"
    mean = "model_weights/bn_out/bn_out/moving_mean:0"
    assert outcome.refused == {
        **dict.fromkeys("bmv", ("", uneven)),
        "3": (mean, "ValueError: shape [9] in the graph"),
    }
    assert outcome.skipped == {"n": "the file has no layer of its layer's name"}
    assert outcome.restored.keys() == {"1", "2", "4"}


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_keras_by_name_reads_older_files_alone(name: str) -> None:
    outcome = _load(Loader.KERAS_BY_NAME, f"keras3/trained/{name}", "keras3/trained/model.h5")
    assert outcome.raises
    assert outcome.restored == {}
    assert outcome.why == "ValueError: by_name is only for legacy .h5 files"


def test_what_reads_checkpoints_reads_no_keras_files() -> None:
    outcome = _load(Loader.ASSIGNMENT_MAP, "keras3/trained/model.h5", "keras3/trained/model.h5")
    assert outcome.raises
    assert outcome.restored == {}


def _restored(tf: Any, checkpoint: str, graph: Graph, loader: Loader) -> dict[str, bool] | None:
    """Load for real, into variables that start at -7; None where the loader raises."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [
            v1.get_variable(
                name,
                each.shape,
                tf.as_dtype(each.dtype),
                v1.constant_initializer(-7),
                trainable=name in graph.collections["trainable_variables"],
                use_resource=False,
            )
            for name, each in graph.variables.items()
        ]
        try:
            if loader is Loader.WARM_START:
                v1.train.warm_start(checkpoint)
            session.run(v1.global_variables_initializer())
            if loader is Loader.SAVER:
                v1.train.Saver(variables).restore(session, checkpoint)
        except (ValueError, tf.errors.OpError):
            return None
        return {each.op.name: bool((session.run(each) != -7).any()) for each in variables}


@pytest.mark.tensorflow
@pytest.mark.parametrize("loader", [Loader.SAVER, Loader.WARM_START])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"a": ((4,), "float32")},
        {"a": ((3,), "float16")},
        {"z": ((3,), "float32")},
        {"moving": ((4,), "float32")},
        {"moving_z": ((3,), "float32")},
    ],
)
def test_tensorflow_does_the_same(
    loader: Loader, changes: dict[str, Any], tmp_path: Path, tf: Any
) -> None:
    prefix = str(tmp_path / "m")
    write_bundle(tmp_path / "m", {b"a": np.ones(3, np.float32), b"moving": np.ones(3, np.float32)})
    graph = _graph(**({"a": ((3,), "float32"), "moving": ((3,), "float32")} | changes))
    outcome = load(loader, request_of(graph, open_checkpoint(prefix)))
    seen = _restored(tf, prefix, graph, loader)
    assert outcome.raises == (seen is None)
    if seen is not None:
        assert outcome.restored.keys() == {name for name, restored in seen.items() if restored}


@pytest.mark.tensorflow
def test_tf_train_checkpoint_skips_silently_and_raises_on_shapes(tmp_path: Path, tf: Any) -> None:
    """The facts that the simulation of the object loader rests on."""

    def module(size: int, extra: str = "") -> Any:
        made = tf.Module()
        made.a = tf.Variable(tf.fill([size], -7.0))
        if extra:
            setattr(made, extra, tf.Variable([-7.0]))
        return made

    path = tf.train.Checkpoint(model=module(3, "b")).save(str(tmp_path / "m"))
    other = module(3, "c")
    other.a.assign([1, 2, 3])
    graph_path = tf.train.Checkpoint(model=other).save(str(tmp_path / "other"))
    outcome = load(Loader.OBJECT, request_of(load_graph(graph_path), open_checkpoint(path)))
    assert outcome.restored.keys() >= {"model/a/.ATTRIBUTES/VARIABLE_VALUE"}
    assert outcome.skipped.keys() == {"model/c/.ATTRIBUTES/VARIABLE_VALUE"}
    tf.train.Checkpoint(model=other).restore(path)
    assert other.a.numpy().tolist() == [-7] * 3
    wider = tf.train.Checkpoint(model=module(4))
    with pytest.raises(ValueError, match="shape"):
        wider.restore(path)
    graph_path = wider.save(str(tmp_path / "wider"))
    outcome = load(Loader.OBJECT, request_of(load_graph(graph_path), open_checkpoint(path)))
    assert outcome.raises
