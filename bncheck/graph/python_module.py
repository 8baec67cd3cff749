"""Programs as graphs: `package.module:function`, which builds a graph or returns a model.

The one thing that bncheck ever executes, and only when it is asked to by name. It runs in a process
of its own (python_child.py): what it prints, breaks or leaves behind stays there.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from bncheck.checkpoint.keras_config import read_config
from bncheck.checkpoint.structure import ObjectEdges, StoredObject, Structure
from bncheck.errors import BncheckError, NotFoundError, ProgramError, UnsupportedError
from bncheck.graph.graph_def import graph_of_nodes
from bncheck.graph.meta_graph import graph_of
from bncheck.graph.model import Graph, GraphVariable, strip_output
from bncheck.graph.savers import only_saver
from bncheck.proto.graphs_pb2 import MetaGraphDef

if TYPE_CHECKING:
    import subprocess
    from typing import IO

    from bncheck.checkpoint.structure import LayerConfig

TIMEOUT: Final = "BNCHECK_GRAPH_TIMEOUT"
_SECONDS: Final = 120.0
_CHILD: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "python_child.py")
_VALUE: Final = "/.ATTRIBUTES/VARIABLE_VALUE"
_LAST: Final = 4096  # bytes of what a program printed that its last line is looked for in


def is_program(path: str) -> bool:
    """Whether a text has the form `package.module:function`."""
    module, _, function = path.partition(":")
    return all(map(str.isidentifier, [*module.split("."), *function.split(".")]))


def run_program(program: str) -> Graph:
    """Import a module in a child process, call its function, and return the graph that it builds.

    The function is called in a tf.Graph of its own. It may fill that (TensorFlow 1), or return
    another one, a Keras model, a tf.Module, a tf.train.Checkpoint or variables. If it raises there,
    it is called again as TensorFlow 2 does by default, in another process.

    Raises NotFoundError where there is no such module or function, UnsupportedError where there is
    no TensorFlow, and ProgramError where the program raises, crashes, or takes longer than
    BNCHECK_GRAPH_TIMEOUT seconds (default 120).
    """
    from time import monotonic

    deadline = monotonic() + _timeout(program)
    told, body = _run(program, "graph", deadline)
    if told.get("error") == "raised":
        again, other = _run(program, "eager", deadline)
        if "error" not in again:
            told, body = again, other
        elif again["error"] == "raised" and _tells_more(again["what"], told["what"]):
            told["what"] += f"; and when called eagerly {again['what']}"
    if "error" in told:
        raise _error(program, told["error"], told["what"])
    if "objects" in told:
        return _of_objects(program, told["objects"], told["version"])
    return _of_meta_graph(program, body)


def _tells_more(eager: str, first: str) -> bool:
    """Whether what an eager call raised is more than that TensorFlow 1 needs a graph."""
    return eager != first and "eager execution" not in eager


def _timeout(program: str) -> float:
    written = os.environ.get(TIMEOUT, "")
    try:
        seconds = float(written) if written else _SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ProgramError(
            program, f"{TIMEOUT}={written!r} is no number of seconds", remedy="Set it to one."
        )
    return seconds


def _run(program: str, mode: str, deadline: float) -> tuple[dict[str, Any], bytes]:
    """Return what one child process said: a line of JSON, and what came behind it."""
    import subprocess  # 9 ms, and few graphs are programs
    from tempfile import TemporaryFile
    from time import monotonic

    module, _, function = program.partition(":")
    # Files, not pipes: a process that the program left running cannot keep bncheck waiting.
    with TemporaryFile() as result, TemporaryFile() as printed:
        process = subprocess.Popen(  # noqa: S603 - what the user asked for
            [sys.executable, _CHILD, module, function, mode, str(result.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            pass_fds=[result.fileno()],
            start_new_session=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
        )
        try:
            code: int | None = process.wait(max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        result.seek(0)
        line, end, body = result.read().partition(b"\n")
        if code is None or not end:
            raise _no_answer(program, code, _last_line(printed))
    told: dict[str, Any] = json.loads(line)
    return told, body


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child and all that it started."""
    import signal
    from contextlib import suppress

    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(printed: IO[bytes]) -> str:
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, size - _LAST))
    lines = printed.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; the last that it printed: {last[:300]}" if last else ""


def _no_answer(program: str, code: int | None, last: str) -> ProgramError:
    """Return what to say of a child that ended without a result."""
    import signal

    if code is None:
        return ProgramError(
            program,
            f"did not build its graph in time{last}",
            remedy=f"Give it more seconds with the environment variable {TIMEOUT}.",
        )
    if code >= 0:
        return ProgramError(program, f"ended its process with exit code {code}{last}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return ProgramError(program, f"crashed with {name}{last}")


def _error(program: str, kind: str, what: str) -> BncheckError:
    """Return what a child said as an error."""
    if kind == "tensorflow":
        return UnsupportedError(
            program,
            f"is a program, which needs TensorFlow, and {sys.executable} has none ({what})",
            remedy="Install it: pip install 'bncheck[tensorflow]'.",
        )
    if kind == "module":
        return NotFoundError(
            program,
            what,
            remedy="Modules are looked for in the working directory first.",
        )
    if kind == "function":
        return NotFoundError(program, what, remedy="Check the function's name.")
    if kind == "empty":
        return ProgramError(
            program,
            what,
            remedy="Let it fill the default graph, or return a tf.Graph, a model or variables.",
        )
    said = {"import": "cannot be imported: ", "export": "its graph cannot be exported: "}
    return ProgramError(program, f"{said.get(kind, 'raised ')}{what}")


def _of_meta_graph(program: str, body: bytes) -> Graph:
    meta = MetaGraphDef()
    try:
        meta.ParseFromString(body)
    except DecodeError:
        raise ProgramError(program, "gave a graph that is no MetaGraphDef") from None
    if meta.collection_def["variables"].bytes_list.value:
        save_ops = [] if meta.HasField("saver_def") else only_saver(meta.graph_def)
        return graph_of(program, meta, "python", save_ops=save_ops)
    return graph_of_nodes(program, meta, "python")


def _of_objects(program: str, told: dict[str, Any], version: str) -> Graph:
    """Return the graph of a model's objects and variables.

    A variable goes by the key that a checkpoint of the object would have, or by its name alone.
    """
    variables: dict[str, GraphVariable] = {}
    trainable: list[str] = []
    full_names: dict[str, str] = {}
    for each in told["variables"]:
        name = strip_output(each["name"])
        key = f"{each['key']}{_VALUE}" if each["key"] else name
        shape = None if each["shape"] is None else tuple(each["shape"])
        variables[key] = GraphVariable(key, each["dtype"], shape)
        if each["key"]:
            full_names[key] = name
        if each["trainable"]:
            trainable.append(key)
    objects: list[StoredObject] = []
    configs: dict[str, LayerConfig] = {}
    for each in told["objects"]:
        attributes = {name: f"{key}{_VALUE}" for name, key in each["attributes"].items()}
        layer = read_config(each["config"], program, "a layer's config") if each["config"] else None
        config = layer.config if layer is not None else None
        objects.append(StoredObject(each["path"], attributes, config=config))
        if config is not None:
            configs.update(dict.fromkeys(attributes.values(), config))
    keys = {int(number): f"{key}{_VALUE}" for number, key in told.get("keys", {}).items()}
    return Graph(
        source=program,
        kind="python",
        variables=variables,
        collections={"variables": tuple(variables), "trainable_variables": tuple(trainable)},
        tensorflow_version=version,
        structure=Structure(
            objects=tuple(objects),
            full_names=full_names,
            edges=ObjectEdges(told["edges"], keys) if keys else None,
        ),
        configs=configs,
    )
