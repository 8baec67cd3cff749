"""Every input that fuzzing ever found, and every seed, through the one call of its fuzz target."""

from __future__ import annotations

import json
import os
import random
import socket
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.campaign import FOUND, kept
from fuzz.hdf5_trees import NotWritableError, tree_in, written
from fuzz.tables import items_of, joined, mutate_bundle, split
from fuzz.target import Depth, Target, check
from fuzz.targets import TARGETS
from fuzz.watch import ForbiddenError
from fuzz.wire import fields_of, message, mutate_message
from tests.commands import FIXTURES

LONGEST = 10  # seconds, many times what any of them takes
MOST_MEMORY = 64 << 20  # bytes, where no input is longer than 128 KiB

INPUTS = [(target, path) for target in TARGETS.values() for path in kept(target)]


def _random(seed: int | str) -> random.Random:
    return random.Random(seed)  # noqa: S311  # the same ones each time


def test_every_input_that_was_found_has_its_target() -> None:
    assert {path.name for path in FOUND.iterdir() if path.is_dir()} <= TARGETS.keys()


@pytest.mark.parametrize(
    ("target", "path"), INPUTS, ids=[f"{target.name}/{path.name}" for target, path in INPUTS]
)
def test_what_was_found_is_mended(target: Target, path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    check(target, data, tmp_path)  # imports what it needs
    tracemalloc.start()
    start = time.perf_counter()
    try:
        check(target, data, tmp_path)
        assert time.perf_counter() - start < LONGEST
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds_are_right(target: Target, tmp_path: Path) -> None:
    seeds = list(target.seeds())
    assert seeds
    for number, seed in enumerate(seeds):
        assert len(seed) <= min(target.longest, 1 << 16)
        for depth in Depth if number < 3 else [Depth.READ]:
            folder = tmp_path / f"{number}-{depth}"
            folder.mkdir()
            assert check(target, seed, folder, depth) is None


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_mutations_of_seeds(target: Target, tmp_path: Path) -> None:
    rng = _random(target.name)

    def raw(part: bytes) -> bytes:
        at = rng.randrange(len(part) + 1)
        return part[:at] + rng.randbytes(rng.randrange(3)) + part[at + rng.randrange(3) :]

    seeds = list(target.seeds())
    for _ in range(30):
        seed = rng.choice(seeds)
        mutated = target.mutate(seed, raw, rng) if target.mutate else raw(seed)
        check(target, mutated, tmp_path, Depth.AUDIT)


def test_a_bug_comes_out(tmp_path: Path) -> None:
    def broken(_data: bytes, _directory: Path, _depth: Depth) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        check(Target("broken", broken, lambda: iter(())), b"", tmp_path)


def _writes(directory: Path) -> None:
    (directory / "x").write_bytes(b"")


def _connects(_directory: Path) -> None:
    with socket.socket() as one:
        one.connect_ex(("127.0.0.1", 1))


def _removes(directory: Path) -> None:
    (directory / "there").unlink()


def _executes(_directory: Path) -> None:
    os.system("true")  # noqa: S605


def _looks_elsewhere(_directory: Path) -> None:
    (FIXTURES / "MANIFEST.json").read_bytes()


def _swallows(directory: Path) -> None:
    try:
        os.mkdir(directory / "y")
    except Exception:
        return


@pytest.mark.parametrize(
    "act", [_writes, _connects, _removes, _executes, _looks_elsewhere, _swallows]
)
def test_what_reading_must_not_do_comes_out(act: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "there").touch()

    def reader(_data: bytes, directory: Path, _depth: Depth) -> None:
        act(directory)

    with pytest.raises(ForbiddenError):
        check(Target("reader", reader, lambda: iter(())), b"", tmp_path)


def test_a_mutated_message_is_one_still() -> None:
    data = next(TARGETS["meta_graph"].seeds())
    fields = fields_of(data)
    assert fields is not None
    assert message(fields) == data
    rng = _random(1)
    changed = {mutate_message(data, lambda part: part[:-1], rng) for _ in range(50)}
    assert len(changed) > 25
    # What cuts the whole message short is the fuzzer's own mutation.
    assert sum(fields_of(each) is not None for each in changed) > 0.8 * len(changed)


def test_a_mutated_bundle_passes_its_checksums(tmp_path: Path) -> None:
    bundle = TARGETS["bundle"]
    seed = next(bundle.seeds())
    index, data = split(seed)
    assert joined(index, data) == seed
    items = items_of(index)
    assert items is not None
    assert items[0][0] == b""
    rng = _random(1)

    def raw(part: bytes) -> bytes:
        return part[:-1] + b"\x55" if part else b"x"

    errors = [
        str(check(bundle, mutate_bundle(seed, raw, rng), tmp_path, Depth.AUDIT)) for _ in range(60)
    ]
    assert sum(each == "None" for each in errors) >= 20
    assert sum("checksum" in each for each in errors) <= 6


def test_trees_of_hdf5() -> None:
    file = (FIXTURES / "keras3/trained/sharded/model_00004.weights.h5").read_bytes()
    tree = tree_in(file)
    assert tree_in(written(tree)) == tree
    with pytest.raises(NotWritableError):
        written(b"[]")
    # What cannot be written is left out, and the rest is there.
    partly = b'{"groups": {"a": 1}, "attributes": {"b": {}, "c": 2}, "datasets": {"d": {}}}'
    assert json.loads(tree_in(written(partly)))["attributes"] == {"c": 2}
