"""What a graph says of moving averages: momentum, how often they are updated, who saves them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bncheck.graph import load_graph
from tests.graph.test_handmade import const, meta_graph, node, read

FIXTURES = Path(__file__).parent.parent.parent / "fixtures" / "tf1"


@pytest.mark.parametrize(
    ("fixture", "updates"), [("undertrained-by-assign", 1), ("two-updates-a-step", 2)]
)
def test_averages_written_with_assign(fixture: str, updates: int) -> None:
    graph = load_graph(str(FIXTURES / fixture / "model.ckpt-200"))
    assert graph.momentum == {"net/bn/pop_mean": 0.99, "net/bn/pop_var": 0.99}
    assert graph.updates == {"net/bn/pop_mean": updates, "net/bn/pop_var": updates}


def test_averages_of_tf_layers() -> None:
    graph = load_graph(str(FIXTURES / "healthy" / "model.ckpt-60"))
    assert set(graph.momentum.values()) == {0.9}
    assert set(graph.updates.values()) == {1}
    assert graph.normalized == {
        f"net/{layer}/{role}" for layer in ("bn_in", "bn_out") for role in ("gamma", "beta")
    }


def test_a_warm_start_is_seen_in_the_initializers() -> None:
    graph = load_graph(str(FIXTURES / "warm-start-trainables" / "model.ckpt-5"))
    restored = {name for name, variable in graph.variables.items() if variable.restored}
    assert restored == set(graph.collections["trainable_variables"])


def test_a_mean_over_replicas_is_saved_under_the_variables_name(tmp_path: Path) -> None:
    names = const("names")
    names.attr["value"].tensor.string_val.extend([b"v"])
    nodes = [
        node("v", "VarHandleOp"),
        node("v/replica_1", "VarHandleOp"),
        node("read", "ReadVariableOp", "v"),
        node("read_1", "ReadVariableOp", "v/replica_1"),
        node("sum", "AddN", "read", "read_1"),
        names,
        node("save", "SaveV2", "file", "names", "slices", "sum"),
    ]
    meta = meta_graph(*nodes)
    meta.saver_def.save_tensor_name = "save:0"
    assert read(tmp_path, meta).saved_as == {"v": "v"}
