"""Every kind of path that a person gives, and what is found there or told instead."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bncheck.checkpoint import Kind, locate, open_checkpoint
from bncheck.errors import DamagedError, NotFoundError
from tests.conftest import manifest
from tests.writers import write_bundle, write_v1

ONE = {"v": np.ones(2)}
TWO = {"v": np.ones(2), "w": np.zeros(2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A V2 checkpoint with its graph, a V1 one in one file, a V1 one in two files."""
    write_bundle(tmp_path / "v2.ckpt-7", TWO, shards=2)
    (tmp_path / "v2.ckpt-7.meta").write_bytes(b"\x12\x00")
    write_v1(tmp_path / "v1.ckpt-7", ONE)
    (tmp_path / "v1.ckpt-7.meta").write_bytes(b"\x12\x00")
    write_v1(tmp_path / "cut.ckpt-7", TWO, shards=2)
    return tmp_path


PATHS = {
    "v2.ckpt-7": "v2.ckpt-7",
    "v2.ckpt-7.index": "v2.ckpt-7",
    "v2.ckpt-7.meta": "v2.ckpt-7",
    "v2.ckpt-7.data-00000-of-00002": "v2.ckpt-7",
    "v2.ckpt-7.data-00001-of-00002": "v2.ckpt-7",
    "v1.ckpt-7": "v1.ckpt-7",
    "v1.ckpt-7.meta": "v1.ckpt-7",
    "cut.ckpt-7": "cut.ckpt-7",
    "cut.ckpt-7-00000-of-00002": "cut.ckpt-7",
    "cut.ckpt-7-00001-of-00002": "cut.ckpt-7",
    "cut.ckpt-7-?????-of-00002": "cut.ckpt-7",
}


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("path", PATHS)
def test_each_file_of_a_checkpoint_leads_to_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, path: str, relative: bool
) -> None:
    monkeypatch.chdir(folder)
    base = "" if relative else f"{folder}/"
    found = locate(base + path)
    prefix = base + PATHS[path]
    assert found.prefix == prefix
    assert found.remarks == ()
    assert found.kind is (Kind.BUNDLE if "v2" in path else Kind.SLICES)
    files = {"v2": (), "v1": (prefix,), "cut": tuple(f"{prefix}-0000{i}-of-00002" for i in (0, 1))}
    assert found.files == files[path.partition(".")[0]]
    assert open_checkpoint(base + path).read(["v"]).arrays["v"].tolist() == [1, 1]


@pytest.mark.parametrize("file", [".index", ".meta", ".data-00000-of-00001", "checkpoint", "."])
@pytest.mark.parametrize("inside", [True, False])
def test_an_empty_basename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, inside: bool
) -> None:
    """Saver.save(session, "./") writes `.index`; its files lead to it, from inside too."""
    write_bundle(f"{tmp_path}/", ONE)
    (tmp_path / ".meta").write_bytes(b"\x12\x00")
    (tmp_path / "checkpoint").write_bytes(b'model_checkpoint_path: "."')
    monkeypatch.chdir(tmp_path)
    path = file if inside else f"{tmp_path}/{file}"
    assert locate(path).kind is Kind.BUNDLE
    assert open_checkpoint(path).read(["v"]).arrays["v"].tolist() == [1, 1]


def test_names_that_are_patterns(tmp_path: Path) -> None:
    """Brackets, stars, newlines and a trailing number in a name are no glob."""
    for name in ("m[7]", "m*", "a\nb", "m-00001-of-00002x", "\u00e9 \u65e5", "x.data-1", "m.index"):
        write_bundle(tmp_path / name, ONE)
        assert locate(str(tmp_path / name)).prefix == str(tmp_path / name)
        write_v1(tmp_path / f"v1 {name}", TWO, shards=2)
        assert len(locate(str(tmp_path / f"v1 {name}")).files) == 2


def test_a_directory_beside_a_prefix_of_its_name(tmp_path: Path) -> None:
    """`run` is a directory without a checkpoint, run.index one."""
    (tmp_path / "run").mkdir()
    write_bundle(tmp_path / "run", ONE)
    assert locate(str(tmp_path / "run")).prefix == str(tmp_path / "run")
    with pytest.raises(NotFoundError, match="no checkpoint in this directory"):
        locate(f"{tmp_path}/run/")


def test_directories_with_one_checkpoint_of_each_form(tmp_path: Path) -> None:
    for name, write, kind in (
        ("v2", lambda p: write_bundle(p, TWO, shards=2), Kind.BUNDLE),
        ("v1", lambda p: write_v1(p, ONE), Kind.SLICES),
        ("sharded", lambda p: write_v1(p, TWO, shards=2), Kind.SLICES),
    ):
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "m")
        (folder / "m.meta").write_bytes(b"\x12\x00")
        (folder / "events.out").write_bytes(bytes(99))
        (folder / "checkpoint.d").mkdir()
        (folder / "loop").symlink_to(folder)
        os.mkfifo(folder / "fifo")
        found = locate(str(folder))
        assert (found.kind, found.prefix, found.remarks) == (kind, str(folder / "m"), ())


def test_a_damaged_v1_file_still_counts(tmp_path: Path) -> None:
    """It is found, so that opening it can say what is wrong with it."""
    write_v1(tmp_path / "m", ONE, edit_stored=lambda n, r: b"?" + r[1:] if n == "data 0" else r)
    assert locate(str(tmp_path)).files == (str(tmp_path / "m"),)
    with pytest.raises(DamagedError, match="data block 0 fails its checksum"):
        open_checkpoint(str(tmp_path))


def test_a_link_leads_where_it_points(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(folder)
    (tmp_path / "latest.index").symlink_to(folder / "v2.ckpt-7.index")
    assert locate(f"{tmp_path}/latest/v2.ckpt-7").prefix == f"{tmp_path}/latest/v2.ckpt-7"
    assert locate(f"{tmp_path}/latest.index").prefix == f"{tmp_path}/latest"


def test_v1_sharded_twice_named_by_its_glob(tmp_path: Path) -> None:
    """The same prefix was saved with one shard and with two; the glob says which is meant."""
    write_v1(tmp_path / "m", TWO, shards=1)
    write_v1(tmp_path / "m", TWO, shards=2)
    assert len(locate(f"{tmp_path}/m-00000-of-00001").files) == 1
    assert len(locate(f"{tmp_path}/m-00000-of-00002").files) == 2
    assert len(locate(f"{tmp_path}/m-?????-of-00002").files) == 2


def test_fixtures_by_glob_prefix_and_directory_are_the_same(fixtures: Path) -> None:
    stories = {story["name"]: story for story in manifest(fixtures)}
    for name in ("tf1/v1-sharded", "tf1/v1-sharded-no-update-ops"):
        places = {
            locate(str(fixtures / stories[name + way]["path"]))
            for way in ("", ":prefix", ":directory")
        }
        assert len(places) == 1
