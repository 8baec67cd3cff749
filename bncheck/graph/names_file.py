"""A text file of names: the variables that a program asks for, one a line, as a person lists them.

    # of the encoder
    net/bn/gamma:0
    net/bn/moving_mean [8] float32

Shape and type may be missing, and stand in either order, as in what TensorFlow's inspect_checkpoint
prints (`net/bn/gamma (DT_FLOAT) [8]`).
"""

from __future__ import annotations

import re
from typing import Final

from bncheck.checkpoint.dtypes import NAMES, dtype_name
from bncheck.errors import NotACheckpointError
from bncheck.graph.model import Graph, GraphVariable, strip_output
from bncheck.graph.text_form import ENUMS

# Quotes, brackets and commas are of Python and JSON, not of a name.
_NAME: Final = re.compile(r"""([^\s"'`,;:=(){}\[\]<]+(?::\d+)?)(?:\s+|$)""")
_SIZE: Final = r"(?:\d{1,19}|-1|\?|None)"
_SHAPE: Final = re.compile(rf"[\[(]\s*(?P<sizes>(?:{_SIZE}(?:\s*,\s*{_SIZE})*)?)\s*,?\s*[\])]")
_DTYPE: Final = re.compile(r"\(?(?:tf\.)?(?P<dtype>\w+?)(?:_ref|_REF)?\)?")
_REMEDY: Final = (
    "In a list of names, each line is a variable's name, then its shape and type or nothing: "
    "net/bn/gamma [8] float32."
)


def read_names(path: str, text: str) -> Graph:
    """Return the variables that a text lists, one a line, with `#` comments.

    Raises NotACheckpointError, with the line, where a line is no name, or contradicts another.
    """
    variables: dict[str, GraphVariable] = {}
    for number, line in enumerate(text.split("\n"), 1):
        entry = _entry(line)
        if not entry:
            continue
        variable = _variable(entry)
        if variable is None:
            raise NotACheckpointError(
                path,
                f"is no TensorFlow graph, and no list of variables' names (line {number}: "
                f"{entry[:60]!r})",
                remedy=_REMEDY,
            )
        if variables.setdefault(variable.name, variable) != variable:
            raise NotACheckpointError(
                path,
                f"line {number} says otherwise of {variable.name} than a line before it",
                remedy="Leave one of the two lines out.",
            )
    if not variables:
        raise NotACheckpointError(path, "is a text without any names of variables", remedy=_REMEDY)
    return Graph(
        source=path,
        kind="names",
        variables=variables,
        collections={"variables": tuple(variables)},
    )


def _entry(line: str) -> str:
    """Return a line without its comment, a `#` at the start or behind a space, in single spaces."""
    return " ".join(re.split(r"(?:^|\s)#", line, maxsplit=1)[0].split())


def _variable(entry: str) -> GraphVariable | None:
    """Return the variable of a line, None where the line is not of this form."""
    name = _NAME.match(entry)
    if name is None:
        return None
    rest = entry[name.end() :]
    shape = _SHAPE.search(rest)
    if shape is not None:
        rest = f"{rest[: shape.start()]} {rest[shape.end() :]}".strip()
    dtype = _DTYPE.fullmatch(rest)
    spelled = dtype["dtype"] if dtype is not None else ""
    known = dtype_name(ENUMS[spelled]) if spelled in ENUMS else spelled
    if rest and known not in NAMES.values():
        return None
    return GraphVariable(strip_output(name[1]), known, _sizes(shape["sizes"]) if shape else None)


def _sizes(listed: str) -> tuple[int, ...] | None:
    """Return the sizes of a shape; None where one of them is left open."""
    sizes = listed.split(",") if listed else []
    return tuple(map(int, sizes)) if all(each.strip().isdecimal() for each in sizes) else None
