"""The listener for TensorFlow 1's sessions: what it audits, and what it asks of its hook."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.integrations.estimator import audit_listener
from bncheck.integrations.watch import CheckpointWarning

pytestmark = pytest.mark.tensorflow


def _train(
    tf: Any, directory: Path, listener: Any, *, updates: bool, own_saver: bool = False
) -> int:
    """Train one layer for 60 steps, save each 20th, and return how many steps there were."""
    v1 = tf.compat.v1
    with tf.Graph().as_default():
        step = v1.train.get_or_create_global_step()
        x = tf.constant(np.random.default_rng(0).normal(1, 2, (64, 3)).astype("float32"))

        def variable(name: str, value: float, *, trainable: bool) -> Any:
            initial = v1.constant_initializer(value)
            return v1.get_variable(name, (3,), initializer=initial, trainable=trainable)

        gamma = variable("bn/gamma", 1, trainable=True)
        beta = variable("bn/beta", 0, trainable=True)
        mean = variable("bn/moving_mean", 0, trainable=False)
        variance = variable("bn/moving_variance", 1, trainable=False)
        m, v = tf.nn.moments(x, [0])
        y = tf.nn.batch_normalization(x, m, v, beta, gamma, 1e-3)
        loss = tf.reduce_mean((y - 3.0) ** 2)
        ops = [
            v1.assign_sub(mean, (mean - m) * 0.1).op,
            v1.assign_sub(variance, (variance - v) * 0.1).op,
        ]
        for op in ops:
            v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, op)
        with tf.control_dependencies(ops if updates else []):
            train = v1.train.GradientDescentOptimizer(0.1).minimize(loss, global_step=step)
        hook = v1.train.CheckpointSaverHook(
            str(directory),
            save_steps=20,
            listeners=[listener],
            saver=v1.train.Saver() if own_saver else None,
        )
        hooks = [hook, v1.train.StopAtStepHook(60)]
        steps = 0
        with v1.train.MonitoredTrainingSession(hooks=hooks) as session:
            while not session.should_stop():
                session.run(train)
                steps += 1
    return steps


def _audited(listener: Any) -> list[tuple[str, list[str]]]:
    return [
        (Path(each.path).name, [f.rule.code for f in each.findings if f.level.name == "ERROR"])
        for report in listener.reports
        for each in report.checkpoints
    ]


@pytest.mark.parametrize("given", [True, False])
def test_every_save_but_that_of_step_0_is_audited(tf: Any, tmp_path: Path, given: bool) -> None:
    listener = audit_listener(tmp_path if given else None)
    assert isinstance(listener, tf.compat.v1.train.CheckpointSaverListener)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CheckpointWarning)
        assert _train(tf, tmp_path, listener, updates=True) == 60
    assert _audited(listener) == [(f"model.ckpt-{step}", []) for step in (20, 40, 60)]


def test_a_finding_stops_the_training(tf: Any, tmp_path: Path) -> None:
    listener = audit_listener(tmp_path)
    with pytest.warns(CheckpointWarning, match="error BN501 update-ops-not-run"):
        assert _train(tf, tmp_path, listener, updates=False) == 20
    assert _audited(listener) == [("model.ckpt-20", ["BN501"])]


def test_a_finding_may_only_warn_or_raise(tf: Any, tmp_path: Path) -> None:
    listener = audit_listener(on_finding="warn")
    with pytest.warns(CheckpointWarning, match="BN501"):
        assert _train(tf, tmp_path / "a", listener, updates=False) == 60
    assert len(listener.reports) == 3
    with pytest.raises(AssertionError, match="BN501"):
        _train(tf, tmp_path / "b", audit_listener(on_finding="raise"), updates=False)


def test_a_saver_that_the_graph_does_not_know(tf: Any, tmp_path: Path) -> None:
    listener = audit_listener()
    with pytest.warns(CheckpointWarning, match="at step 20 cannot be told.*checkpoint_dir"):
        assert _train(tf, tmp_path / "a", listener, updates=True, own_saver=True) == 60
    assert listener.reports == []
    directory = tmp_path / "b"
    given = audit_listener(directory)
    assert _train(tf, directory, given, updates=True, own_saver=True) == 60
    assert [name for name, _ in _audited(given)] == [f"model.ckpt-{n}" for n in (20, 40, 60)]
