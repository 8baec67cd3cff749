"""Runs bncheck on files made to harm it, and checks that nothing was harmed."""

from __future__ import annotations

import hashlib
import os
import resource
import stat
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.commands import ROOT, Outcome

Make = Callable[[Path], "Path | str"]
"""Writes the files of an attack into a folder and returns the path that bncheck is given."""

SANDBOX = ROOT / "tests/attacks/sandbox.py"
SECONDS = 20  # of the processor: a busy machine is no hang
WAIT = 6 * SECONDS  # by the clock, for what waits for something
# Address space: 1 GiB above the 200 MB in which a plain run was seen to pass, of HDF5, too.
MEMORY = (1 << 30) + 200_000_000
_ROOM = 1 << 16  # bytes of a file whose content is compared, not only its size and times


@dataclass(frozen=True)
class Attack:
    """Files made to harm, and how bncheck has to answer: by its code and by these words.

    `reads` is a place elsewhere that bncheck may look at, because the files lead there.
    """

    make: Make
    words: tuple[str, ...] = ()
    code: int = 3
    arguments: tuple[str, ...] = ()
    command: str = "inspect"
    reads: str = ""


def run(attack: Attack, folder: Path) -> Outcome:
    """Make an attack's files, run bncheck on them, and check the answer and all that must hold."""
    place = folder / "attack"
    place.mkdir()
    path = attack.make(place)
    arguments = (attack.command, str(path), *attack.arguments)
    outcome = attacked(folder, *arguments, reads=attack.reads)
    text = outcome.out + outcome.err
    assert outcome.code == attack.code, text[-3000:]
    for word in attack.words:
        assert word in text, text[-3000:]
    if outcome.code == 3:
        assert "attack" in text, "no file is named"
    return outcome


def attacked(folder: Path, *arguments: str, reads: str = "") -> Outcome:
    """Run bncheck where it is watched; it must end in time, without a bug, and change nothing."""
    surroundings = {}
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "PWD"):
        surroundings[name] = str(folder / f"{name}.d")
        os.makedirs(surroundings[name], exist_ok=True)
    before = tree(folder)
    places = os.pathsep.join(filter(None, (str(folder), reads)))
    done = subprocess.run(
        [sys.executable, "-B", str(SANDBOX), places, *arguments],
        cwd=surroundings["PWD"],
        env=surroundings
        | {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "4000"}
        | {"PYTHONIOENCODING": "utf-8", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=WAIT,
        preexec_fn=_limit,
    )
    outcome = Outcome(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))
    check_harmless(outcome)
    assert tree(folder) == before
    return outcome


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def check_harmless(outcome: Outcome) -> None:
    """Check what holds of every answer: one of bncheck's own, and in printable characters."""
    text = outcome.out + outcome.err
    assert outcome.code in (0, 1, 3), f"exit code {outcome.code}: {text[-3000:]}"
    assert "Traceback" not in text, text[-3000:]
    # That is no answer: what a file may take is checked before it is taken.
    assert "not enough memory" not in text
    strange = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")}
    assert not strange, f"{strange} in {text[-3000:]!r}"


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return everything in a folder: kind, size, times, and what it says or where it points."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(folder):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = ""
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode) and status.st_size < _ROOM:
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            found[path] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found
