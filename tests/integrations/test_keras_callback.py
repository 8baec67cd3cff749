"""The callback for Keras: what it audits of a real training, and what ends one."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.integrations.keras import _Saves, audit_checkpoints
from bncheck.integrations.watch import CheckpointWarning, Watch

BOTH = pytest.mark.parametrize("package", ["keras", "tf_keras"])


def _module(package: str, _tf: Any) -> Any:
    """Return Keras, which needs TensorFlow to be there."""
    return pytest.importorskip(package)


def _model(keras: Any, *, trains: bool) -> Any:
    """Return a model of one batch norm layer, which may never be told that it is trained."""

    # Keras has no types.
    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.bn = keras.layers.BatchNormalization(momentum=0.5, name="bn")
            self.out = keras.layers.Dense(1, name="out")

        def call(self, inputs: Any, training: bool = False) -> Any:
            return self.out(self.bn(inputs, training=training and trains))

    model = Net()
    model.compile("sgd", "mse")
    return model


def _fit(model: Any, *callbacks: Any) -> int:
    """Train for 3 epochs of 4 batches, and return after how many it ended."""
    x = np.random.default_rng(0).normal(1, 2, (32, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    done = model.fit(x, y, epochs=3, batch_size=8, verbose=0, callbacks=list(callbacks))
    return len(done.epoch)


def _saver(keras: Any, path: Path, **more: Any) -> Any:
    return keras.callbacks.ModelCheckpoint(str(path), save_weights_only=True, **more)


def _codes(callback: Any) -> list[list[str]]:
    return [[f.rule.code for f in r.checkpoints[0].findings] for r in callback.reports]


@BOTH
@pytest.mark.tensorflow
def test_every_save_is_audited(package: str, tf: Any, tmp_path: Path) -> None:
    keras = _module(package, tf)
    saver = _saver(keras, tmp_path / "at-{epoch:02d}-{loss:.3f}.weights.h5")
    audits = audit_checkpoints(saver)
    assert isinstance(audits, keras.callbacks.Callback)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CheckpointWarning)
        assert _fit(_model(keras, trains=True), saver, audits) == 3
    assert [r.checkpoints[0].path for r in audits.reports] == sorted(
        str(path) for path in tmp_path.iterdir()
    )
    assert _codes(audits) == [[], [], []]


@BOTH
@pytest.mark.tensorflow
def test_a_finding_stops_the_training(package: str, tf: Any, tmp_path: Path) -> None:
    keras = _module(package, tf)
    saver = _saver(keras, tmp_path / "{epoch}.weights.h5")
    audits = audit_checkpoints(saver)
    with pytest.warns(CheckpointWarning, match="error BN201 untrained-statistics"):
        assert _fit(_model(keras, trains=False), saver, audits) == 1
    assert _codes(audits) == [["BN201"]]


@BOTH
@pytest.mark.tensorflow
def test_a_finding_may_only_warn_or_raise(package: str, tf: Any, tmp_path: Path) -> None:
    keras = _module(package, tf)
    saver = _saver(keras, tmp_path / "last.weights.h5")
    warned = audit_checkpoints(saver, on_finding="warn")
    with pytest.warns(CheckpointWarning, match="BN201"):
        assert _fit(_model(keras, trains=False), saver, warned) == 3
    assert len(warned.reports) == 3  # one file, written three times
    with pytest.raises(AssertionError, match="BN201"):
        _fit(_model(keras, trains=False), saver, audit_checkpoints(saver, on_finding="raise"))
    ignored = audit_checkpoints(saver, on_finding="raise", ignore=["BN201"])
    assert _fit(_model(keras, trains=False), saver, ignored) == 3


@BOTH
@pytest.mark.tensorflow
def test_saves_between_epochs_are_audited(package: str, tf: Any, tmp_path: Path) -> None:
    keras = _module(package, tf)
    saver = _saver(keras, tmp_path / "{epoch}.weights.h5", save_freq=3)
    audits = audit_checkpoints(saver, on_finding="warn")
    assert _fit(_model(keras, trains=True), saver, audits) == 3
    assert [r.checkpoints[0].step for r in audits.reports] == [3, 6, 9, 12]


@BOTH
@pytest.mark.tensorflow
def test_in_front_of_the_saver_it_audits_the_last_save_in_the_end(
    package: str, tf: Any, tmp_path: Path
) -> None:
    keras = _module(package, tf)
    saver = _saver(keras, tmp_path / "{epoch}.weights.h5")
    audits = audit_checkpoints(saver)
    _fit(_model(keras, trains=True), audits, saver)
    assert [Path(r.checkpoints[0].path).name[0] for r in audits.reports] == ["1", "2", "3"]


@pytest.mark.tensorflow
def test_tensorflow_format_of_keras_2(tf: Any, tmp_path: Path) -> None:
    keras = _module("tf_keras", tf)
    saver = _saver(keras, tmp_path / "model-{epoch}")
    audits = audit_checkpoints(saver)
    _fit(_model(keras, trains=True), saver, audits)
    assert [r.checkpoints[0].path for r in audits.reports] == [
        str(tmp_path / f"model-{epoch}") for epoch in (1, 2, 3)
    ]
    assert {r.checkpoints[0].format for r in audits.reports} == {"object-based"}


@pytest.mark.tensorflow
def test_a_path_alone_is_for_the_keras_of_tensorflow(
    tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package, legacy in (("keras", "0"), ("tf_keras", "1")):
        keras = _module(package, tf)
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", legacy)
        path = tmp_path / package / "{epoch}.weights.h5"
        path.parent.mkdir()
        audits = audit_checkpoints(path)
        assert isinstance(audits, keras.callbacks.Callback)
        _fit(_model(keras, trains=True), _saver(keras, path), audits)
        assert len(audits.reports) == 3


@pytest.mark.tensorflow
def test_a_training_that_saves_nothing_does_not_seem_audited(tf: Any, tmp_path: Path) -> None:
    keras = _module("keras", tf)
    path = tmp_path / "{epoch}.weights.h5"
    with pytest.warns(CheckpointWarning, match="no checkpoint was saved at .*: nothing was"):
        _fit(_model(keras, trains=True), audit_checkpoints(path))
    with pytest.raises(AssertionError, match="no checkpoint was saved"):
        _fit(_model(keras, trains=True), audit_checkpoints(path, on_finding="raise"))


def test_wrong_arguments_raise_at_once() -> None:
    class Callback:
        pass

    class Saver(Callback):
        filepath = "a.keras"
        save_freq = "epoch"

    with pytest.raises(ValueError, match="on_finding must be one of"):
        audit_checkpoints(Saver(), on_finding="halt")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no rule"):
        audit_checkpoints(Saver(), select=["BN999"])
    assert isinstance(audit_checkpoints(Saver()), Callback)


def test_what_is_new_at_a_path(tmp_path: Path) -> None:
    saves = _Saves(str(tmp_path / "[a]{epoch:02d}"), Watch("warn", {}))
    assert saves.new() == []
    names = ["[a]01.index", "[a]01.data-00000-of-00001", "checkpoint", "a01.index"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (number, number))
    model = tmp_path / "[a]02"
    model.mkdir()
    assert saves.new() == [str(tmp_path / "[a]01")]
    (model / "saved_model.pb").write_bytes(b"")
    os.utime(model / "saved_model.pb", (9, 9))
    os.utime(tmp_path / "[a]01.index", (10, 10))
    assert saves.new() == [str(model), str(tmp_path / "[a]01")]
    assert saves.new() == []
