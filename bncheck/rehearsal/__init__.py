"""A real restore beside the static answer: TensorFlow builds the graph, loads, and is read back.

Every variable is compared bit by bit with what bncheck reads from the checkpoint. Where the two
answers differ, one of them is wrong, and the report says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from enum import Enum
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bncheck.assignment.loaders import Loader
from bncheck.checkpoint.location import variables_prefix
from bncheck.rehearsal.child import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bncheck.assignment.loaders import Outcome
    from bncheck.checkpoint.model import Checkpoint
    from bncheck.graph.model import Graph

REHEARSED: Final = (Loader.ASSIGNMENT_MAP, Loader.SAVER, Loader.WARM_START, Loader.OBJECT)
_BUILT: Final = ("meta-graph", "saved-model", "python")
_TIMEOUT: Final = "BNCHECK_REHEARSAL_TIMEOUT"
_SECONDS: Final = 300.0
_CHILD: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child.py")
_FORMATS: Final = ("tensor-bundle", "tensor-slices-v1", "object-based", "saved-model")
_LAST: Final = 4096  # bytes of what a program printed that its last line is looked for in


class Seen(str, Enum):
    """What became of one variable in the rehearsal."""

    RESTORED = "restored"
    KEPT = "kept-initializer"
    EITHER = "restored-or-kept"
    DIFFERS = "differs"


class Rehearsal(NamedTuple):
    """What TensorFlow did: `seen` by the graph's names, or what it raised.

    `disagreements` says of each variable for which the static answer was another one what that was.
    `failed` is why there is nothing to compare: the graph could not be built, or took too long.
    """

    tensorflow: str = ""
    seen: Mapping[str, Seen] = {}
    raised: str = ""
    disagreements: Mapping[str, str] = {}
    failed: str = ""

    @property
    def agrees(self) -> bool:
        """Whether there was a rehearsal, and it bore the static answer out."""
        return not self.failed and not self.disagreements


def obstacle(graph: Graph, checkpoint: Checkpoint, loader: Loader) -> str:
    """Say why this cannot be rehearsed, empty where it can."""
    from importlib.util import find_spec

    if loader not in REHEARSED:
        names = ", ".join(each.value for each in REHEARSED)
        return f"--rehearse runs the loaders {names}, not {loader.value}"
    if checkpoint.format not in _FORMATS:
        return f"--rehearse restores TensorFlow's checkpoints, not a {checkpoint.format} file"
    if graph.kind not in _BUILT:
        return (
            "--rehearse needs a graph to build: a .meta, a SavedModel, or a package.module:function"
        )
    if graph.structure.tells_layers != (loader is Loader.OBJECT):
        return (
            "--rehearse restores a model of objects with --loader object, and a graph of "
            "TensorFlow 1 with the others"
        )
    if find_spec("tensorflow") is None:
        return "--rehearse needs TensorFlow: pip install 'bncheck[tensorflow]'"
    return ""


def rehearse(graph: Graph, checkpoint: Checkpoint, outcome: Outcome) -> Rehearsal:
    """Restore for real, and compare with the static outcome."""
    return judge(checkpoint, outcome, run_jobs([job(graph, checkpoint, outcome)])[0])


def job(graph: Graph, checkpoint: Checkpoint, outcome: Outcome) -> dict[str, Any]:
    """Return what the child process has to know: the graph, the checkpoint, the loader's map."""
    path = checkpoint.path
    # Objects are loaded from the whole directory, MetaGraphs from the file.
    directory = outcome.loader is Loader.OBJECT and graph.kind == "saved-model"
    source = os.path.dirname(graph.source) if directory else graph.source
    return {
        "program" if graph.kind == "python" else "graph": source,
        "checkpoint": variables_prefix(path) if checkpoint.format == "saved-model" else path,
        "loader": outcome.loader.value,
        "asked": {asked: name for name, asked in outcome.asked.items()},
    }


def run_jobs(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Run jobs in one child process, and return what became of each.

    What it does not answer in BNCHECK_REHEARSAL_TIMEOUT seconds (default 300) has failed.
    """
    try:
        seconds = float(os.environ.get(_TIMEOUT) or _SECONDS)
    except ValueError:
        seconds = _SECONDS
    # Files, not pipes: a process that the program left running cannot keep bncheck waiting.
    with TemporaryFile() as told, TemporaryFile() as printed, TemporaryFile() as asked:
        asked.write(json.dumps(jobs).encode("ascii"))
        asked.seek(0)
        process = subprocess.Popen(  # noqa: S603 - what the user asked for
            [sys.executable, _CHILD, str(told.fileno())],
            stdin=asked,
            stdout=printed,
            stderr=subprocess.STDOUT,
            pass_fds=[told.fileno()],
            start_new_session=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", **os.environ},
        )
        try:
            ended = f"it ended with exit code {process.wait(seconds)}"
        except subprocess.TimeoutExpired:
            ended = f"it took longer than {seconds:g} seconds ({_TIMEOUT})"
        finally:
            _end(process)
        told.seek(0)
        answers = [json.loads(line) for line in told.read().splitlines() if line.endswith(b"}")]
        printed.seek(max(0, printed.seek(0, os.SEEK_END) - _LAST))
        lines = printed.read().decode("utf-8", "replace").split()
    if len(answers) < len(jobs) and lines:
        ended += f"; the last that it printed: {' '.join(lines)[-300:]}"
    return answers + [{"failed": ended}] * (len(jobs) - len(answers))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child and all that it started."""
    import signal
    from contextlib import suppress

    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def judge(checkpoint: Checkpoint, outcome: Outcome, answer: Mapping[str, Any]) -> Rehearsal:
    """Compare what a child process told with the static outcome."""
    if "failed" in answer:
        return Rehearsal(failed=answer["failed"])
    version = answer["tensorflow"]
    if answer["raised"] is not None:
        wrong = {} if outcome.raises else {"": f"it raises {answer['raised']}, and should not"}
        return Rehearsal(version, raised=answer["raised"], disagreements=wrong)
    # What is skipped must not have come from a variable of the same name either.
    keys = {name: name for name in outcome.skipped if name in checkpoint.variables}
    keys |= {name: key for name, (key, _) in outcome.refused.items()}
    keys |= outcome.restored
    values = checkpoint.read({key for key in keys.values() if key})
    saved = {key: digest(value) for key, value in values.arrays.items()}
    seen = {name: _seen(name, saved.get(keys.get(name, "")), answer) for name in answer["after"]}
    return Rehearsal(
        version, seen=seen, disagreements=dict(_disagreements(outcome, seen, values.unread))
    )


def _seen(name: str, saved: str | None, answer: Mapping[str, Any]) -> Seen:
    """Tell what a variable holds in the end.

    Random initializers never write the same twice, and those that read other variables write what
    these were restored to.
    """
    after = answer["after"][name]
    first, second = (before[name] for before in answer["before"])
    kept = after == first or first is None or first != second or name in answer["derived"]
    if saved is not None and after == saved:
        return Seen.EITHER if after == first else Seen.RESTORED
    return Seen.KEPT if kept else Seen.DIFFERS


def _disagreements(
    outcome: Outcome, seen: Mapping[str, Seen], unread: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    if outcome.raises and not _reshapes(outcome, seen):
        yield "", "it raises nothing, and should"
    for name, key in outcome.restored.items():
        if key in unread:
            yield name, f"bncheck could not read it: {unread[key]}"
        elif name not in seen:
            yield name, "it is not in the graph that was built"
        elif seen[name] not in (Seen.RESTORED, Seen.EITHER):
            yield name, f"{seen[name].value}, and should be restored"
    for name in outcome.skipped:
        if name in seen and seen[name] not in (Seen.KEPT, Seen.EITHER):
            yield name, f"{seen[name].value}, and should keep its initializer"


def _reshapes(outcome: Outcome, seen: Mapping[str, Seen]) -> bool:
    """Whether a Saver gave resource variables the checkpoint's shapes, as it silently does."""
    return outcome.loader is Loader.SAVER and all(
        key and seen.get(name) is Seen.RESTORED for name, (key, _) in outcome.refused.items()
    )
