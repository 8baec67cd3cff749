"""What an HDF5 file may not make bncheck do, beyond what its listing refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bncheck import limits
from bncheck.checkpoint.hdf5 import Hdf5File
from bncheck.checkpoint.hdf5_checkpoint import Hdf5Checkpoint
from bncheck.checkpoint.structure import StoredObject, Structure
from bncheck.errors import DamagedError
from tests.checkpoint.test_hdf5 import refused, written

ROLES = ("gamma", "beta", "moving_mean", "moving_variance")


def test_a_dataset_without_a_dataspace_is_unread(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["null"] = h5py.Empty("f4")
    with (
        Hdf5File(str(path)) as file,
        pytest.raises(DamagedError, match="it holds no value at all"),
    ):
        file.read(file.variables["null"])


def test_values_that_are_stored_nowhere_are_not_made_up(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("huge", (1 << 27,), "f4")
        for name in ("a", "b", "c"):
            file.create_dataset(name, (1 << 21,), "f4")  # 8 MiB each
        file["x"] = np.ones(4)
    with Hdf5File(str(path)) as file:
        with pytest.raises(DamagedError, match="it declares 536870912 bytes, and 0 are stored"):
            file.read(file.variables["huge"])
        assert not file.read(file.variables["a"]).any()
        assert not file.read(file.variables["b"]).any()
        with pytest.raises(DamagedError, match="it declares 8388608 bytes, and 0 are stored"):
            file.read(file.variables["c"])
        assert file.read(file.variables["x"]).all()


def test_datasets_that_share_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.ones(1000)
    with Hdf5File(str(path)) as file:
        file.read(file.variables["x"])
        with pytest.raises(DamagedError, match="store more bytes than the file has"):
            file.read(file.variables["x"])


def test_paths_are_not_far_longer_than_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("x" * 20_000)
        for index in range(50):
            group.create_dataset(str(index), data=np.float32(1))
    with Hdf5File(str(path)) as file:
        assert len(file.variables) == 50
    monkeypatch.setattr(limits, "PATHS_RATIO", 1)
    with (
        Hdf5File(str(path)) as file,
        pytest.raises(DamagedError, match="far longer names than the file can hold"),
    ):
        assert file.variables


def test_a_long_name_is_cut_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["x" * 20_000] = h5py.SoftLink("/")
    with Hdf5File(str(path)) as file, pytest.raises(Exception, match="is a soft link") as caught:
        assert file.variables
    assert "(20002 characters)" in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("dtype", [[("a", "i1"), ("b", "i1")], ("i1", (2,))])
def test_two_bytes_of_some_structure_are_no_bfloat16(tmp_path: Path, dtype: Any) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(2,), dtype=np.dtype(dtype))
    with Hdf5File(str(path)) as file:
        assert file.variables["x"].dtype == "DataType(|V2)"


@pytest.mark.parametrize(
    ("value", "remark"),
    [
        (np.ones(2, np.float32), None),
        (np.ones(2, np.int32), "batch-norm variables are stored as int32, not as floating-point"),
        (np.ones(2, np.complex64), "batch-norm variables are stored as complex64"),
        (np.ones(0, np.float32), "batch-norm variables have no elements"),
    ],
)
def test_statistics_of_a_strange_kind_are_said(
    tmp_path: Path, value: np.ndarray[tuple[int], np.dtype[np.float32]], remark: str | None
) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file.update(dict.fromkeys(ROLES, value))
    with Hdf5File(str(path)) as file:
        variables = file.variables
    structure = Structure(objects=(StoredObject("bn", {role: role for role in ROLES}),))
    opened = Hdf5Checkpoint(str(path), "f", [], {}, variables, structure)
    if remark is None:
        assert opened.remarks == ()
    else:
        (said,) = opened.remarks
        assert said.startswith(remark)
        assert said.endswith("'gamma', 'beta', 'moving_mean', ...")


def test_groups_nest_to_a_limit(tmp_path: Path) -> None:
    deepest = "/".join(["g"] * limits.DEEPEST_GROUP)
    with Hdf5File(written(tmp_path / "a.h5", lambda f: f.create_group(deepest))) as file:
        assert len(file.groups) == limits.DEEPEST_GROUP
    path = written(tmp_path / "b.h5", lambda f: f.create_group(deepest + "/g"))
    refused(path, DamagedError, f"nests its groups deeper than {limits.DEEPEST_GROUP}")
    path = written(tmp_path / "c.h5", lambda f: f.create_group("/".join(["g"] * 5000)))
    refused(path, DamagedError, "nests its groups deeper")


def test_a_role_of_no_known_type_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file.update(dict.fromkeys(ROLES[1:], np.ones(2, np.float32)))
        file.create_dataset("gamma", shape=(2,), dtype=np.dtype([("a", "f4")]))
    with Hdf5File(str(path)) as file:
        variables = file.variables
    structure = Structure(objects=(StoredObject("bn", {role: role for role in ROLES}),))
    opened = Hdf5Checkpoint(str(path), "f", [], {}, variables, structure)
    assert opened.remarks == ()
    said = "batch-norm variables are of no type: DataType(|V4): 'gamma'"
    assert opened.damaged_files() == {str(path): said}
