"""The `checkpoint` state file: which of a directory's checkpoints is the latest.

It is a CheckpointState in protobuf's text format, as tf.train.get_checkpoint_state reads it; all
spellings that the text format allows (either quote, escapes, comments, adjacent strings) are
therefore accepted.
"""

from __future__ import annotations

import ntpath
import os
import re

from bncheck import limits
from bncheck.checkpoint.files import RegularFile
from bncheck.errors import DamagedError
from bncheck.proto.tensors_pb2 import CheckpointState

STATE_FILE = "checkpoint"
_NAME_IT = "Name the checkpoint itself instead of the directory."
# Not `state.model_checkpoint_path` in a program: the field, its colon, and a string.
_FIELD = re.compile(rb"""(?<![\w.])model_checkpoint_path\s*:\s*["'#]""")


def is_state_file(file: RegularFile) -> bool:
    """Whether the file is a text that names a latest checkpoint."""
    return (
        file.size <= limits.LARGEST_STATE_FILE
        and _FIELD.search(file.head(limits.LARGEST_STATE_FILE)) is not None
    )


def read_state(path: str) -> str:
    """Return `model_checkpoint_path` as it is written; empty where the file names none.

    Raises DamagedError where the file is no text-format CheckpointState.
    """
    return str(_parse(path).model_checkpoint_path)


def all_prefixes(path: str) -> list[list[str]]:
    """Return what each of `all_model_checkpoint_paths` can mean, the oldest first.

    Raises DamagedError where the file is no text-format CheckpointState.
    """
    directory = os.path.dirname(path)
    return [
        candidate_prefixes(directory, str(written))
        for written in _parse(path).all_model_checkpoint_paths
    ]


def _parse(path: str) -> CheckpointState:
    from google.protobuf import text_format  # 8 ms, and only directories need it

    with RegularFile(path) as file:
        if file.size > limits.LARGEST_STATE_FILE:
            raise DamagedError(
                path, f"is {file.size} bytes long, too long for a state file", remedy=_NAME_IT
            )
        data = file.head(limits.LARGEST_STATE_FILE)
    try:
        return text_format.Merge(data.decode("utf-8"), CheckpointState(), allow_unknown_field=True)
    except (text_format.ParseError, UnicodeError, RecursionError) as error:
        raise DamagedError(
            path,
            f"is no valid checkpoint state file{_line_of(error)}",
            offset=error.start if isinstance(error, UnicodeDecodeError) else None,
            remedy=_NAME_IT,
        ) from None


def _line_of(error: Exception) -> str:
    """Say in which line a state file goes wrong, where the parser tells."""
    line = getattr(error, "GetLine", lambda: None)()
    return f" (line {line})" if line else ""


def candidate_prefixes(directory: str, written: str) -> list[str]:
    """Return the prefixes that a written path can mean, the likeliest first.

    A relative path counts from the state file's directory. An absolute one may be stale, because
    the directory was moved, or come from Windows: then its last part is looked for in the
    directory. A path that is `.` or ends in `/` is a checkpoint without a basename:
    `DIRECTORY/.index`.
    """
    if "\0" in written:
        return []  # no file can be called so
    here = os.path.join(directory, "")
    if written == "." or not written:
        return [here] if written else []
    prefixes = [written if os.path.isabs(written) else os.path.join(directory, written)]
    if os.path.isabs(written) or ntpath.isabs(written) or ntpath.splitdrive(written)[0]:
        prefixes.append(here + ntpath.basename(written))  # splits at both kinds of slash
    return list(dict.fromkeys(prefixes))
