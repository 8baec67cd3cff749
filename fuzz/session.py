"""One target under atheris: `python -m fuzz.session TARGET SCRATCH FOUND [libFuzzer's arguments]`.

An exception that must not come out is written down, with its input, and the fuzzing goes on; after
what ends the process itself (a hang, too much memory, a fault in C code) `python -m fuzz` starts
another one. Started by that, which also makes the seeds and counts.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import random
import sys
import traceback
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

# It has no types.
import atheris  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from fuzz.target import Target

FINDING = "FINDING"
# Every how manieth input goes how far.
_AUDITED, _REPORTED = 4, 32
# What imports TensorFlow or is the program of a process of its own.
_LEFT_OUT = ("integrations", "rehearsal", "__main__", "python_child", "history_plot")


def _import_all() -> None:
    """Import bncheck with its modules instrumented, those that it imports late included."""
    with atheris.instrument_imports(include=["bncheck"]):
        import bncheck

        for module in pkgutil.walk_packages(bncheck.__path__, "bncheck."):
            if not any(part in _LEFT_OUT for part in module.name.split(".")):
                importlib.import_module(module.name)


def _place(error: BaseException) -> str:
    """Return what tells one bug from another: the error, and the last line of bncheck's own."""
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "/bncheck/" in frame.filename
    ]
    return f"{type(error).__name__} {places[-1] if places else str(error)[:80]}"


class _Session:
    def __init__(self, target: Target, scratch: Path, found: Path) -> None:
        self._target = target
        self._scratch = scratch
        self._found = found
        self._seen: set[str] = set()

    def run(self, data: bytes) -> None:
        from fuzz.target import Depth, check

        mark = zlib.crc32(data)
        depth = Depth(int(mark % _AUDITED == 0) + int(mark % _REPORTED == 0))
        try:
            check(self._target, data, self._scratch, depth)
        except Exception as error:  # whatever comes out is what is looked for
            self._keep(data, error)

    def _keep(self, data: bytes, error: Exception) -> None:
        place = _place(error)
        if place in self._seen:
            return
        self._seen.add(place)
        name = f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
        self._found.mkdir(parents=True, exist_ok=True)
        (self._found / name).write_bytes(data)
        traceback.print_exception(error)
        sys.stderr.write(f"{FINDING} {name} {place}\n")
        sys.stderr.flush()

    def mutate(self, data: bytes, most: int, seed: int) -> bytes:
        assert self._target.mutate is not None  # noqa: S101

        def raw(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, min(most, 2 * len(part) + 16)))

        rng = random.Random(seed)  # noqa: S311  # no secret
        changed = data
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            changed = self._target.mutate(changed, raw, rng)
        return changed if len(changed) <= most else data


def _main(name: str, scratch: str, found: str, arguments: list[str]) -> None:
    _import_all()
    from fuzz.targets import TARGETS

    target = TARGETS[name]
    session = _Session(target, Path(scratch), Path(found))
    custom = {"custom_mutator": session.mutate} if target.mutate else {}
    atheris.Setup([sys.argv[0], *arguments], session.run, **custom)
    atheris.Fuzz()


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
