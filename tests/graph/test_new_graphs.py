"""Graphs that TensorFlow builds here and now: Savers, initializers and updates of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bncheck.checkpoint.location import Kind, Location
from bncheck.graph import graph_beside, load_graph

if TYPE_CHECKING:
    from bncheck.graph.model import Graph

pytestmark = pytest.mark.tensorflow


def save(tf: Any, tmp_path: Path, build: Callable[[Any], Any], **options: Any) -> Graph:
    """Build a graph in the style of TensorFlow 1, save it with its Saver, read its .meta."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        saved = build(v1)
        saver = v1.train.Saver(saved, **options)
        session.run(v1.global_variables_initializer())
        prefix = saver.save(session, str(tmp_path / "m"))
    graph = graph_beside(Location(Kind.BUNDLE, str(tmp_path / "m")))
    assert graph is not None
    assert graph == load_graph(str(tmp_path / "m.meta"))
    assert prefix.startswith(str(tmp_path / "m"))
    return graph


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("version", ["V1", "V2"])
def test_savers(tf: Any, tmp_path: Path, resource: bool, sharded: bool, version: str) -> None:
    def build(v1: Any) -> None:
        with v1.variable_scope("net", use_resource=resource):
            v1.get_variable("w", [3, 4])
            v1.get_variable("step", [], tf.int64, v1.zeros_initializer(), trainable=False)
            v1.get_variable("local", [2], collections=[v1.GraphKeys.LOCAL_VARIABLES])

    version_number = getattr(tf.compat.v1.train.SaverDef, version)
    graph = save(tf, tmp_path, build, sharded=sharded, write_version=version_number)
    assert graph.saved_as == {"net/step": "net/step", "net/w": "net/w"}
    assert {n: (v.dtype, v.shape) for n, v in graph.variables.items()} == {
        "net/w": ("float32", (3, 4)),
        "net/step": ("int64", ()),
    }
    assert list(graph.collection("trainable")) == ["net/w"]
    assert list(graph.collection("model")) == []
    assert graph.variables["net/step"].initial is None  # no floating-point number
    assert graph.variables["net/step"].initial_known


@pytest.mark.parametrize("resource", [False, True])
def test_a_saver_with_a_dict(tf: Any, tmp_path: Path, resource: bool) -> None:
    def build(v1: Any) -> Any:
        with v1.variable_scope("net", use_resource=resource):
            first = v1.get_variable("a", [2])
            second = v1.get_variable("b", [2])
        v1.get_variable("not_saved", [2])
        return {"b": first, "\u00e9/a:0": second}

    graph = save(tf, tmp_path, build)
    assert graph.saved_as == {"net/a": "b", "net/b": "\u00e9/a:0"}
    assert list(graph.variables) == ["net/a", "net/b", "not_saved"]


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("version", ["V1", "V2"])
def test_partitioned_variables(
    tf: Any, tmp_path: Path, resource: bool, renamed: bool, version: str
) -> None:
    """V2 writes them with SaveV2, V1 with SaveSlices; both under the full name."""

    def build(v1: Any) -> Any:
        partitioner = v1.fixed_size_partitioner(3)
        with v1.variable_scope("net", partitioner=partitioner, use_resource=resource):
            table = v1.get_variable("table", [7, 2], initializer=v1.ones_initializer())
        bias = v1.get_variable("bias", [7], initializer=v1.zeros_initializer())
        return {"t": table, "bias": bias} if renamed else None

    version_number = getattr(tf.compat.v1.train.SaverDef, version)
    graph = save(tf, tmp_path, build, write_version=version_number)
    assert graph.saved_as == {"net/table": "t" if renamed else "net/table", "bias": "bias"}
    assert graph.variables["net/table"].shape == (7, 2)
    assert graph.variables["net/table"].initial == 1.0
    assert list(graph.variables) == ["net/table", "bias"]


INITIALS: dict[str, tuple[Callable[[Any, Any], Any], float | None]] = {
    "zeros": (lambda tf, _: tf.zeros([3]), 0.0),
    "ones": (lambda tf, _: tf.ones([2, 3]), 1.0),
    "many zeros": (lambda tf, _: tf.zeros([5000]), 0.0),
    "a number": (lambda *_: 0.25, 0.25),
    "an array of one number": (lambda *_: np.full((4, 4), -3.5, np.float32), -3.5),
    "an array": (lambda *_: np.arange(4, dtype=np.float32), None),
    "float64": (lambda tf, _: tf.fill([3], np.float64(0.1)), 0.1),
    "float16": (lambda tf, _: tf.constant(1.5, tf.float16, [4]), 1.5),
    "an array of float16": (lambda *_: np.full(4, 0.5, np.float16), 0.5),
    "bfloat16": (lambda tf, _: tf.constant(1.5, tf.bfloat16, [4]), 1.5),
    "cast": (lambda tf, _: tf.cast(tf.ones([2]), tf.float16), 1.0),
    "reshaped": (lambda tf, _: tf.reshape(tf.ones([4]), [2, 2]), 1.0),
    "like another": (lambda tf, _: tf.ones_like(tf.random.normal([3])), 1.0),
    "zeros like another": (lambda tf, _: tf.zeros_like(tf.random.normal([3])), 0.0),
    "not a number": (lambda *_: np.full(2, np.nan, np.float32), None),
    "normal": (lambda tf, _: tf.random.normal([3]), None),
    "uniform": (lambda tf, _: tf.random.uniform([3]), None),
    "one of two": (
        lambda tf, v1: v1.cond(
            tf.constant(value=True), lambda: tf.zeros([2]), lambda: tf.ones([2])
        ),
        None,
    ),
    "int32": (lambda tf, _: tf.ones([2], tf.int32), None),
    "bool": (lambda tf, _: tf.constant([True, True]), None),
    "string": (lambda tf, _: tf.constant(["a", "a"]), None),
    "complex": (lambda tf, _: tf.constant(1j, tf.complex64), None),
}


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("name", INITIALS)
def test_initial_values(tf: Any, tmp_path: Path, name: str, resource: bool) -> None:
    make, expected = INITIALS[name]

    def build(v1: Any) -> None:
        v1.disable_control_flow_v2()  # Switch and Merge, as in TensorFlow 1
        v1.Variable(make(tf, v1), name="v", use_resource=resource)

    try:
        variable = save(tf, tmp_path, build).variables["v"]
    finally:
        tf.compat.v1.enable_control_flow_v2()
    assert variable.initial == expected
    assert variable.initial_known


@pytest.mark.parametrize("order", ["moving - batch", "weight first", "is_training", "resource"])
def test_momentum(tf: Any, tmp_path: Path, order: str) -> None:
    """The ways of writing `moving -= (moving - batch) * (1 - momentum)`."""

    def build(v1: Any) -> None:
        v1.disable_control_flow_v2()
        mean = v1.get_variable("bn/moving_mean", [3], use_resource=order == "resource")
        v1.get_variable("bn/untouched", [3])
        batch = tf.reduce_mean(v1.placeholder(tf.float32, [None, 3]), 0)
        factor = tf.constant(0.01)
        if order == "is_training":
            training = v1.placeholder(tf.bool, [])
            factor = v1.cond(training, lambda: 1 - tf.constant(0.99), lambda: tf.constant(0.0))
        delta = tf.convert_to_tensor(mean) - batch
        step = factor * delta if order == "weight first" else delta * factor
        v1.add_to_collection("update_ops", v1.assign_sub(mean, step))
        v1.add_to_collection("update_ops", v1.assign_sub(mean, step, name="other"))

    try:
        graph = save(tf, tmp_path, build)
    finally:
        tf.compat.v1.enable_control_flow_v2()
    assert graph.momentum == {"bn/moving_mean": 0.99}
    assert graph.update_ops == 2


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("resource", [False, True])
def test_epsilon(tf: Any, tmp_path: Path, fused: bool, resource: bool) -> None:
    names = ["gamma", "beta", "moving_mean", "moving_variance"]

    def build(v1: Any) -> None:
        with v1.variable_scope("bn", use_resource=resource):
            gamma, beta, mean, variance = (v1.get_variable(name, [3]) for name in names)
        x = v1.placeholder(tf.float32, [None, 4, 4, 3])
        if fused:
            v1.nn.fused_batch_norm(x, gamma, beta, mean, variance, 2e-3, is_training=False)
        else:
            tf.nn.batch_normalization(x, mean, variance, beta, gamma, 2e-3)

    graph = save(tf, tmp_path, build)
    assert graph.epsilon == dict.fromkeys(
        [f"bn/{name}" for name in (names if fused else names[3:])], 0.002
    )
    assert graph.momentum == {}


def test_training_and_its_optimizer(tf: Any, tmp_path: Path) -> None:
    def build(v1: Any) -> None:
        w = v1.get_variable("w", [2], use_resource=False)
        v1.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(w**2))

    graph = save(tf, tmp_path, build)
    assert graph.role == "training"
    assert graph.tensorflow_version == tf.__version__
    assert {"w/Adam", "w/Adam_1", "beta1_power"} <= set(graph.variables)
    assert graph.variables["w/Adam"].initial == 0.0
    assert graph.momentum == {}


def test_a_graph_without_a_saver(tf: Any, tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default():
        v1.get_variable("w", [2], v1.float32)
        v1.train.export_meta_graph(str(tmp_path / "g"), clear_extraneous_savers=True)
    graph = load_graph(str(tmp_path / "g"))
    assert graph.saved_as is None
    assert graph.role == "unknown"
    assert list(graph.variables) == ["w"]


def test_a_shape_that_is_not_fixed(tf: Any, tmp_path: Path) -> None:
    def build(v1: Any) -> None:
        size = v1.placeholder_with_default(3, [])
        v1.Variable(tf.zeros([size]), validate_shape=False, name="v", use_resource=False)
        v1.Variable(tf.zeros([size, 2]), validate_shape=False, name="r", use_resource=True)

    graph = save(tf, tmp_path, build)
    assert {name: v.shape for name, v in graph.variables.items()} == {"v": None, "r": None}
