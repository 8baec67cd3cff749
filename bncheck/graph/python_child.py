"""The program behind `--graph package.module:function`, run by a Python of its own.

python_module.py starts this file in a child process. It imports the user's module, calls the
function, and writes what that built to a file descriptor; nothing else of bncheck is in that
process.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class FailedError(Exception):
    """What is said instead of a graph: the kind of the failure, and a sentence."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(kind, what)
        self.kind = kind
        self.what = what


def main(module: str, function: str, mode: str, descriptor: int) -> None:
    """Write the result: a line of JSON, and a MetaGraphDef behind it where that is the graph."""
    # The user's modules are found from the working directory, and none of bncheck's by mistake.
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.getcwd(), *(path for path in sys.path if os.path.abspath(path) != own)]
    try:
        told, body = _build(module, function, eagerly=mode == "eager")
    except FailedError as failure:
        told, body = {"error": failure.kind, "what": failure.what}, b""
    with os.fdopen(descriptor, "wb") as file:
        file.write(json.dumps(told).encode("ascii") + b"\n" + body)


def _build(module: str, function: str, *, eagerly: bool) -> tuple[dict[str, Any], bytes]:
    try:
        tf: Any = import_module("tensorflow")
    except ImportError as error:
        raise FailedError("tensorflow", str(error)) from None
    called = _function(module, function)
    if eagerly:
        result = _call(called)
        graph = tf.Graph()
    else:
        with tf.Graph().as_default() as graph:
            result = _call(called)
    try:
        objects = _objects(tf, result)
        if objects is not None:
            return {"objects": objects, "version": tf.__version__}, b""
        graph = _graph_of(tf, result) or graph
        return {}, _export(tf, graph, result)
    except FailedError:
        raise
    except Exception as error:
        raise FailedError("export", _one_line(error)) from None


def _function(module: str, function: str) -> Any:
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module == missing or module.startswith(f"{missing}."):
            raise FailedError("module", f"there is no module {missing!r}") from None
        raise FailedError("import", _where(error)) from None
    except BaseException as error:
        raise FailedError("import", _where(error)) from None
    for name in function.split("."):
        if not hasattr(found, name):
            raise FailedError("function", f"{module} has no {function!r}")
        found = getattr(found, name)
    if not callable(found):
        raise FailedError("function", f"{function!r} in {module} is no function")
    return found


def _call(function: Any) -> Any:
    try:
        return function()
    except BaseException as error:
        raise FailedError("raised", _where(error)) from None


def _where(error: BaseException) -> str:
    """Return what was raised, and the last line of the user's own that was running."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_one_line(error)}, at {error.filename}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if os.path.abspath(frame.filename) != os.path.abspath(__file__)
        and not frame.filename.startswith("<frozen")
    ]
    libraries = tuple({f"{path}{os.sep}" for path in sysconfig.get_paths().values()})
    own = [frame for frame in frames if not frame.filename.startswith(libraries)] or frames[:1]
    return (
        f"{_one_line(error)}, at {own[-1].filename}:{own[-1].lineno}" if own else _one_line(error)
    )


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


def _graph_of(tf: Any, result: Any) -> Any:
    """Return the tf.Graph that a result is, or is of: a session, a tensor, some of either."""
    if isinstance(result, tf.Graph):
        return result
    for each in _elements(result):
        graph = getattr(each, "graph", None)
        if isinstance(graph, tf.Graph):
            return graph
    return None


def _elements(result: Any) -> list[Any]:
    if isinstance(result, dict):
        return list(result.values())
    return list(result) if isinstance(result, (list, tuple, set)) else [result]


def _export(tf: Any, graph: Any, result: Any) -> bytes:
    """Return the graph as a MetaGraphDef, with the Saver that the program made, if it is one."""
    if not graph.get_operations():
        raise FailedError("empty", f"it built no graph, and returned {type(result).__name__}")
    v1 = tf.compat.v1
    elements = _elements(result)
    variables = [each for each in elements if is_variable(tf, each)]
    if variables and len(variables) == len(elements):
        _keep_only(v1, graph, variables)
    known = [*elements, *graph.get_collection(v1.GraphKeys.SAVERS)]
    savers = [each.saver_def for each in known if isinstance(each, v1.train.Saver)]
    with graph.as_default():  # export_meta_graph refuses to work eagerly, even on a graph
        meta = v1.train.export_meta_graph(graph=graph, saver_def=savers[0] if savers else None)
    return bytes(meta.SerializeToString())


def _keep_only(v1: Any, graph: Any, variables: list[Any]) -> None:
    """Take what the function did not return out of the graph's collections of variables."""
    kept = {id(each) for each in variables}
    for key in (v1.GraphKeys.TRAINABLE_VARIABLES, v1.GraphKeys.MODEL_VARIABLES):
        listed = graph.get_collection_ref(key)
        listed[:] = [each for each in listed if id(each) in kept]
    graph.get_collection_ref(v1.GraphKeys.GLOBAL_VARIABLES)[:] = variables


def _objects(tf: Any, result: Any) -> dict[str, Any] | None:
    """Return the objects and the variables of a model; None where the result is none."""
    elements = _elements(result)
    if all(is_variable(tf, each) for each in elements) and elements:
        # Those of a graph are in its collections, beside all else that the graph knows of them.
        if not any(isinstance(getattr(each, "graph", None), tf.Graph) for each in elements):
            return {"objects": [], "variables": [_variable(tf, each, "") for each in elements]}
        return None
    if not hasattr(result, "_trackable_children") or isinstance(result, tf.Graph):
        return None
    found = list(walk(result))
    keys = {id(each): key for key, _, each in found if is_variable(tf, each)}
    numbers = {id(each): number for number, (_, _, each) in enumerate(found)}
    trained = getattr(result, "trainable_variables", None)
    trainable = None if trained is None else {id(each) for each in trained}
    return {
        "objects": [
            {"path": path, "attributes": attributes, "config": _config(each)}
            for _, path, each in found
            if (attributes := _attributes(each, keys))
        ],
        "variables": [
            _variable(tf, each, key, trainable) for key, _, each in found if id(each) in keys
        ],
        "edges": [
            {name: numbers[id(child)] for name, child in children.items() if id(child) in numbers}
            for children in (_children(each) for _, _, each in found)
        ],
        "keys": {numbers[id(each)]: key for key, _, each in found if id(each) in keys},
    }


def walk(root: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield each object with its key and its path from the root, shortest first, once.

    A program's optimizers and metrics have variables that no model asks for.
    """
    pending = [("", "", root)]
    seen = {id(root)}
    for key, path, each in pending:  # grows while it is walked
        yield key, path, each
        for name, child in _children(each).items():
            counter = each is root and name == "save_counter"
            if id(child) not in seen and not counter and not _is_apart(child):
                seen.add(id(child))
                # As TensorFlow escapes them (tensorflow/python/checkpoint/trackable_view.py).
                escaped = name.replace(".", "..").replace("/", ".S")
                pending.append((_join(key, escaped), _join(path, name), child))


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _children(each: Any) -> dict[str, Any]:
    children = getattr(each, "_trackable_children", None)
    return children() if children is not None else {}


def _is_apart(each: Any) -> bool:
    names = {cls.__name__ for cls in type(each).__mro__}
    return not names.isdisjoint(("Optimizer", "OptimizerV2", "BaseOptimizer", "Metric"))


def is_variable(tf: Any, each: Any) -> bool:
    """Whether an object is a variable of TensorFlow's or of Keras 3."""
    if isinstance(each, tf.Variable):
        return True
    return all(hasattr(each, name) for name in ("path", "assign", "shape", "dtype"))


def _attributes(each: Any, keys: dict[int, str]) -> dict[str, str]:
    """Return the keys of an object's own variables by attribute; a list has none."""
    if id(each) in keys:
        return {}
    return {
        name: keys[id(child)]
        for name, child in _children(each).items()
        if id(child) in keys and not name.isdigit()
    }


def _variable(tf: Any, each: Any, key: str, trainable: set[int] | None = None) -> dict[str, Any]:
    name = getattr(each, "path", None) or each.name
    shape = tf.TensorShape(each.shape)
    return {
        "key": key,
        "name": name,
        "shape": shape.as_list() if shape.is_fully_defined() else None,
        "dtype": tf.as_dtype(each.dtype).base_dtype.name,
        "trainable": bool(each.trainable) if trainable is None else id(each) in trainable,
    }


def _config(each: Any) -> str | None:
    """Return what Keras says of one of its layers, as JSON; None of anything else."""
    if not hasattr(each, "get_config"):
        return None
    try:
        told = {"class_name": type(each).__name__, "config": each.get_config()}
        return json.dumps(told, default=lambda _: None)
    except Exception:
        return None  # a layer that cannot say how it was made is a layer all the same


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
