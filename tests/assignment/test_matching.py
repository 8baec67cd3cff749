"""The assignment map, and what TensorFlow's init_from_checkpoint really initializes with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bncheck
from bncheck.assignment import Rename, suggest_renames
from tests.commands import FIXTURES

HEALTHY = str(FIXTURES / "tf1/healthy/model.ckpt-60")
PARTITIONED = str(FIXTURES / "tf1/partitioned/model.ckpt-60")


def test_names_are_stripped_and_intersected_in_checkpoint_order() -> None:
    names = ["net/bn_out/beta:0", "net/bn_in/gamma", "net/bn_in/moving_mean:0", "elsewhere:0"]
    mapped, initialized = bncheck.assignment_map(names, HEALTHY)
    assert list(mapped.items()) == [
        ("net/bn_in/gamma", "net/bn_in/gamma"),
        ("net/bn_in/moving_mean", "net/bn_in/moving_mean"),
        ("net/bn_out/beta", "net/bn_out/beta"),
    ]
    assert initialized == {form for name in mapped for form in (name, f"{name}:0")}


def test_only_the_last_output_number_is_stripped() -> None:
    checkpoint = bncheck.open_checkpoint(HEALTHY)
    assert bncheck.assignment_map(["net/bn_in/gamma:0:1", "net/bn_in/gamma:x"], checkpoint) == (
        {},
        set(),
    )


def test_trainable_map_loses_the_statistics() -> None:
    graph = bncheck.load_graph(HEALTHY)
    everything = bncheck.assignment_map(graph, HEALTHY).assignment_map
    trainable = bncheck.assignment_map(graph, HEALTHY, collection="trainable").assignment_map
    assert sorted(set(everything) - set(trainable)) == [
        "global_step",
        "net/bn_in/moving_mean",
        "net/bn_in/moving_variance",
        "net/bn_out/moving_mean",
        "net/bn_out/moving_variance",
    ]


def test_parts_of_a_variable_match_under_its_full_name() -> None:
    graph = bncheck.load_graph(PARTITIONED)
    mapped = bncheck.assignment_map(graph, PARTITIONED).assignment_map
    assert mapped == {name: name for name in bncheck.open_checkpoint(PARTITIONED).variables}


def _initialized(tf: Any, collection: str, checkpoint: str, meta: str) -> dict[str, Any]:
    """Build twins of a .meta's variables, run init_from_checkpoint, and return their values."""
    graph = bncheck.load_graph(meta)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {
            name: v1.get_variable(
                name,
                each.shape,
                tf.as_dtype(each.dtype),
                v1.constant_initializer(-7),
                use_resource=False,
            )
            for name, each in graph.variables.items()
        }
        mapped = bncheck.assignment_map(graph, checkpoint, collection=collection).assignment_map
        v1.train.init_from_checkpoint(checkpoint, mapped)
        session.run(v1.global_variables_initializer())
        return {name: session.run(variable) for name, variable in variables.items()}


@pytest.mark.tensorflow
@pytest.mark.parametrize("collection", ["global", "trainable"])
def test_init_from_checkpoint_initializes_just_what_the_map_says(collection: str) -> None:
    tf = pytest.importorskip("tensorflow")
    mapped = bncheck.assignment_map(bncheck.load_graph(HEALTHY), HEALTHY, collection=collection)
    reader = tf.train.load_checkpoint(HEALTHY)
    for name, value in _initialized(tf, collection, HEALTHY, HEALTHY).items():
        if f"{name}:0" in mapped.initialized_variable_names:
            np.testing.assert_array_equal(value, reader.get_tensor(name))
        else:
            assert (value == -7).all(), name


@pytest.mark.tensorflow
def test_tensorflow_variables_map_to_themselves_parts_as_lists() -> None:
    tf = pytest.importorskip("tensorflow")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        plain = v1.Variable([0.0] * 6, name="net/bn_in/gamma")  # get_variable's store lacks it
        v1.get_variable(
            "net/bn_in/beta", [6], partitioner=v1.fixed_size_partitioner(2), use_resource=False
        )
        mapped, _ = bncheck.assignment_map(v1.global_variables(), HEALTHY)
        parts = v1.global_variables()[1:]
        assert mapped == {"net/bn_in/beta": parts, "net/bn_in/gamma": plain}
        v1.train.init_from_checkpoint(HEALTHY, mapped)
        session.run(v1.global_variables_initializer())
        reader = tf.train.load_checkpoint(HEALTHY)
        np.testing.assert_array_equal(session.run(plain), reader.get_tensor("net/bn_in/gamma"))
        np.testing.assert_array_equal(
            np.concatenate(session.run(parts)), reader.get_tensor("net/bn_in/beta")
        )


def test_renames_need_equal_shapes_and_two_matches() -> None:
    checkpoint = {"a/bn/gamma": (3,), "a/bn/beta": (3,), "a/conv/kernel": (1, 2), "x/w": (4,)}
    graph = {"b/bn/gamma": (3,), "b/bn/beta": (3,), "b/conv/kernel": (2, 1), "y/w": (4,)}
    assert suggest_renames(checkpoint, graph) == [Rename("a/", "b/", 2)]


def test_a_prefix_is_found_where_names_end_alike() -> None:
    layers = [f"block{i}/unit/bn/{role}" for i in range(8) for role in ("gamma", "beta")]
    checkpoint = dict.fromkeys(layers, (4,))
    graph = {f"FeatureExtractor/{name}": (4,) for name in layers}
    assert suggest_renames(checkpoint, graph) == [Rename("", "FeatureExtractor/", 16)]
    assert suggest_renames(graph, checkpoint) == [Rename("FeatureExtractor/", "", 16)]


def test_a_name_that_fits_twice_is_no_rename() -> None:
    checkpoint = {"a/bn/gamma": (3,), "b/bn/gamma": (3,), "a/bn/beta": (3,), "b/bn/beta": (3,)}
    assert suggest_renames(checkpoint, {"c/bn/gamma": (3,), "c/bn/beta": (3,)}) == []
