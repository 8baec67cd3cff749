"""Verdicts on checkpoints of objects that no fixture has: lists, equal names, lost statistics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bncheck import inspect
from bncheck.audit import Options
from tests.commands import FIXTURES
from tests.writers.objects import Obj, Var, listed, normalization, write_objects

if TYPE_CHECKING:
    from bncheck.report.model import Report

ROLES = ("gamma", "beta", "moving_mean", "moving_variance")


def ramp(size: int, start: float = 0.5) -> np.ndarray:
    return np.linspace(start, start + 1, size, dtype=np.float32)


def export(*layers: dict[str, np.ndarray], copies: bool = True) -> Obj:
    """Return what model.export() writes of layers whose full names all are net/ROLE."""

    def variables() -> Obj:
        return listed(*(Var(v, f"net/{role}") for layer in layers for role, v in layer.items()))

    root = Obj({"variables": variables()})
    if copies:
        root.children["_all_variables"] = variables()
    return root


def batch_norm(size: int, *, trained: bool = True, start: float = 0.5) -> dict[str, np.ndarray]:
    values = ramp(size, start)
    mean, variance = (values - 0.2, values) if trained else (values * 0, values * 0 + 1)
    return dict(zip(ROLES, (values, values - 1, mean, variance), strict=True))


def dense(size: int) -> dict[str, np.ndarray]:
    return {"kernel": np.ones((2, size), np.float32), "bias": ramp(size)}


def layer_norm(size: int) -> dict[str, np.ndarray]:
    return {"gamma": ramp(size), "beta": ramp(size)}


def states(report: Report) -> list[tuple[str, int | None]]:
    return [(layer.status.value, layer.channels) for layer in report.layers]


def codes(report: Report) -> list[str]:
    return [finding.rule.code for finding in report.findings]


def test_layers_of_one_name_in_a_list_keep_their_own_variables(tmp_path: Path) -> None:
    layers = [part for size in (6, 8, 4) for part in (dense(size), batch_norm(size))]
    report = inspect(write_objects(tmp_path / "c", export(*layers)))
    assert states(report) == [("trained", 6), ("trained", 8), ("trained", 4)]
    assert codes(report) == []


def test_ten_layers_are_not_sorted_as_text(tmp_path: Path) -> None:
    sizes = list(range(3, 15))
    report = inspect(write_objects(tmp_path / "c", export(*map(batch_norm, sizes))))
    assert sorted(channels or 0 for _, channels in states(report)) == sizes
    assert codes(report) == []


def test_equal_layers_of_one_list_are_no_copies(tmp_path: Path) -> None:
    """Untrained statistics of one width are all alike; each layer still has its own."""
    layers = [batch_norm(4, trained=False, start=0.1 * number) for number in range(5)]
    report = inspect(write_objects(tmp_path / "c", export(*layers)))
    assert states(report) == [("untrained", 4)] * 5
    assert codes(report) == ["BN201"] * 5


def test_a_layer_norm_in_between_lends_nothing(tmp_path: Path) -> None:
    layers = [layer_norm(4), batch_norm(4, trained=False), batch_norm(4)]
    report = inspect(write_objects(tmp_path / "c", export(*layers)))
    assert states(report) == [("untrained", 4), ("trained", 4)]
    assert codes(report) == ["BN201"]


def test_a_list_in_the_order_of_the_names(tmp_path: Path) -> None:
    """tf.Module lists beta before gamma."""
    sizes = (3, 4, 5)
    layers = [dict(sorted(batch_norm(size).items())) for size in sizes]
    report = inspect(write_objects(tmp_path / "c", export(*layers, copies=False)))
    assert [channels for _, channels in states(report)] == list(sizes)
    assert codes(report) == []


def test_statistics_that_keras_3_does_not_track_are_missing(tmp_path: Path) -> None:
    """Layers in a list: the optimizer alone holds their gamma and beta, its slots their names."""
    stem = normalization("net", size=4)
    lost = {role: Var(ramp(3), f"net/{role}") for role in ("gamma", "beta")}
    trained = listed(stem.children["gamma"], stem.children["beta"], *lost.values())
    names = ["net_stem_gamma", "net_stem_beta", "net_batch_normalization_1_gamma"]
    names.append("net_batch_normalization_1_beta")
    iteration = Var(np.int64(60), "adam/iteration")
    slots = [
        Var(np.zeros(3 if "_1_" in name else 4, np.float32), f"adam/{name}_{kind}")
        for name in names
        for kind in ("momentum", "velocity")
    ]
    optimizer = Obj(
        {
            "_variables": listed(iteration, *slots),
            "_trainable_variables": trained,
            "_iterations": iteration,
        }
    )
    root = Obj({"model": Obj({"stem": stem}), "optimizer": optimizer})
    report = inspect(write_objects(tmp_path / "c", root))
    found = [(f.rule.code, f.layer) for f in report.findings]
    lost_layer = "net_batch_normalization_1"
    assert found == [("BN101", lost_layer), ("BN102", lost_layer)]
    assert sorted(status for status, _ in states(report)) == ["missing", "trained"]


def test_no_object_is_batch_norm_for_its_name_alone(tmp_path: Path) -> None:
    """A LayerNormalization that is called bn1: all of its variables are there."""
    affine = Obj({role: Var(ramp(3), f"bn1/{role}") for role in ("gamma", "beta")})
    root = Obj({"a": affine, "b": normalization("b")})
    report = inspect(write_objects(tmp_path / "c", root))
    assert [layer.name for layer in report.layers] == ["b"]
    assert codes(report) == ["BN103"]


@pytest.mark.parametrize("path", ["keras2/frozen/model.keras", "keras3/frozen/model.h5"])
def test_frozen_layers_are_not_undertrained(path: str) -> None:
    report = inspect(str(FIXTURES / path), Options(step=3))
    assert all(layer.config and layer.config.trainable is False for layer in report.layers)
    assert codes(report) == []


def test_a_restored_layer_proves_it_for_the_others(tmp_path: Path) -> None:
    small, large = normalization("small", size=3), normalization("large", size=3)
    small.children["moving_variance"] = Var(ramp(3) * 0.01, "small/moving_variance")
    large.children["moving_variance"] = Var(ramp(3) * 9, "large/moving_variance")
    prefix = write_objects(tmp_path / "c", Obj({"small": small, "large": large}))
    report = inspect(prefix, Options(step=10, momentum=0.99))
    assert [(f.rule.code, str(f.level), f.layer) for f in report.findings] == [
        ("BN205", "note", "large")
    ]
    alone = write_objects(tmp_path / "alone", Obj({"large": large}))
    report = inspect(alone, Options(step=10, momentum=0.99))
    assert [(f.rule.code, str(f.level)) for f in report.findings] == [("BN205", "warning")]


def test_saves_are_no_steps(tmp_path: Path) -> None:
    root = Obj({"bn": normalization("bn"), "save_counter": Var(np.int64(3), "save_counter")})
    report = inspect(write_objects(tmp_path / "c", root), Options(momentum=0.99))
    assert (report.step, report.saves) == (3, 3)
    assert codes(report) == []


def test_an_object_graph_that_describes_nothing_is_not_clean(tmp_path: Path) -> None:
    from bncheck.proto.objects_pb2 import TrackableObjectGraph
    from tests.writers.bundle import write_bundle
    from tests.writers.objects import OBJECT_GRAPH, build

    _, tensors = build(Obj({"bn": normalization("bn", trained=False)}))
    graph = TrackableObjectGraph()
    graph.nodes.add()
    tensors[OBJECT_GRAPH] = np.array(graph.SerializeToString(), object)
    write_bundle(tmp_path / "c", tensors)
    report = inspect(str(tmp_path / "c"))
    assert report.exit_code == 3
    assert "describes none of the variables" in report.skipped[0].reason
    assert states(report) == [("untrained", 3)]
