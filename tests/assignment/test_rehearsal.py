"""On every fixture with a graph, the static map equals what TensorFlow restores, bit by bit."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bncheck.assignment.loaders import Loader, Outcome, load, request_of
from bncheck.checkpoint import open_checkpoint
from bncheck.errors import BncheckError
from bncheck.graph import load_graph
from bncheck.rehearsal import REHEARSED, Seen, job, judge, rehearse, run_jobs
from bncheck.rehearsal.child import digest
from tests.commands import FIXTURES

if TYPE_CHECKING:
    from bncheck.checkpoint.model import Checkpoint

BY_NAME = [loader for loader in REHEARSED if loader is not Loader.OBJECT]
TRIED = [(loader, None) for loader in BY_NAME] + [
    (Loader.ASSIGNMENT_MAP, "trainable"),
    (Loader.SAVER, "global"),
    (Loader.WARM_START, "global"),
]


def _checkpoint_of(meta: Path) -> Checkpoint | None:
    if meta.stem == "saved_model":
        return open_checkpoint(str(meta.parent))
    prefixes = [meta.with_suffix(""), meta.parent / "model.ckpt-60"]
    for prefix in prefixes:
        try:
            return open_checkpoint(str(prefix))
        except BncheckError:
            continue
    return None


def _cases() -> list[tuple[str, Checkpoint, Outcome, dict[str, Any]]]:
    cases = []
    foreign = open_checkpoint(str(FIXTURES / "tf1/healthy-resource"))
    graphs = [*FIXTURES.glob("tf1/**/*.meta"), *FIXTURES.glob("**/saved_model.pb*")]
    for meta in sorted(graphs):
        graph = load_graph(str(meta))
        if graph.structure.tells_layers or not graph.variables:  # TensorFlow 2's, or a frozen one
            continue
        own = _checkpoint_of(meta)
        for checkpoint in (own, foreign):
            if checkpoint is None:
                continue
            for loader, collection in TRIED if checkpoint is own else TRIED[:2]:
                outcome = load(loader, request_of(graph, checkpoint, collection))
                told = f"{meta.relative_to(FIXTURES)} {checkpoint.path} {loader.value} {collection}"
                cases.append((told, checkpoint, outcome, job(graph, checkpoint, outcome)))
    return cases


def _cases_of_objects() -> list[tuple[str, Checkpoint, Outcome, dict[str, Any]]]:
    """SavedModels of TensorFlow 2 into which their own variables are restored, and other ones."""
    others = [
        open_checkpoint(str(FIXTURES / path))
        for path in ("keras2/mirrored/export", "keras3/trained/checkpoint", "tf1/healthy-resource")
    ]
    cases = []
    for path in sorted(FIXTURES.glob("**/saved_model.pb")):
        graph = load_graph(str(path))
        if graph.structure.tells_layers:
            for checkpoint in (open_checkpoint(str(path.parent)), *others):
                outcome = load(Loader.OBJECT, request_of(graph, checkpoint))
                told = f"{path.relative_to(FIXTURES)} {checkpoint.path} object"
                cases.append((told, checkpoint, outcome, job(graph, checkpoint, outcome)))
    return cases


@pytest.mark.tensorflow
def test_the_static_answer_is_what_tensorflow_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow")
    # One start of TensorFlow for a thousand restores, of which each takes a tenth of a second.
    monkeypatch.setenv("BNCHECK_REHEARSAL_TIMEOUT", "1800")
    objects = _cases_of_objects()
    assert len(objects) > 100
    cases = _cases() + objects
    assert len(cases) > 1000
    answers = run_jobs([each[3] for each in cases])
    wrong: dict[str, object] = {}
    restored = raised = 0
    for (told, checkpoint, outcome, _), answer in zip(cases, answers, strict=True):
        rehearsal = judge(checkpoint, outcome, answer)
        if not rehearsal.agrees:
            wrong[told] = rehearsal.failed or dict(rehearsal.disagreements)
        restored += sum(seen is Seen.RESTORED for seen in rehearsal.seen.values())
        raised += bool(rehearsal.raised)
    assert wrong == {}
    # The comparison saw what it is for.
    assert restored > 1000
    assert raised > 50


PROGRAM = """
import tensorflow as tf

class Norm(tf.Module):
    def __init__(self, size):
        super().__init__()
        self.moving_mean = tf.Variable(tf.random.normal([size]), trainable=False)
        self.moving_variance = tf.Variable(tf.random.normal([size]), trainable=False)

class Net(tf.Module):
    def __init__(self, size=3):
        super().__init__()
        self.norms = [Norm(4), Norm(size)]
        self.last = self.norms[1]
        self.label = tf.Variable("a label")

def net():
    return Net()

def only_the_last():
    return tf.train.Checkpoint(last=Net().last)

def another_size():
    return Net(5)

def keras_model():
    return tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.BatchNormalization()])
"""


@pytest.mark.tensorflow
def test_models_that_programs_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tf = pytest.importorskip("tensorflow")
    (tmp_path / "rehearsed_program.py").write_text(PROGRAM, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    program = importlib.import_module("rehearsed_program")
    checkpoints = {
        name: open_checkpoint(tf.train.Checkpoint(getattr(program, name)()).write(f"{name}.ckpt"))
        for name in ("net", "keras_model")
    }
    found = {}
    for function, saved in (
        ("net", "net"),
        ("only_the_last", "net"),
        ("another_size", "net"),
        ("net", "keras_model"),
        ("keras_model", "keras_model"),
    ):
        checkpoint = checkpoints[saved]
        graph = load_graph(f"rehearsed_program:{function}")
        outcome = load(Loader.OBJECT, request_of(graph, checkpoint))
        rehearsal = rehearse(graph, checkpoint, outcome)
        assert rehearsal.agrees, (function, saved, rehearsal)
        seen = [each.value for each in rehearsal.seen.values()]
        found[function, saved] = (len(outcome.restored), seen.count("restored"), rehearsal.raised)
    assert found["net", "net"] == (5, 4, "")  # the label is what it was before
    assert found["only_the_last", "net"] == (2, 2, "")
    assert found["net", "keras_model"] == (0, 0, "")
    assert found["keras_model", "keras_model"] == (4, 4, "")
    assert "incompatible tensor with shape (3,)" in found["another_size", "net"][2]


def _answer(**after: str) -> dict[str, Any]:
    before = dict.fromkeys(after, "initial")
    told = {"tensorflow": "2", "raised": None, "derived": [], "before": [before, before]}
    return {**told, "after": {name: value or "initial" for name, value in after.items()}}


def test_a_rehearsal_that_did_something_else_disagrees() -> None:
    checkpoint = open_checkpoint(str(FIXTURES / "tf1/healthy"))
    graph = load_graph(checkpoint.path)
    outcome = load(Loader.ASSIGNMENT_MAP, request_of(graph, checkpoint, "trainable"))
    values = checkpoint.read(graph.variables).arrays
    told = {name: digest(values[name]) for name in outcome.restored} | dict.fromkeys(
        outcome.skipped, ""
    )
    assert judge(checkpoint, outcome, _answer(**told)).agrees
    mean, gamma = "net/bn_in/moving_mean", "net/bn_in/gamma"
    for name, value, text in (
        (gamma, "", "kept-initializer, and should be restored"),
        (gamma, "other", "differs, and should be restored"),
        (mean, digest(values[mean]), "restored, and should keep its initializer"),
        (mean, "other", "differs, and should keep its initializer"),
    ):
        rehearsal = judge(checkpoint, outcome, _answer(**(told | {name: value})))
        assert rehearsal.disagreements == {name: text}
        assert not rehearsal.agrees
    raised = judge(checkpoint, outcome, _answer(**told) | {"raised": "ValueError: no"})
    assert raised.disagreements == {"": "it raises ValueError: no, and should not"}
    assert judge(checkpoint, outcome, {"failed": "it crashed"}).failed == "it crashed"


def test_a_digest_is_of_the_type_the_shape_and_every_bit() -> None:
    values = [
        np.zeros(4, np.float32),
        np.zeros(4, np.int32),
        np.zeros((2, 2), np.float32),
        -np.zeros(4, np.float32),
        np.array([b"a", b"bc"], object),
        np.array([b"ab", b"c"], object),
        b"a\0",
        b"a",
    ]
    assert len({digest(value) for value in values}) == len(values)
    assert digest(np.arange(8)[::2]) == digest(np.array([0, 2, 4, 6]))
