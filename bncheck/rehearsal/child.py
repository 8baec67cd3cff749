"""A real restore, by TensorFlow, in a process of its own.

`bncheck.rehearsal` starts this file. Each job builds a graph or a model, restores into it, and
tells a digest of every variable; what a program prints or breaks stays here.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # what a checkpoint's key of a variable ends with


def digest(value: Any) -> str:
    """Return what identifies a tensor bit by bit: its type, its shape, its bytes."""
    import numpy as np

    array = np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
    found = hashlib.sha256(f"{array.dtype} {array.shape} ".encode())
    if array.dtype == object:  # strings
        for each in array.ravel():
            found.update(b"%d " % len(each) + bytes(each))
    else:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def main(descriptor: int) -> None:
    """Read the jobs from standard input, and write what became of each as a line of JSON."""
    # The user's modules are found from the working directory, and none of bncheck's by mistake.
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.getcwd(), *(path for path in sys.path if os.path.abspath(path) != own)]
    jobs = json.load(sys.stdin)
    with os.fdopen(descriptor, "w") as file:
        for job in jobs:
            file.write(json.dumps(_rehearse(job)) + "\n")
            file.flush()


def _rehearse(job: dict[str, Any]) -> dict[str, Any]:
    try:
        tf = import_module("tensorflow")
        if job["loader"] == "object":
            return _restore_objects(tf, job)
        with tf.Graph().as_default():
            _build(tf, job)
            return _Rehearsal(tf, job).run()
    except BaseException as error:
        return {"failed": _one_line(error)}


def _build(tf: Any, job: dict[str, Any]) -> None:
    if "program" not in job:
        _import(tf, _meta_graphs(tf, job["graph"]))
        return
    _call(job["program"])
    if not tf.compat.v1.global_variables():
        raise RuntimeError("the program made no variables in the default graph")


def _call(program: str) -> Any:
    module, _, name = program.partition(":")
    function: Any = import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    return function()


def _meta_graphs(tf: Any, path: str) -> list[Any]:
    """Return the MetaGraphs of a .meta or a SavedModel, those for serving first."""
    name = os.path.basename(path)
    with open(path, "rb") as file:
        data = file.read()
    if not name.startswith("saved_model.pb"):
        meta = tf.compat.v1.MetaGraphDef()
        meta.ParseFromString(data)
        return [meta]
    model = import_module("tensorflow.core.protobuf.saved_model_pb2").SavedModel()
    if name.endswith(".pbtxt"):
        import_module("google.protobuf.text_format").Merge(data, model)
    else:
        model.ParseFromString(data)
    return sorted(model.meta_graphs, key=lambda meta: "serve" not in meta.meta_info_def.tags)


def _import(tf: Any, metas: list[Any]) -> None:
    """Import the part of MetaGraphs that makes their variables; what the first has, it decides.

    The rest takes long, and may have ops that this TensorFlow lacks or no longer takes: 2.21
    refuses the FusedBatchNorm of 1.15's graphs that were built with is_training=False.
    """
    definition = import_module("tensorflow.core.framework.variable_pb2").VariableDef
    variables: dict[str, bytes] = {}
    nodes: dict[str, Any] = {}
    for meta in metas:
        needed = set()
        for raw in meta.collection_def["variables"].bytes_list.value:
            told = definition.FromString(raw)
            variables.setdefault(told.variable_name, raw)
            tensors = (
                *(told.variable_name, told.initializer_name),
                *(told.snapshot_name, told.initial_value_name),
            )
            needed |= {tensor.partition(":")[0] for tensor in tensors if tensor}
        for node in tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, sorted(needed)).node:
            nodes.setdefault(node.name, node)
    whole = tf.compat.v1.MetaGraphDef()
    whole.meta_info_def.CopyFrom(metas[0].meta_info_def)
    whole.graph_def.versions.CopyFrom(metas[0].graph_def.versions)
    whole.graph_def.library.CopyFrom(metas[0].graph_def.library)
    whole.graph_def.node.extend(nodes.values())
    whole.collection_def["variables"].bytes_list.value.extend(variables.values())
    tf.compat.v1.train.import_meta_graph(whole, clear_devices=True)


def _restore_objects(tf: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Restore into a model's own variables, as tf.train.Checkpoint does.

    They are moved away from what they hold before: a SavedModel already holds what is restored.
    """
    from bncheck.graph.python_child import is_variable, walk

    root = _call(job["program"]) if "program" in job else tf.saved_model.load(job["graph"])
    # A model of Keras 3 has its weights in several places: one variable may stand for the other.
    keys = {key: each for key, _, each in walk(root) if is_variable(tf, each)}
    for each in keys.values():
        with suppress(TypeError, ValueError, tf.errors.OpError):  # strings, and what has no sum
            each.assign(each + tf.ones_like(each))
    before = _told(keys)
    raised, after = None, None
    checkpoint = root if isinstance(root, tf.train.Checkpoint) else tf.train.Checkpoint(root)
    try:
        checkpoint.restore(job["checkpoint"]).expect_partial()
        after = _told(keys)
    except Exception as error:
        raised = _one_line(error)
    return {
        "tensorflow": tf.__version__,
        "derived": [],
        "before": [before, before],
        "after": after,
        "raised": raised,
    }


def _told(variables: dict[str, Any]) -> dict[str, str]:
    return {f"{key}{_VALUE}": digest(each.numpy()) for key, each in variables.items()}


class _Rehearsal:
    """One graph: its variables by the names that a Saver gives them, and a checkpoint."""

    def __init__(self, tf: Any, job: dict[str, Any]) -> None:
        self._tf = tf
        self._job = job
        self._variables: dict[str, list[Any]] = {}
        for variable in tf.compat.v1.global_variables():
            part = variable._save_slice_info  # noqa: SLF001 - as checkpoint_utils does
            name = part.full_name if part else variable.op.name
            self._variables.setdefault(name, []).append(variable)

    def run(self) -> dict[str, Any]:
        """Restore, and return the digests before and after, or what was raised."""
        derived = sorted(self._derived())
        before = [self._initialized(), self._initialized()]
        raised, after = None, None
        try:
            after = self._restored()
        except Exception as error:
            raised = _one_line(error)
        return {
            "tensorflow": self._tf.__version__,
            "derived": derived,
            "before": before,
            "after": after,
            "raised": raised,
        }

    def _derived(self) -> set[str]:
        """Return the variables that start from others: the shadows of tf.train's moving averages.

        What such a one keeps is its initializer, and yet another value once those are restored.
        """
        every = {variable.op.name for parts in self._variables.values() for variable in parts}
        found = set()
        for name, parts in self._variables.items():
            own = {part.op.name for part in parts}
            # What was imported has a tensor of that op as its initializer, or the op itself.
            pending = [getattr(part.initializer, "op", part.initializer) for part in parts]
            seen = set(pending)
            while pending and name not in found:
                op = pending.pop()
                if op.name in every and op.name not in own:
                    found.add(name)
                ahead = {*(tensor.op for tensor in op.inputs), *op.control_inputs} - seen
                seen |= ahead
                pending += ahead
        return found

    def _initialized(self) -> dict[str, str | None]:
        """Return the digests behind the program's own initializers."""
        with self._tf.compat.v1.Session() as session:
            self._initialize(session, set())
            return self._digests(session)

    def _restored(self) -> dict[str, str | None]:
        v1 = self._tf.compat.v1
        path, asked = self._job["checkpoint"], self._job["asked"]
        targets = {key: self._target(name) for key, name in asked.items()}
        needed = set(asked.values())
        if self._job["loader"] == "assignment-map":
            v1.train.init_from_checkpoint(path, targets)
        elif self._job["loader"] == "warm-start":
            flat = [each for target in targets.values() for each in _as_list(target)]
            renamed = {name: key for key, name in asked.items() if key != name}
            v1.train.warm_start(path, flat, var_name_to_prev_var_name=renamed)
        with v1.Session() as session:
            if self._job["loader"] == "saver":
                self._initialize(session, set())
                if targets:
                    v1.train.Saver(targets).restore(session, path)
            else:
                self._initialize(session, needed)
            return self._digests(session)

    def _initialize(self, session: Any, needed: set[str]) -> None:
        """Run the initializers; those that fail by themselves leave their variables unset.

        They may read a file that is gone. Those of `needed` variables read the checkpoint, and what
        they raise is the answer.
        """
        with suppress(self._tf.errors.OpError):
            session.run(self._tf.compat.v1.global_variables_initializer())
            return
        if needed:
            session.run([v.initializer for name in needed for v in self._variables[name]])
        for name in self._variables.keys() - needed:
            with suppress(self._tf.errors.OpError):
                session.run([variable.initializer for variable in self._variables[name]])

    def _target(self, name: str) -> Any:
        parts = self._variables[name]
        return parts if parts[0]._save_slice_info else parts[0]  # noqa: SLF001 - see above

    def _digests(self, session: Any) -> dict[str, str | None]:
        """Return the digest of each variable, None where it has no value."""
        digests: dict[str, str | None] = dict.fromkeys(self._variables)
        with suppress(self._tf.errors.FailedPreconditionError):
            values = session.run(self._variables)
            return {name: digest(_joined(p, values[name])) for name, p in self._variables.items()}
        for name, parts in self._variables.items():
            with suppress(self._tf.errors.FailedPreconditionError):
                digests[name] = digest(_joined(parts, session.run(parts)))
        return digests


def _joined(parts: list[Any], values: list[Any]) -> Any:
    """Return the value of a variable that may be in parts."""
    import numpy as np

    infos = [part._save_slice_info for part in parts]  # noqa: SLF001 - as checkpoint_utils does
    if infos[0] is None:
        return values[0]
    whole = np.empty(infos[0].full_shape, values[0].dtype)
    for info, value in zip(infos, values, strict=True):
        ends = zip(info.var_offset, info.var_shape, strict=True)
        whole[tuple(slice(start, start + size) for start, size in ends)] = value
    return whole


def _as_list(target: Any) -> list[Any]:
    return target if isinstance(target, list) else [target]


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


if __name__ == "__main__":
    main(int(sys.argv[1]))
