"""Graphs in protobuf's text form: `saved_model.pbtxt` and the like."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import Message

from bncheck.checkpoint.dtypes import NAMES
from bncheck.checkpoint.files import RegularFile
from bncheck.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Mapping

_M = TypeVar("_M", bound=Message)

# TensorFlow's names of the types that differ from NumPy's.
_SPELLED: Final = {
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "float16": "HALF",
}
# Enums are numbers in bncheck's messages, so that values which are newer than it are no errors.
_ENUMS: Final[Mapping[str, int]] = {
    f"DT_{_SPELLED.get(name, name.upper())}": number for number, name in NAMES.items()
} | {"LEGACY": 0, "V1": 1, "V2": 2}
_REFERENCE: Final = 100
_FIELD: Final = re.compile(
    r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\#[^\n]*|(\w+\s*:\s*)([A-Z][A-Z0-9_]+)\b"""
)


def read_text_message(path: str, message: _M, what: str) -> _M:
    """Read a file that is one message in text form; fields that bncheck does not know are passed.

    Raises NotFoundError where it cannot be opened, and DamagedError, with the line, where it is no
    such text.
    """
    from google.protobuf import text_format  # 8 ms, and few graphs are texts

    with RegularFile(path) as file:
        data = file.read(0, file.size, "the text")
    try:
        text = _FIELD.sub(_number, data.decode("utf-8"))
        return text_format.Parse(
            text, message, allow_unknown_field=True, allow_unknown_extension=True
        )
    except (text_format.ParseError, UnicodeError, RecursionError) as error:
        line = getattr(error, "GetLine", lambda: None)()
        where = f" (line {line})" if line else ""
        raise DamagedError(path, f"is no {what} in text form{where}") from None


def _number(match: re.Match[str]) -> str:
    """Return a field with an enum's name as its number; strings and comments stay as they are."""
    field, name = match[1], match[2]
    if name is None:
        return match[0]
    plain = name.removesuffix("_REF")
    if plain not in _ENUMS:
        return f"{field}0"
    return f"{field}{_ENUMS[plain] + (_REFERENCE if plain != name else 0)}"
