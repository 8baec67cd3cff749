"""Graphs in protobuf's text form: `saved_model.pbtxt` and the like."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import Message

from bncheck import limits
from bncheck.checkpoint.dtypes import NAMES
from bncheck.checkpoint.files import RegularFile
from bncheck.errors import DamagedError, NotACheckpointError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_M = TypeVar("_M", bound=Message)

# TensorFlow's names of the types that differ from NumPy's.
_SPELLED: Final = {
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "float16": "HALF",
}
# Enums are numbers in bncheck's messages, so that values which are newer than it are no errors.
ENUMS: Final[Mapping[str, int]] = {
    f"DT_{_SPELLED.get(name, name.upper())}": number for number, name in NAMES.items()
} | {"LEGACY": 0, "V1": 1, "V2": 2}
_REFERENCE: Final = 100
# Each of these reads a text once from its start to its end, whatever it is: a word is tried at its
# start alone, and a string that does not end goes to where it could.
_STRINGS: Final = r""""(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|\#[^\n]*"""
# A field that holds a message, and what may stand before it: strings, comments, other messages.
_TOKEN: Final = re.compile(_STRINGS + r"|[{}<>]|(?<!\w)(\w+)(?=\s*(?::\s*)?[{<])")
_FIELD: Final = re.compile(_STRINGS + r"|(?<!\w)(\w+\s*:\s*)([A-Z][A-Z0-9_]+)\b")

# Attributes that say nothing of a variable, as TensorFlow lays them out. They are most of an
# Estimator's graph, and what is parsed takes 1 s a megabyte.
_UNREAD: Final = re.compile(
    r"""(?m)^([ ]*)attr[ ]\{\n\1[ ]+key:[ ]"_(?:class|output_shapes)"\n(?:\1[ ].*\n)*\1\}\n"""
)


def field_among(text: str, names: Collection[str]) -> str | None:
    """Return the first field of a text's outermost message that is one of the names.

    All of them are fields that hold messages: `node { ... }`.
    """
    depth = 0
    for match in _TOKEN.finditer(text):
        if depth == 0 and match[1] in names:
            return match[1]
        depth += (match[0] in ("{", "<")) - (match[0] in ("}", ">"))
    return None


def read_text(path: str, what: str) -> str:
    """Return the text that a file is; `what` says what that would be.

    Raises as `RegularFile` does, UnsupportedError beyond 2 GiB, and NotACheckpointError where it is
    no UTF-8.
    """
    with RegularFile(path) as file:
        if file.size > limits.LARGEST_GRAPH:
            raise UnsupportedError(
                path,
                "is a text of more than 2 GiB",
                remedy="Write the graph in binary form: tf.io.write_graph(..., as_text=False).",
            )
        data = file.read(0, file.size, "the text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotACheckpointError(
            path,
            f"is no {what} but a text that is no UTF-8",
            offset=error.start,
            remedy="Write it again as UTF-8, or in binary form.",
        ) from None


def read_text_message(path: str, message: _M, what: str) -> _M:
    """Read a file that is one message in text form; fields that bncheck does not know are passed.

    Raises as `read_text` does, and DamagedError, with the line, where it is no such text.
    """
    return parse_text_message(path, read_text(path, what), message, what)


def parse_text_message(path: str, text: str, message: _M, what: str) -> _M:
    """Read a text that is one message; DamagedError, with the line, where it is none."""
    from google.protobuf import text_format  # 8 ms, and few graphs are texts

    try:
        return text_format.Parse(
            _FIELD.sub(_number, _UNREAD.sub(_blank, text)),
            message,
            allow_unknown_field=True,
            allow_unknown_extension=True,
        )
    except (text_format.ParseError, RecursionError) as error:
        line = getattr(error, "GetLine", lambda: None)()
        where = f" (line {line})" if line else ""
        raise DamagedError(
            path,
            f"is no {what} in text form{where}",
            remedy="Copy it again, or use --no-graph to judge the checkpoint alone.",
        ) from None


def _blank(match: re.Match[str]) -> str:
    """Return as many empty lines, so that an error names the right one."""
    return "\n" * match[0].count("\n")


def _number(match: re.Match[str]) -> str:
    """Return a field with an enum's name as its number; strings and comments stay as they are."""
    field, name = match[1], match[2]
    if name is None:
        return match[0]
    plain = name.removesuffix("_REF")
    if plain not in ENUMS:
        return f"{field}0"
    return f"{field}{ENUMS[plain] + (_REFERENCE if plain != name else 0)}"
