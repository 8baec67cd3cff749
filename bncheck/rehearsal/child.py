"""A real restore, by TensorFlow, in a process of its own.

`bncheck.rehearsal` starts this file. Each job builds a graph, restores into it, and tells a digest
of every variable; nothing else of bncheck is in the process, and what a program prints or breaks
stays here.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any


def digest(value: Any) -> str:
    """Return what identifies a tensor bit by bit: its type, its shape, its bytes."""
    import numpy as np

    array = np.asarray(value)
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
        with tf.Graph().as_default():
            _build(tf, job)
            return _Rehearsal(tf, job).run()
    except BaseException as error:
        return {"failed": _one_line(error)}


def _build(tf: Any, job: dict[str, Any]) -> None:
    if "meta" in job:
        _import(tf, job["meta"])
        return
    module, _, name = job["program"].partition(":")
    function: Any = import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    function()
    if not tf.compat.v1.global_variables():
        raise RuntimeError("the program made no variables in the default graph")


def _import(tf: Any, path: str) -> None:
    """Import the part of a .meta that makes its variables.

    The rest takes long, and may have ops that this TensorFlow lacks or no longer takes: 2.21
    refuses the FusedBatchNorm of 1.15's graphs that were built with is_training=False.
    """
    meta = tf.compat.v1.MetaGraphDef()
    with open(path, "rb") as file:
        meta.ParseFromString(file.read())
    kept = ("variables", "trainable_variables")
    for name in [name for name in meta.collection_def if name not in kept]:
        del meta.collection_def[name]
    meta.ClearField("saver_def")
    needed = set()
    for collection in meta.collection_def.values():
        for raw in collection.bytes_list.value:
            told = import_module("tensorflow.core.framework.variable_pb2").VariableDef()
            told.ParseFromString(raw)
            tensors = (
                *(told.variable_name, told.initializer_name),
                *(told.snapshot_name, told.initial_value_name),
            )
            needed |= {tensor.partition(":")[0] for tensor in tensors if tensor}
    reduced = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, sorted(needed))
    meta.graph_def.CopyFrom(reduced)
    tf.compat.v1.train.import_meta_graph(meta, clear_devices=True)


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
