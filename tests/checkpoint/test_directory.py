"""Directories: what is listed once for all, and what lies beside Keras' weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from bncheck.checkpoint import directory, locate, open_checkpoint
from bncheck.checkpoint.location import Kind
from bncheck.errors import AmbiguousError, BncheckError
from tests.writers import write_bundle, write_v1

ONE = {"v": np.ones(2)}


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: path.symlink_to("nowhere"), "no such file"),
        (lambda path: path.symlink_to(path.name), "cannot be opened"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.mkdir(), "is not a regular file"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_not_left_out(
    tmp_path: Path, make: Callable[[Path], object], problem: str
) -> None:
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file["layers/batch_normalization/vars/0"] = np.ones(2)
    assert locate(str(tmp_path)).kind is Kind.KERAS_HDF5
    make(tmp_path / "config.json")
    assert locate(str(tmp_path)).kind is Kind.KERAS_DIRECTORY
    with pytest.raises(BncheckError, match=rf"config\.json: {problem}"):
        open_checkpoint(str(tmp_path))


def test_a_directory_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        write_bundle(tmp_path / name, ONE)
        write_v1(tmp_path / f"{name}-v1", ONE, shards=2)
    (tmp_path / "cut.index").touch()
    (tmp_path / "cut.data-00000-of-00001").touch()
    (tmp_path / "alone.index").touch()
    listings = []
    listed = os.listdir
    scanned = os.scandir
    monkeypatch.setattr(os, "listdir", lambda path: listings.append(path) or listed(path))
    monkeypatch.setattr(os, "scandir", lambda path: listings.append(path) or scanned(path))
    found = directory.all_in(str(tmp_path))
    assert listings == [str(tmp_path)]
    names = ["a", "a-v1", "b", "b-v1", "c", "c-v1", "cut"]
    assert sorted(each.prefix for each in found) == [str(tmp_path / name) for name in names]
    monkeypatch.undo()
    with pytest.raises(AmbiguousError, match="there are 7 checkpoints here"):
        locate(str(tmp_path))


def test_a_state_file_may_name_a_keras_file(tmp_path: Path) -> None:
    """tf.train.latest_checkpoint gives out such a path, too."""
    write_bundle(tmp_path / "other", ONE)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["layers/batch_normalization/vars/0"] = np.ones(2)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "m.h5"\n')
    location = locate(str(tmp_path))
    assert (location.kind, location.prefix) == (Kind.KERAS_HDF5, str(tmp_path / "m.h5"))
    (tmp_path / "m.h5").write_text("no longer")
    assert locate(str(tmp_path)).prefix == str(tmp_path / "other")
