"""Reading a run that is going on: what vanishes or is not finished is no defect."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bncheck.errors import NotFoundError
from bncheck.history import reading
from bncheck.history.find import find_checkpoints
from bncheck.history.pipeline import HistoryOptions, history
from tests.commands import FIXTURES, ROOT
from tests.reads import count_reads

RUN = FIXTURES / "runs/tf1-healthy"
PREFIX = "model.ckpt-"
LONG_AGO = 1_600_000_000


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a healthy run, whose files nobody has touched for years."""
    monkeypatch.setattr(reading, "_PAUSE", 0.001)
    for path in RUN.iterdir():
        shutil.copy(path, tmp_path)
        os.utime(tmp_path / path.name, (LONG_AGO, LONG_AGO))
    return tmp_path


def _data(run: Path, step: int) -> Path:
    return run / f"{PREFIX}{step}.data-00000-of-00001"


def _cut(path: Path, *, age: float) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    stamp = time.time() - age
    index = Path(str(path).split(".data-", maxsplit=1)[0] + ".index")
    for each in (path, index):
        os.utime(each, (stamp, stamp))


def test_every_checkpoint_is_read_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count_reads(monkeypatch)
    report = history(run, HistoryOptions(jobs=1))
    assert len(report.points) == 7
    assert len(counted) == 7 * 13
    assert set(counted.values()) == {1}


def test_what_was_cut_off_long_ago_is_damaged(run: Path) -> None:
    _cut(_data(run, 60), age=3600)
    report = history(run)
    assert [each.what for each in report.skipped] == [str(_data(run, 60))] or (
        str(run / "model.ckpt-60") in report.skipped[0].what
    )
    assert report.exit_code == 3
    assert len(report.points) == 6
    assert report.findings == ()


def test_what_was_cut_off_just_now_is_not_finished(run: Path) -> None:
    _cut(_data(run, 120), age=1)
    report = history(run)
    assert dict(report.passing) == {str(run / "model.ckpt-120"): "it was still being written"}
    assert (report.skipped, report.exit_code) == ((), 0)
    assert [point.step for point in report.points][-1] == 100


def test_data_that_is_missing_beside_an_old_index_is_damage(run: Path) -> None:
    _data(run, 40).unlink()
    report = history(run)
    assert report.exit_code == 3
    assert "this data file is missing" in report.skipped[0].reason


def test_what_vanishes_between_listing_and_reading_is_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed_then_deleted(paths: Any) -> Any:
        found = find_checkpoints(paths)
        for path in run.glob(f"{PREFIX}20*"):
            path.unlink()
        return found

    monkeypatch.setattr("bncheck.history.pipeline.find_checkpoints", listed_then_deleted)
    report = history(run)
    assert dict(report.passing) == {str(run / "model.ckpt-20"): "it was deleted"}
    assert (report.exit_code, report.findings) == (0, ())
    # The two beside the gap are compared with each other.
    assert report.points[1].step == 40
    assert report.points[1].weights_moved is True


def test_what_vanishes_between_its_index_and_its_data_is_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = reading.take_snapshot

    def deleted_meanwhile(checkpoint: Any, *arguments: Any, **options: Any) -> Any:
        if checkpoint.path.endswith("-40"):
            for path in run.glob(f"{PREFIX}40*"):
                path.unlink()
        return take(checkpoint, *arguments, **options)

    monkeypatch.setattr(reading, "take_snapshot", deleted_meanwhile)
    report = history(run)
    assert dict(report.passing) == {str(run / "model.ckpt-40"): "it was deleted"}
    assert report.exit_code == 0


def test_what_is_replaced_while_it_is_read_is_read_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old index beside new data fails its checksums; the second try sees the new index."""
    take = reading.take_snapshot
    replaced = []

    def replaced_meanwhile(checkpoint: Any, *arguments: Any, **options: Any) -> Any:
        if checkpoint.path.endswith("-120") and not replaced:
            replaced.append(checkpoint.path)
            for suffix in (".data-00000-of-00001", ".index"):
                shutil.copy(run / f"{PREFIX}100{suffix}", run / f"{PREFIX}120{suffix}")
        return take(checkpoint, *arguments, **options)

    monkeypatch.setattr(reading, "take_snapshot", replaced_meanwhile)
    points = history(run, HistoryOptions(jobs=1)).points
    assert replaced
    assert (points[-1].vectors == points[-2].vectors).all()


def test_nothing_readable_is_an_error(run: Path) -> None:
    for path in run.glob("*.index"):
        path.write_bytes(b"no table")
        os.utime(path, (LONG_AGO, LONG_AGO))
    with pytest.raises(NotFoundError, match="none of 7 checkpoints here could be read"):
        history(run)


class _Job(threading.Thread):
    """Writes and deletes checkpoints as a Saver does: data, then index; index, then data."""

    def __init__(self, run: Path) -> None:
        super().__init__(daemon=True)
        self._run = run
        self._end = threading.Event()
        self.saved = 0

    def run(self) -> None:
        numbers = random.Random(3)  # noqa: S311 - which checkpoint comes next is no secret
        kept: list[int] = []
        while not self._end.is_set():
            self.saved += 1
            step = 1000 + self.saved
            source = f"{PREFIX}{numbers.choice((20, 40, 60, 80, 100, 120))}"
            for suffix in (".data-00000-of-00001", ".index"):
                target = self._run / f"{PREFIX}{step}{suffix}"
                temporary = target.with_name(target.name + ".tempstate1")
                with open(RUN / f"{source}{suffix}", "rb") as old, open(temporary, "wb") as new:
                    content = old.read()
                    new.write(content[: len(content) // 2])
                    new.flush()
                    time.sleep(0.001)
                    new.write(content[len(content) // 2 :])
                temporary.replace(target)
            kept.append(step)
            listed = "".join(f'all_model_checkpoint_paths: "{PREFIX}{n}"\n' for n in kept)
            (self._run / "checkpoint").write_text(
                f'model_checkpoint_path: "{PREFIX}{step}"\n{listed}'
            )
            while len(kept) > 12:
                gone = kept.pop(0)
                for suffix in (".index", ".data-00000-of-00001"):
                    (self._run / f"{PREFIX}{gone}{suffix}").unlink()
                    time.sleep(0.001)

    def end(self) -> None:
        self._end.set()
        self.join()


def test_a_run_that_is_going_on_never_looks_defective(tmp_path: Path) -> None:
    job = _Job(tmp_path)
    job.start()
    seconds = float(os.environ.get("BNCHECK_LIVE_SECONDS", "6"))
    deadline = time.monotonic() + seconds
    rounds = 0
    try:
        while not list(tmp_path.glob("*.index")):
            time.sleep(0.01)
        while time.monotonic() < deadline:
            report = history(tmp_path, HistoryOptions(jobs=1 + rounds % 2))
            assert report.skipped == ()
            assert {f.rule.code for f in report.findings} <= {"BN603"}, report.findings
            rounds += 1
    finally:
        job.end()
    assert rounds > seconds / 2
    assert job.saved > 100


_TRAINING = """
import sys, time
import numpy as np
import tensorflow as tf

directory, seconds = sys.argv[1], float(sys.argv[2])
tf1 = tf.compat.v1
tf1.disable_eager_execution()
x = tf1.placeholder(tf.float32, [None, 8])
with tf1.variable_scope("net"):
    kernel = tf1.get_variable("dense/kernel", [8, 16])
    y = tf.matmul(x, kernel)
    gamma = tf1.get_variable("bn/gamma", [16], initializer=tf1.ones_initializer())
    beta = tf1.get_variable("bn/beta", [16], initializer=tf1.zeros_initializer())
    zeros, ones = tf1.zeros_initializer(), tf1.ones_initializer()
    mean = tf1.get_variable("bn/moving_mean", [16], initializer=zeros, trainable=False)
    variance = tf1.get_variable("bn/moving_variance", [16], initializer=ones, trainable=False)
    batch_mean, batch_variance = tf.nn.moments(y, [0])
    updates = [
        old.assign(old * 0.9 + new * 0.1)
        for old, new in ((mean, batch_mean), (variance, batch_variance))
    ]
    out = tf.nn.relu(tf.nn.batch_normalization(y, batch_mean, batch_variance, beta, gamma, 1e-3))
    loss = tf.reduce_mean((tf.reduce_sum(out, 1) - tf.reduce_sum(x, 1)) ** 2)
step = tf1.train.get_or_create_global_step()
with tf.control_dependencies(updates):
    train = tf1.train.MomentumOptimizer(0.001, 0.9).minimize(loss, global_step=step)
saver = tf1.train.Saver(max_to_keep=4)
rng = np.random.default_rng(0)
with tf1.Session() as session:
    session.run(tf1.global_variables_initializer())
    end = time.monotonic() + seconds
    print("ready", flush=True)
    while time.monotonic() < end:
        for _ in range(3):
            session.run(train, {x: rng.normal(2, 3, (32, 8))})
        saver.save(session, directory + "/model.ckpt", global_step=step)
"""


@pytest.mark.tensorflow
def test_a_training_job_that_saves_and_deletes(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    seconds = float(os.environ.get("BNCHECK_LIVE_SECONDS", "6"))
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        [sys.executable, "-c", _TRAINING, str(tmp_path), str(seconds + 2)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"ready\n"
        while not list(tmp_path.glob("*.index")):
            time.sleep(0.01)
        deadline = time.monotonic() + seconds
        rounds, seen = 0, set()
        while time.monotonic() < deadline:
            done = subprocess.run(
                [sys.executable, "-m", "bncheck", "history", str(tmp_path), "--format", "csv"],
                capture_output=True,
                cwd=ROOT,
                check=False,
            )
            assert done.returncode == 0, (done.stdout, done.stderr)
            assert done.stderr == b""
            rows = done.stdout.decode().splitlines()[1:]
            assert all(row.endswith(",") for row in rows), rows  # no rule began to hold
            seen |= {row.split(",")[0] for row in rows}
            rounds += 1
        job.wait()
    assert rounds > 3
    assert len(seen) > 4  # more than are kept at a time
