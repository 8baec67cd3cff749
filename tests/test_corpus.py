"""Checkpoints by strangers, where they lie beside the repository, against their manifest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bncheck import BncheckError, inspect
from bncheck.audit import Options
from tests.commands import ROOT

CORPUS = ROOT.parent / "shared" / "corpus"
MANIFEST = CORPUS / "MANIFEST.json"
pytestmark = pytest.mark.skipif(not MANIFEST.is_file(), reason="the corpus is not here")


def _checkpoints() -> list[dict[str, Any]]:
    items = json.loads(MANIFEST.read_text("utf-8")) if MANIFEST.is_file() else []
    return [each for item in items for each in item["checkpoints"]]


ALL = _checkpoints()


@pytest.mark.parametrize("each", ALL, ids=[each["path"] for each in ALL])
def test_layers_and_states(each: dict[str, Any]) -> None:
    path = CORPUS / each["path"]
    report = inspect(f"{CORPUS}/{each['path']}")
    states = [layer.status.value for layer in report.layers]
    assert len(states) == each["batch_norm_layers"]
    assert states.count("untrained") == each["untrained_layers"]
    whole = bool(list(path.parent.glob("*.data-*"))) or path.is_file() or path.is_dir()
    if not whole:
        # An index without its data is never clean, whether or not anything had to be read from it.
        assert report.exit_code == 3
        assert set(states) <= {"unreadable"}
    else:
        assert not each["data_missing"]
        assert report.exit_code == (1 if each["untrained_layers"] else 0)
        if not each["untrained_layers"]:
            assert [finding.rule.code for finding in report.findings] == []


def test_every_format_is_there() -> None:
    formats = {inspect(f"{CORPUS}/{each['path']}").format for each in ALL}
    assert formats == {
        "tensor-bundle", "tensor-slices-v1", "object-based", "saved-model", "keras-h5",
        "keras-archive",
    }  # fmt: skip


def test_pytorch_file_is_called_so() -> None:
    with pytest.raises(BncheckError, match="a PyTorch file"):
        inspect(str(CORPUS / "xnornet-pytorch-trap" / "model.ckpt"))


def test_graph_does_not_change_the_states() -> None:
    path = str(CORPUS / "phasenet/190703-214543/model_95.ckpt")
    with_graph, without = inspect(path), inspect(path, Options(use_graph=False))
    assert with_graph.graph is not None
    assert {layer.momentum for layer in with_graph.layers} == {0.99}
    assert [(each.name, each.status) for each in with_graph.layers] == [
        (each.name, each.status) for each in without.layers
    ]
