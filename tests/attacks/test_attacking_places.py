"""What lies in the place of a checkpoint's files: directories, pipes, devices, links, lies."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.attacks.attack import Attack, Make, attacked, run
from tests.commands import FIXTURES
from tests.writers import write_bundle, write_v1

HEALTHY = FIXTURES / "tf1/healthy"
SAVED_MODEL = FIXTURES / "tf2/object-based-saved-model/model"
NAME = "model.ckpt-60"
NOWHERE = "/nowhere/at/all"
DATA = f"{NAME}.data-00000-of-00001"
LAYER = {
    f"net/bn/{role}": np.linspace(0.5, 1.5, 4, dtype=np.float32)
    for role in ("gamma", "beta", "moving_mean", "moving_variance")
}

Put = Callable[[Path], None]


def directory(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    """A socket, whose path may be no longer than 100 characters."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def nowhere(path: Path) -> None:
    path.symlink_to(NOWHERE)


def process(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


def hole(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


THINGS: dict[str, Put] = {
    each.__name__: each
    for each in (directory, pipe, listening, endless, terminal, circle, nowhere, process, hole)
}


def copied(source: Path, *replaced: str, put: Put, given: str = "") -> Make:
    """Copy a checkpoint and put something else in the place of some of its files."""

    def make(folder: Path) -> Path:
        place = folder / "m"
        shutil.copytree(source, place)
        for name in replaced:
            if (place / name).is_dir():
                shutil.rmtree(place / name)
            else:
                (place / name).unlink(missing_ok=True)
            put(place / name)
        return place / given if given else place

    return make


def alone(put: Put, name: str = "x") -> Make:
    def make(folder: Path) -> Path:
        put(folder / name)
        return folder / name

    return make


def state(text: str, *, checkpoint: bool = False) -> Make:
    """Write a state file, and a checkpoint beside it where that is wanted."""

    def make(folder: Path) -> Path:
        if checkpoint:
            write_bundle(folder / "model.ckpt-1", LAYER)
        (folder / "checkpoint").write_text(text)
        return folder

    return make


def latest(path: str) -> str:
    return f'model_checkpoint_path: "{path}"\n'


def state_circle(folder: Path) -> Path:
    """Two directories whose state files name each other."""
    for one, other in (("a", "b"), ("b", "a")):
        (folder / one).mkdir()
        (folder / one / "checkpoint").write_text(latest(f"../{other}"))
    return folder / "a"


def deep(folder: Path) -> Path:
    place = folder
    for _ in range(150):
        place /= "d" * 20
        place.mkdir()
    return folder


def shard_of_v1(put: Put) -> Make:
    def make(folder: Path) -> Path:
        files = write_v1(folder / "m", LAYER, shards=2)
        files[1].unlink()
        put(files[1])
        return folder / "m"

    return make


ATTACKS: dict[str, Attack] = {
    # TensorFlow follows a state file anywhere, and so does bncheck: it looks at the file's end.
    "the state file names /etc/passwd": Attack(
        state(latest("/etc/passwd")), ("/etc/passwd", "no checkpoint"), reads="/etc/passwd"
    ),
    "the state file climbs to /etc": Attack(
        state(latest("../" * 40 + "etc/passwd")), ("no checkpoint",), reads="/etc/passwd"
    ),
    "the state file names /etc, and there is one": Attack(
        state(latest("/etc/passwd"), checkpoint=True),
        ("/etc/passwd", "only checkpoint"),
        code=0,
        reads="/etc/passwd",
    ),
    "the state file names /dev/zero": Attack(state(latest("/dev/zero"))),
    "the state file names a program": Attack(state(latest("os:system"))),
    "the state file names itself": Attack(state(latest("checkpoint"))),
    "the state file names its directory": Attack(state(latest("."))),
    "the state file is of 1 MB": Attack(state(latest("a/" * (1 << 19)))),
    "the state file holds a zero byte": Attack(state(latest("\\000"))),
    "the state file nests 100,000 deep": Attack(state("a {" * 100_000 + latest("x"))),
    "the state file lists 100,000": Attack(
        state(latest("x") + 'all_model_checkpoint_paths: "a"\n' * 100_000)
    ),
    "state files that name each other": Attack(state_circle),
    "the state file is a control sequence": Attack(
        state(latest("\\033[2J\\033]0;x\\007\\n::error::x"))
    ),
    "150 directories deep": Attack(deep, ("no checkpoint",)),
    "a V1 shard is a pipe": Attack(shard_of_v1(pipe)),
    "a V1 shard is endless": Attack(shard_of_v1(endless)),
    "a path of 100,000 characters": Attack(lambda folder: f"{folder}/" + "a" * 100_000),
    "a path of 5000 parts": Attack(lambda folder: f"{folder}/" + "a/" * 5000),
    "a path of pattern signs": Attack(lambda folder: f"{folder}/[!a]*?{{a,b}}"),
}
for name, put in THINGS.items():
    ATTACKS |= {
        f"{name} alone": Attack(alone(put), reads=NOWHERE),
        f"{name} as index": Attack(
            copied(HEALTHY, f"{NAME}.index", put=put, given=f"{NAME}.index"), reads=NOWHERE
        ),
        f"{name} as data": Attack(copied(HEALTHY, DATA, put=put), reads=NOWHERE),
        f"{name} as graph": Attack(copied(HEALTHY, f"{NAME}.meta", put=put), reads=NOWHERE),
    }
for name in ("directory", "pipe", "endless", "circle"):
    put = THINGS[name]
    ATTACKS |= {
        # Without its state file, a directory still has its only checkpoint.
        f"{name} as state file": Attack(copied(HEALTHY, "checkpoint", put=put), code=0),
        f"{name} as the graph of a SavedModel": Attack(
            copied(SAVED_MODEL, "saved_model.pb", put=put)
        ),
        f"{name} as the variables of a SavedModel": Attack(
            copied(SAVED_MODEL, "variables", put=put)
        ),
        f"{name} as --graph": Attack(
            copied(HEALTHY, "g", put=put), arguments=("--graph", "../attack/m/g")
        ),
    }


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(tmp_path: Path, name: str) -> None:
    run(ATTACKS[name], tmp_path)


def crowd(folder: Path) -> Path:
    """A healthy run, and beside each of its checkpoints' files all that is no file."""
    place = folder / "run"
    place.mkdir()
    for step in (10, 20):
        write_bundle(place / f"model.ckpt-{step}", LAYER)
    for number, (name, put) in enumerate(THINGS.items()):
        for end in ("", ".index", ".meta", ".keras", "-00000-of-00001"):
            put(place / f"{name}-{number}{end}")
    return place


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("inspect", "{}"), 3),  # two checkpoints, and none is named
        (("gate", "-r", "-j", "1", "{}"), 3),  # two pass, and what is no file could not be audited
        (("history", "-j", "1", "{}"), 0),
        (("diff", "{}/model.ckpt-10", "{}/model.ckpt-20"), 0),
        (("map", "{}/model.ckpt-10", "--graph", "{}/model.ckpt-20"), 0),
        (("gate", "-j", "1", "{}/*"), 3),
        (("map", "{}/pipe-1.index"), 3),
        (("diff", "{}/pipe-1", "{}/endless-3.keras"), 3),
        (("history", "-j", "1", "{}/pipe-1", "{}/endless-3.keras"), 3),
    ],
)
def test_a_crowd(tmp_path: Path, command: tuple[str, ...], code: int) -> None:
    place = crowd(tmp_path)
    arguments = [part.replace("{}", str(place)) for part in command]
    outcome = attacked(tmp_path, *arguments, reads=NOWHERE)
    assert outcome.code == code, outcome
    assert str(place) in outcome.out + outcome.err
