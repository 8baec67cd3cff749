"""A checkpoint that is replaced while it is read: the old report, the new one, or a clear no."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck import audit
from bncheck.audit import inspect
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.unchanged import unchanged
from bncheck.diffing import diff
from bncheck.errors import BncheckError, ChangedError
from bncheck.report.json_format import to_json
from bncheck.report.model import Verdict
from tests.commands import FIXTURES
from tests.writers import write_bundle, write_v1

CHANNELS = 64
SECONDS = float(os.environ.get("BNCHECK_LIVE_SECONDS", "1"))


def tensors(value: float) -> dict[Any, Any]:
    """Twenty layers in which every number tells which checkpoint it is from."""
    return {
        f"layer{n}/bn/{role}": np.full(CHANNELS, value + n / 100, np.float32) * np.arange(1, 65)
        for n in range(20)
        for role in ("gamma", "beta", "moving_mean", "moving_variance")
    } | {"global_step": np.array(int(value), np.int64)}


def write_h5(path: Path, value: float) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"bn"]
        group = file.create_group("bn")
        group.attrs["weight_names"] = names = [
            f"bn/{role}:0".encode() for role in ("gamma", "beta", "moving_mean", "moving_variance")
        ]
        for name in names:
            group[name.decode()] = np.full(CHANNELS, value, np.float32) * np.arange(1, 65)


WRITERS = {
    "V2": lambda path, value: write_bundle(path, tensors(value)),
    "V1": lambda path, value: write_v1(path, tensors(value)),
    "h5": write_h5,
}


@pytest.fixture(params=WRITERS)
def states(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path, Path]:
    """The folders of two checkpoints of the same variables, and an empty one."""
    folders = tmp_path / "one", tmp_path / "two", tmp_path / "live"
    for folder in folders:
        folder.mkdir()
    WRITERS[request.param](folders[0] / "m", 100)
    WRITERS[request.param](folders[1] / "m", 200)
    return folders


def put(source: Path, target: Path, *, rename: bool) -> None:
    """Let another checkpoint take the place of the one that is there."""
    for path in sorted(source.iterdir()):
        if rename:
            shutil.copy(path, target / "new")
            os.replace(target / "new", target / path.name)
        else:
            (target / path.name).write_bytes(path.read_bytes())


@pytest.mark.parametrize("rename", [True, False], ids=["renamed", "written over"])
@pytest.mark.parametrize("step", ["take_snapshot", "_report"])
def test_replaced_between_two_steps(
    states: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch, step: str, *, rename: bool
) -> None:
    one, two, live = states
    put(one, live, rename=True)
    proceed = getattr(audit, step)

    def replaced(*given: Any, **named: Any) -> Any:
        time.sleep(0.02)  # the clock of a file system ticks a hundred times a second
        put(two, live, rename=rename)
        return proceed(*given, **named)

    monkeypatch.setattr(audit, step, replaced)
    with pytest.raises(ChangedError, match="changed while it was read") as caught:
        inspect(live / "m")
    assert caught.value.remedy.startswith("Is something still writing it?")
    assert Path(caught.value.path).parent == live


def test_under_a_writer(states: tuple[Path, Path, Path]) -> None:
    one, two, live = states
    put(one, live, rename=True)
    whole = set()
    for folder in (one, two):
        put(folder, live, rename=True)
        whole.add(to_json(inspect(live / "m")))
    assert len(whole) == 2
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            put((one, two)[turn % 2], live, rename=turn % 4 < 2)
            turn += 1

    writer = threading.Thread(target=write)
    writer.start()
    outcomes = {"whole": 0, "refused": 0}
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                report = inspect(live / "m")
            except BncheckError:
                outcomes["refused"] += 1
                continue
            if report.verdict is Verdict.NOT_AUDITED:  # it was half of each on disk
                outcomes["refused"] += 1
                continue
            assert to_json(report) in whole
            outcomes["whole"] += 1
    finally:
        stop.set()
        writer.join()
    assert outcomes["whole"] + outcomes["refused"] > 5


def test_what_is_deleted_was_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with unchanged(), RegularFile(str(path)) as file:
        path.unlink()
        assert file.read(0, 7, "it") == b"content"


def test_another_error_is_told_as_the_change_that_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with pytest.raises(ChangedError), unchanged(), RegularFile(str(path)) as file:
        os.truncate(path, 3)
        file.read(0, 7, "it")


def test_outside_nothing_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"another"):
        path.write_bytes(content)
        with RegularFile(str(path)) as file:
            assert file.head(9) == content


def test_diff_tells_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bncheck import diffing

    run = tmp_path / "run"
    shutil.copytree(FIXTURES / "runs/tf1-healthy", run)
    compare = diffing.compare

    def touched(*given: Any) -> Any:
        time.sleep(0.02)
        os.utime(run / "model.ckpt-120.index")
        return compare(*given)

    monkeypatch.setattr(diffing, "compare", touched)
    with pytest.raises(ChangedError, match=r"model\.ckpt-120\.index: changed while it was read"):
        diff(run / "model.ckpt-100", run / "model.ckpt-120")
