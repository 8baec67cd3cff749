"""What a program expects: its variables, what it does to them, and what its own Saver saves."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from bncheck.checkpoint.structure import NO_STRUCTURE, Structure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bncheck.checkpoint.structure import LayerConfig

COLLECTIONS = {
    "global": "variables",
    "trainable": "trainable_variables",
    "model": "model_variables",
}
"""The --collection choices and the names of tf.GraphKeys' collections."""

_OUTPUT = re.compile(r"(?s)^(.*):\d+$")


def strip_output(name: str) -> str:
    """Return a tensor's name without its output number: `net/bn/gamma:0` is `net/bn/gamma`."""
    match = _OUTPUT.match(name)
    return match[1] if match else name


class GraphVariable(NamedTuple):
    """One variable of a graph under the name that a Saver gives it.

    Parts count as their full variable.

    `shape` is None where the graph does not fix it. `initial` is the number that the graph's own
    initializer writes into every element, and None where it writes anything else (random numbers,
    an array); `initial_known` tells that from a graph that does not say, and `restored` that the
    initializer reads a checkpoint, as init_from_checkpoint makes it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    initial: float | None = None
    initial_known: bool = False
    restored: bool = False


class GraphLayer(NamedTuple):
    """One batch norm of a graph, told by its ops.

    `roles` are variables by role ("gamma"), `updates` the ops that move its statistics. `trains`
    says that the graph normalizes with the batch's own statistics somewhere, `runs` whether a
    training step reaches an update of each statistic (None without a step or without updates).
    `serves` is what the outputs of a graph for serving normalize with: "moving", "batch",
    "undecided" where the caller feeds the choice, "untold" where a variable or a computation makes
    it, empty where they do not use the layer.
    `written` are updates that those outputs depend on.
    """

    name: str
    roles: Mapping[str, str]
    fused: bool = False
    updates: tuple[str, ...] = ()
    trains: bool = False
    runs: bool | None = None
    serves: str = ""
    written: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """A program's variables and what can be read off its nodes.

    `collections` maps the names of TensorFlow's collections to variable names. `saved_as` maps each
    variable that the graph's own Saver saves to its name in the checkpoint; None where the graph
    has no Saver. `momentum` and `epsilon` are by variable name, where an update op or a batch-norm
    op has them as constants; `updates` counts a variable's update ops, `normalized` are the scales
    and offsets of fused batch-norm ops, `update_ops` is the size of UPDATE_OPS. `layers` are its
    batch norms, told by structure and not by names. `structure` tells
    of the variables of another checkpoint that stands for the graph, `configs` is what Keras says
    of the layer that a variable belongs to.
    """

    source: str
    kind: str
    variables: Mapping[str, GraphVariable]
    collections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    saved_as: Mapping[str, str] | None = None
    momentum: Mapping[str, float] = field(default_factory=dict)
    updates: Mapping[str, int] = field(default_factory=dict)
    epsilon: Mapping[str, float] = field(default_factory=dict)
    update_ops: int = 0
    normalized: frozenset[str] = frozenset()
    role: str = "unknown"
    tensorflow_version: str = ""
    layers: tuple[GraphLayer, ...] = ()
    structure: Structure = NO_STRUCTURE
    configs: Mapping[str, LayerConfig] = field(default_factory=dict)

    def collection(self, choice: str) -> dict[str, GraphVariable]:
        """Return the variables of a --collection choice, in the collection's order."""
        if choice == "global":
            return dict(self.variables)
        names = self.collections.get(COLLECTIONS[choice], ())
        return {name: self.variables[name] for name in names if name in self.variables}
