"""What the object graph says of a checkpoint's variables; the keys alone would lie."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.object_graph import object_path
from bncheck.proto.objects_pb2 import TrackableObjectGraph
from tests.writers.bundle import write_bundle
from tests.writers.objects import (
    OBJECT_GRAPH,
    VALUE,
    Obj,
    Var,
    build,
    listed,
    normalization,
    write_objects,
)

ONE = np.ones(3, np.float32)


def counter(value: int, name: str = "") -> Var:
    return Var(np.array(value, np.int64), name)


def attributes(path: str) -> dict[str, dict[str, str]]:
    return {each.path: dict(each.attributes) for each in open_checkpoint(path).structure.objects}


def test_edges_decide_not_keys(tmp_path: Path) -> None:
    """With an optimizer nearer to the root, its list lends the keys to gamma and beta."""
    bn = normalization("sequential/bn")
    trained = listed(bn.children["gamma"], bn.children["beta"])
    optimizer = Obj({"_trainable_variables": trained, "_variables": listed()})
    model = Obj({"_functional": Obj({"_operations": listed(Obj(), bn)})})
    prefix = write_objects(tmp_path / "ckpt", Obj({"model": model, "optimizer": optimizer}))
    assert attributes(prefix) == {
        "model/_functional/_operations/1": {
            "gamma": f"optimizer/_trainable_variables/0{VALUE}",
            "beta": f"optimizer/_trainable_variables/1{VALUE}",
            "moving_mean": f"model/_functional/_operations/1/moving_mean{VALUE}",
            "moving_variance": f"model/_functional/_operations/1/moving_variance{VALUE}",
        }
    }
    structure = open_checkpoint(prefix).structure
    assert structure.full_names[f"optimizer/_trainable_variables/1{VALUE}"] == "sequential/bn/beta"
    assert structure.slots == {}


def test_format_and_cycles(tmp_path: Path) -> None:
    root = Obj({"bn": normalization("bn")})
    root.children["self"] = root
    root.children["again"] = root.children["bn"]
    checkpoint = open_checkpoint(write_objects(tmp_path / "ckpt", root))
    assert checkpoint.format == "object-based"
    assert [each.path for each in checkpoint.structure.objects] == ["bn"]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (f"model/bn/gamma{VALUE}", "model/bn/gamma"),
        (f"a.Sb/c..d{VALUE}", "a/b/c.d"),
        ("net/bn/gamma", "net/bn/gamma"),
        (f"w/.OPTIMIZER_SLOT/opt/m{VALUE}", "w/.OPTIMIZER_SLOT/opt/m"),
    ],
)
def test_object_path(key: str, path: str) -> None:
    assert object_path(key) == path


def test_slots_by_reference(tmp_path: Path) -> None:
    kernel, slot = Var(ONE, "dense/kernel"), Var(ONE, "anything")
    optimizer = Obj({"iter": counter(7), "decay": Var(np.float32(0))}, [(kernel, "m", slot)])
    root = Obj({"net": Obj({"kernel": kernel}), "optimizer": optimizer})
    structure = open_checkpoint(write_objects(tmp_path / "ckpt", root)).structure
    assert structure.slots == {
        f"net/kernel/.OPTIMIZER_SLOT/optimizer/m{VALUE}": f"net/kernel{VALUE}"
    }
    assert structure.steps == (f"optimizer/iter{VALUE}",)
    assert structure.counters == {f"optimizer/iter{VALUE}", f"optimizer/decay{VALUE}"}
    assert [each.path for each in structure.objects] == ["net"]


@pytest.mark.parametrize(
    "slot",
    [
        "Adam/m/net/bn/moving_mean",
        "adam_4/net_bn_moving_mean_momentum",
        "sgd/net_bn_moving_mean_m_2",
    ],
)
def test_slots_of_a_list_by_full_name(tmp_path: Path, slot: str) -> None:
    bn = normalization("net/bn")
    iterations = counter(3, "iteration")
    slots = listed(iterations, Var(ONE, slot), Var(np.float32(0.1), "learning_rate"))
    optimizer = Obj({"_variables": slots, "_iterations": iterations})
    root = Obj({"optimizer": optimizer, "net": Obj({"bn": bn})})
    structure = open_checkpoint(write_objects(tmp_path / "ckpt", root)).structure
    assert structure.slots == {f"optimizer/_variables/1{VALUE}": f"net/bn/moving_mean{VALUE}"}
    assert structure.counters == {
        f"optimizer/_iterations{VALUE}",
        f"optimizer/_variables/2{VALUE}",
    }


def test_a_slot_of_nobody_knows_no_owner(tmp_path: Path) -> None:
    optimizer = Obj({"_variables": listed(Var(ONE, "Adam/m/gone")), "_iterations": counter(1)})
    structure = open_checkpoint(write_objects(tmp_path / "c", Obj({"o": optimizer}))).structure
    assert structure.slots == {f"o/_variables/0{VALUE}": ""}


def step_roots() -> dict[str, tuple[Obj, tuple[str, ...]]]:
    rate = Var(np.float32(0.1))

    def optimizer(steps: int, **others: Any) -> Obj:
        return Obj({"_iterations": counter(steps), "_learning_rate": rate, **others})

    wrapped = optimizer(60, inner_optimizer=optimizer(58))
    return {
        "one": (Obj({"o": optimizer(5)}), (f"o/_iterations{VALUE}",)),
        "two": (
            Obj({"a": optimizer(5), "b": optimizer(5)}),
            (f"a/_iterations{VALUE}", f"b/_iterations{VALUE}"),
        ),
        "wrapped": (Obj({"o": wrapped}), (f"o/inner_optimizer/_iterations{VALUE}",)),
        "the tutorial's": (Obj({"step": counter(9)}), (f"step{VALUE}",)),
        "TensorFlow 1's": (
            Obj({"optimizer_step": counter(9, "global_step")}),
            (f"optimizer_step{VALUE}",),
        ),
        "an optimizer goes first": (
            Obj({"step": counter(9), "o": optimizer(5)}),
            (f"o/_iterations{VALUE}",),
        ),
        "none": (Obj({"net": Obj({"step": counter(9)})}), ()),
        "a step of floats": (Obj({"step": rate}), ()),
    }


@pytest.mark.parametrize("name", step_roots())
def test_steps(tmp_path: Path, name: str) -> None:
    root, steps = step_roots()[name]
    assert open_checkpoint(write_objects(tmp_path / "ckpt", root)).structure.steps == steps


def test_save_counter_is_no_step(tmp_path: Path) -> None:
    structure = open_checkpoint(
        write_objects(tmp_path / "ckpt", Obj({"save_counter": counter(3)}))
    ).structure
    assert structure.saves == f"save_counter{VALUE}"
    assert structure.steps == ()
    assert structure.objects == ()


def test_second_entries_of_one_variable(tmp_path: Path) -> None:
    """model.export() lists its variables twice: equal names and bytes are one variable."""
    first = listed(Var(ONE, "bn/gamma"), Var(ONE * 2, "bn/beta"))
    second = listed(Var(ONE * 3, "bn/beta"), Var(ONE, "bn/gamma"))
    root = Obj({"variables": first, "_all_variables": second})
    structure = open_checkpoint(write_objects(tmp_path / "ckpt", root)).structure
    # The second beta has other bytes, so that it is another variable.
    assert structure.copies == {f"_all_variables/1{VALUE}"}


def test_replicas_parts_of_a_mean(tmp_path: Path) -> None:
    names = ["bn/moving_mean", "bn/moving_mean/replica_1"]
    parts = listed(*(Var(ONE * number, name) for number, name in enumerate(names)))
    root = Obj({"variables": listed(Var(ONE * 0.5, names[0])), "_all_variables": parts})
    structure = open_checkpoint(write_objects(tmp_path / "ckpt", root)).structure
    assert structure.copies == {f"_all_variables/{number}{VALUE}" for number in (0, 1)}


def broken_graphs() -> dict[str, tuple[Any, str]]:
    graph, _ = build(Obj({"bn": normalization("bn")}))
    whole = graph.SerializeToString()
    return {
        "cut off": (whole[:-3], "is no TrackableObjectGraph"),
        "no message": (b"\xff\xff\xff", "is no TrackableObjectGraph"),
        "a number": (np.float32(1), "is no string"),
        "two strings": (np.array([whole, whole], object), "is no string"),
    }


@pytest.mark.parametrize("name", broken_graphs())
def test_without_its_graph_the_keys_speak(tmp_path: Path, name: str) -> None:
    stored, problem = broken_graphs()[name]
    _, tensors = build(Obj({"net": Obj({"bn": normalization("bn")})}))
    tensors[f"net/bn/gamma/.OPTIMIZER_SLOT/o/m{VALUE}"] = ONE
    tensors[OBJECT_GRAPH] = np.array(stored, object) if isinstance(stored, bytes) else stored
    write_bundle(tmp_path / "ckpt", tensors)
    structure = open_checkpoint(str(tmp_path / "ckpt")).structure
    assert problem in structure.problem
    assert [each.path for each in structure.objects] == ["net/bn"]
    assert set(structure.objects[0].attributes) == {
        "gamma", "beta", "moving_mean", "moving_variance",
    }  # fmt: skip
    assert structure.slots == {f"net/bn/gamma/.OPTIMIZER_SLOT/o/m{VALUE}": f"net/bn/gamma{VALUE}"}


def test_node_ids_that_lead_nowhere(tmp_path: Path) -> None:
    graph, tensors = build(Obj({"bn": normalization("bn")}))
    for number in (-1, 99, 2**31 - 1):
        graph.nodes[0].children.add(node_id=number, local_name=f"to {number}")
        graph.nodes[0].slot_variables.add(
            original_variable_node_id=number, slot_name="m", slot_variable_node_id=number
        )
    graph.nodes[1].attributes.add(name="VARIABLE_VALUE", checkpoint_key="of no tensor")
    tensors[OBJECT_GRAPH] = np.array(graph.SerializeToString(), object)
    write_bundle(tmp_path / "ckpt", tensors)
    structure = open_checkpoint(str(tmp_path / "ckpt")).structure
    assert [each.path for each in structure.objects] == ["bn"]
    assert structure.slots == {}


def test_a_hundred_thousand_objects_one_in_the_other(tmp_path: Path) -> None:
    """The path names its last objects, and takes no quadratic time."""
    graph = TrackableObjectGraph()
    for number in range(100_000):
        graph.nodes.add().children.add(node_id=number + 1, local_name="a")
    graph.nodes[-1].children[0].local_name = "gamma"
    graph.nodes.add().attributes.add(name="VARIABLE_VALUE", full_name="g", checkpoint_key="deep")
    tensors = {"deep": ONE, OBJECT_GRAPH: np.array(graph.SerializeToString(), object)}
    write_bundle(tmp_path / "ckpt", tensors)
    start = time.perf_counter()
    structure = open_checkpoint(str(tmp_path / "ckpt")).structure
    assert time.perf_counter() - start < 10
    (only,) = structure.objects
    assert only.path == "/".join(["...", *["a"] * 64])
    assert only.attributes == {"gamma": "deep"}


def test_no_graph_at_all(tmp_path: Path) -> None:
    write_bundle(tmp_path / "ckpt", {"net/bn/gamma": ONE})
    checkpoint = open_checkpoint(str(tmp_path / "ckpt"))
    assert checkpoint.format == "tensor-bundle"
    assert not checkpoint.structure.tells_layers
