"""Which checkpoints a run has, and in which order."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bncheck.checkpoint.location import Kind, Location
from bncheck.errors import NotFoundError
from bncheck.history.find import find_checkpoints, number_of
from bncheck.history.pipeline import HistoryOptions, history
from tests.commands import FIXTURES

RUNS = FIXTURES / "runs"


def _prefixes(*paths: Path | str) -> list[str]:
    return [os.path.basename(each.prefix) for each in find_checkpoints([str(p) for p in paths])]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("model.ckpt-120", 120),
        ("ckpt-7", 7),
        ("epoch-03.weights.h5", 3),
        ("weights.05-0.83.h5", 5),
        ("weights.05-0.83.weights.h5", 5),
        ("v1.5-model-10", 10),
        ("1512345678", 1512345678),
        ("model.keras", None),
        ("model.h5", None),
        ("model-99999999999999999999", None),
    ],
)
def test_numbers_of_names(name: str, number: int | None) -> None:
    assert number_of(Location(Kind.BUNDLE, f"/runs/2024/{name}")) == number


def test_ten_comes_after_nine_and_the_state_file_breaks_ties() -> None:
    run = RUNS / "tf1-reset"
    found = _prefixes(run)
    assert found[3:6] == ["model.ckpt-60", "restored.ckpt-60", "restored.ckpt-80"]
    assert _prefixes(RUNS / "tf1-healthy") == [f"model.ckpt-{n}" for n in range(0, 121, 20)]


def test_each_is_there_once_however_it_is_named(tmp_path: Path) -> None:
    run = RUNS / "tf1-partitioned"
    link = tmp_path / "link"
    link.symlink_to(run)
    assert _prefixes(run, run / "model.ckpt-100", link, run / "model.ckpt-120.index") == [
        "model.ckpt-100",
        "model.ckpt-120",
    ]


def test_files_that_the_state_file_forgot_count(tmp_path: Path) -> None:
    for path in (RUNS / "tf1-partitioned").iterdir():
        if path.name != "checkpoint":
            shutil.copy(path, tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-100"\n')
    assert _prefixes(tmp_path) == ["model.ckpt-100", "model.ckpt-120"]
    (tmp_path / "checkpoint").write_text("model_checkpoint_path: ")  # half-written
    assert _prefixes(tmp_path) == ["model.ckpt-100", "model.ckpt-120"]


def test_what_the_state_file_lists_elsewhere_belongs_to_the_run(tmp_path: Path) -> None:
    run = RUNS / "tf1-partitioned"
    for path in run.glob("model.ckpt-120*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt-120"\n'
        f'all_model_checkpoint_paths: "{run}/model.ckpt-100"\n'
        'all_model_checkpoint_paths: "model.ckpt-110"\n'
        'all_model_checkpoint_paths: "model.ckpt-120"\n'
    )
    assert _prefixes(tmp_path) == ["model.ckpt-100", "model.ckpt-120"]


def test_saved_models_below_a_directory_are_a_run(tmp_path: Path) -> None:
    model = RUNS / "tf1-two-formats/saved_model"
    for version in (9, 10):
        shutil.copytree(model, tmp_path / str(version))
    assert _prefixes(tmp_path) == ["9", "10"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint"):
        find_checkpoints([str(tmp_path)])


def test_counters_order_what_has_no_numbers(tmp_path: Path) -> None:
    run = RUNS / "tf2-healthy-keras"
    for name, old in (("a", "03"), ("b", "01"), ("c", "02")):
        shutil.copy(run / f"epoch-{old}.keras", tmp_path / f"{name}.keras")
    report = history(tmp_path, HistoryOptions(jobs=1))
    assert [Path(point.path).stem for point in report.points] == ["b", "c", "a"]
    assert [point.step for point in report.points] == [30, 60, 90]


def test_a_counter_that_began_again_does_not_turn_the_order_round() -> None:
    """A new optimizer counts from 0, and the names go on."""
    points = history(RUNS / "tf2-frozen-finetune").points
    assert [point.step for point in points] == [100, 120, 140, 160, 180]
    assert {point.told_by for point in points} == {"name"}
