"""The map as Python to paste: a dict for init_from_checkpoint, and a Saver where names differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.report.map_model import Fate, Match
from bncheck.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bncheck.report.map_model import MapReport

_SAVER = '''

def make_saver():
    """Return a Saver that restores the same under the checkpoint's names."""
    import tensorflow as tf

    variables = {}
    for variable in tf.compat.v1.global_variables():
        part = variable._save_slice_info
        variables.setdefault(part.full_name if part else variable.op.name, []).append(variable)
    return tf.compat.v1.train.Saver(
        {
            key: variables[name] if len(variables[name]) > 1 else variables[name][0]
            for key, name in assignment_map.items()
        }
    )
'''


def to_python(report: MapReport) -> str:
    """Return a Python file of ASCII characters that defines `assignment_map`.

    Names are string literals in which all that is not printable ASCII is escaped, in comments as
    well, so that no name can be more than data.
    """
    lines = [*_header(report), "", "assignment_map = {"]
    lines += [f"    {key!a}: {name!a}," for key, name in report.assignment_map.items()]
    text = "\n".join([*lines, "}"]) + "\n"
    if any(key != name for key, name in report.assignment_map.items()):
        text += _SAVER
    return text


def _header(report: MapReport) -> Iterator[str]:
    yield f"# Made by bncheck {__version__}: checkpoint key -> graph variable."
    yield f"# checkpoint: {report.checkpoint.path!a}"
    yield f"# graph: {report.graph.source!a}, {report.outcome.source}"
    for each in report.applied:
        yield f"# renamed: {each.edit.option!a}"
    yield f"# {report.headline}."
    yield "# tf.compat.v1.train.init_from_checkpoint(PATH, assignment_map) finds by these names"
    yield "# what tf.compat.v1.get_variable made."
    left_out = [
        row
        for row in report.rows
        if row.fate is not Fate.RESTORED
        and (row.place is not None or row.match in (Match.SHAPE_DIFFERS, Match.TYPE_DIFFERS))
        and row.name is not None
    ]
    if left_out:
        yield "# Left out, and therefore at their initializers:"
        for row in left_out:
            yield f"#   {row.name!a}: {row.reason}"
