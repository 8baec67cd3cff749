"""Whether a directory's state file agrees with what is there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from bncheck.checkpoint.location import Kind, at_prefix
from bncheck.checkpoint.model import quoted
from bncheck.checkpoint.state_file import STATE_FILE, all_prefixes, candidate_prefixes, read_state
from bncheck.errors import BncheckError
from bncheck.report.verify_model import Problem, Weight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bncheck.checkpoint.location import Location

_SHOWN: Final = 3  # paths in one sentence


def check_state(location: Location) -> Iterator[Problem]:
    """Yield what is wrong with the state file beside a checkpoint of TensorFlow's, if there is one.

    Training goes on from what it names as the latest: if that is not there, it starts anew.
    """
    path = os.path.join(os.path.dirname(location.prefix), STATE_FILE)
    if location.kind not in (Kind.BUNDLE, Kind.SLICES) or not os.path.isfile(path):
        return
    try:
        latest = read_state(path)
        listed = all_prefixes(path)
    except BncheckError as error:
        yield Problem(Weight.SUSPECT, path, error.what, remedy=error.remedy)
        return
    if not _is_there(candidate_prefixes(os.path.dirname(path), latest)):
        what = "names no latest checkpoint"
        if latest:
            what = f"names {quoted(latest)} as the latest checkpoint, which is not there"
        remedy = "tf.train.latest_checkpoint returns None, and a training starts anew."
        yield Problem(Weight.SUSPECT, path, what, remedy=remedy)
    gone = [candidates[0] for candidates in listed if candidates and not _is_there(candidates)]
    if gone:
        shown = ", ".join(gone[:_SHOWN]) + (", ..." if len(gone) > _SHOWN else "")
        yield Problem(Weight.NOTE, path, f"lists {len(gone)} that are not there: {shown}")


def _is_there(candidates: list[str]) -> bool:
    try:
        return any(at_prefix(prefix) or os.path.isfile(prefix) for prefix in candidates)
    except BncheckError:
        return False  # a part of it is missing
