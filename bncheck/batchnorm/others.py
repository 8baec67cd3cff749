"""The variables outside of the layers: how many of which kind, and which one counts the steps."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from bncheck.batchnorm.names import Kind, kind_of
from bncheck.checkpoint.object_graph import OBJECT_GRAPH, object_path

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from typing import Any

    from numpy.typing import NDArray

    from bncheck.checkpoint.model import Checkpoint, Values

_STEP: Final = "global_step"
_INTEGERS: Final = ("int64", "int32")


def count_kinds(checkpoint: Checkpoint, members: Container[str]) -> Counter[Kind]:
    """Count the variables outside of the layers by kind: the structure's word, else the name's."""
    return Counter(
        kind_of_variable(checkpoint, name) for name in checkpoint.variables if name not in members
    )


def kind_of_variable(checkpoint: Checkpoint, name: str) -> Kind:
    """Return the kind of a variable outside of the layers."""
    structure = checkpoint.structure
    if name in structure.slots:
        return Kind.SLOT
    if name in structure.counters:
        return Kind.COUNTER
    if name in structure.copies:
        return Kind.COPY
    described = structure.tells_layers and checkpoint.variables[name].dtype == "string"
    return Kind.DESCRIPTION if name == OBJECT_GRAPH or described else kind_of(object_path(name))


def step_variables(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the step's variable: the structure's, `global_step`, else a Keras counter."""
    if checkpoint.structure.tells_layers:
        return checkpoint.structure.steps

    def is_step(name: str, *leaves: str) -> bool:
        variable = checkpoint.variables[name]
        leaf = name.rpartition("/")[2]
        return leaf in leaves and variable.shape == () and variable.dtype in _INTEGERS

    if _STEP in checkpoint.variables and is_step(_STEP, _STEP):
        return (_STEP,)
    named = [name for name in checkpoint.variables if is_step(name, _STEP)]
    counted = [name for name in checkpoint.variables if is_step(name, "iter", "iterations")]
    # Two networks with a step each have no step in common.
    return next(((names[0],) for names in (named, counted) if len(names) == 1), ())


def step_of(values: Values, names: Iterable[str]) -> int | None:
    """Return the step that all counters agree in; what is no whole number counts nothing."""
    arrays = [values.arrays[name] for name in names if name in values.arrays]
    steps = {int(array) for array in arrays if _is_whole(array)}
    return steps.pop() if len(steps) == 1 else None


def _is_whole(array: NDArray[Any]) -> bool:
    """Whether an array is one whole number; some programs keep it in a float."""
    if array.shape != ():
        return False
    return array.dtype.kind in "iu" or (array.dtype.kind == "f" and float(array).is_integer())
