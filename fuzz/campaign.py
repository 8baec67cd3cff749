"""One target's campaign: make its seeds, start processes until the time is over, count."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuzz.target import Target

FOUND: Final = Path(__file__).parent / "found"
MOST_MEMORY: Final = 768  # MiB of a whole process, about 150 of which are bncheck's own modules
LONGEST: Final = 20  # seconds for one input, instrumented
_MOST_RESTARTS: Final = 20
_MEMORY_FILES: Final = "/dev/shm"  # noqa: S108  # where there is none, the usual place

_PROGRESS: Final = re.compile(r"#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+)")
_ARTIFACT: Final = re.compile(r"Test unit written to .*?((?:crash|oom|timeout|leak)-[0-9a-f]+)")
_FINDING: Final = re.compile(r"FINDING (\S+) (.*)")


@dataclass
class Outcome:
    """What came of a campaign; times are in seconds of fuzzing, without what starting takes."""

    target: str
    seconds: float = 0.0
    executions: int = 0
    edges: int = 0
    features: int = 0
    last_new: float = 0.0
    findings: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether there is something to look at."""
        return bool(self.findings or self.problem)


def kept(target: Target) -> list[Path]:
    """Return the inputs that once broke something in a target."""
    return sorted(path for path in (FOUND / target.name).glob("*-*") if path.is_file())


def run(target: Target, seconds: int, found: Path = FOUND, corpus: Path | None = None) -> Outcome:
    """Fuzz a target for so long, and return what came of it.

    What is found is kept below `found`; `corpus` is a directory to go on from.
    """
    outcome = Outcome(target.name)
    memory = _MEMORY_FILES if os.path.isdir(_MEMORY_FILES) else None
    with tempfile.TemporaryDirectory(prefix="bncheck-fuzz-", dir=memory) as folder:
        own = Path(folder) / "corpus" if corpus is None else corpus / target.name
        _write_seeds(own, target.seeds(), kept(target))
        words = Path(folder) / "words"
        words.write_text("".join(f"{_quoted(each)}\n" for each in target.tokens), "utf-8")
        for _ in range(_MOST_RESTARTS):
            left = seconds - outcome.seconds
            if left < 1:
                break
            known = len(outcome.findings)
            scratch = Path(tempfile.mkdtemp(dir=folder))
            options = [
                f"-max_total_time={int(left)}",
                f"-max_len={target.longest}",
                f"-timeout={LONGEST}",
                f"-rss_limit_mb={MOST_MEMORY}",
                f"-artifact_prefix={found / target.name}/",
                "-len_control=0",
                "-reload=0",
                "-print_final_stats=1",
                *([f"-dict={words}"] if target.tokens else []),
            ]
            code = _process(scratch, found / target.name, [*options, str(own)], outcome)
            if code and len(outcome.findings) == known:
                outcome.problem = f"the process ended with {code}"
                break
    return outcome


def _quoted(word: str) -> str:
    """Return a word as a line of libFuzzer's dictionary."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'


def _write_seeds(corpus: Path, seeds: Iterable[bytes], found: Iterable[Path]) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in (*seeds, *(path.read_bytes() for path in found)):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def _process(scratch: Path, found: Path, options: list[str], outcome: Outcome) -> int:
    """Run one process to its end, add what it says to the outcome, and return its exit code."""
    found.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fuzz.session", outcome.target, str(scratch), str(found)]
    with subprocess.Popen(  # noqa: S603
        [*command, *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
        errors="replace",
    ) as process:
        before, executed, begin = outcome.seconds, outcome.executions, 0.0
        for line in process.stderr or ():
            outcome.log.append(line.rstrip())
            progress = _PROGRESS.search(line)
            if progress:
                begin = begin or time.monotonic()
                outcome.seconds = before + time.monotonic() - begin
                outcome.executions = executed + int(progress[1])
                outcome.edges = max(outcome.edges, int(progress[3]))
                outcome.features = max(outcome.features, int(progress[4]))
                if progress[2] == "NEW":
                    outcome.last_new = outcome.seconds
            elif finding := _FINDING.search(line) or _ARTIFACT.search(line):
                place = finding[2] if finding.re is _FINDING else finding[1].partition("-")[0]
                outcome.findings[f"{outcome.target}/{finding[1]}"] = place
                outcome.seconds = before + time.monotonic() - begin
    if not any(found.iterdir()):
        found.rmdir()
    return process.returncode
