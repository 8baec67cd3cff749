"""Two checkpoints, compared by `diff`, mapped by `map`, and taken for a run by `history`.

An input is JSON: of each checkpoint, the shapes and kinds of values by names.
"""

from __future__ import annotations

import ast
import json
import math
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bncheck.diffing import diff
from bncheck.history.pipeline import HistoryOptions, history
from bncheck.mapping import MapOptions, map_checkpoint
from bncheck.report import diff_json, history_json, map_json
from bncheck.report.diff_text import print_diff
from bncheck.report.history_text import print_history
from bncheck.report.map_python import to_python
from bncheck.report.map_text import print_map
from fuzz.json_tree import mutate_json, parsed
from fuzz.seeds import VALUES
from fuzz.target import Depth, Target
from fuzz.watch import preparing
from tests.writers import Raw, write_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST = 40  # variables, and elements of one
_ROLES = ("gamma", "beta", "moving_mean", "moving_variance")


def _read(data: bytes, directory: Path, depth: Depth) -> None:
    both = parsed(data)
    prefixes = [directory / "ckpt-1", directory / "ckpt-2"]
    for number, prefix in enumerate(prefixes):
        listed = both[number] if isinstance(both, list) and number < len(both) else {}
        with preparing():
            write_bundle(prefix, _tensors(listed if isinstance(listed, dict) else {}))
    before, after = map(str, prefixes)
    compared = diff(before, after)
    mapped = map_checkpoint(before, MapOptions(graph=after))
    if depth is not Depth.READ:
        json.loads(diff_json.to_json(compared))
        json.loads(map_json.to_json(mapped))
        ast.parse(to_python(mapped))
        run = history([before, after], HistoryOptions(jobs=1))
        json.loads(history_json.to_json(run))
        history_json.to_csv(run)
    if depth is Depth.REPORT:
        console = Console(file=StringIO(), width=100, highlight=False, emoji=False, markup=False)
        print_diff(compared, console, top=10, unicode=True)
        print_history(run, console, top=10, unicode=True)
        print_map(mapped, console, everything=True, unicode=True)


def _tensors(listed: dict[str, Any]) -> dict[str | bytes, Raw]:
    tensors: dict[str | bytes, Raw] = {b"other": Raw(1, (3,), VALUES[2])}
    for name, described in list(listed.items())[:_MOST]:
        key = name.encode("utf-8", "surrogatepass")
        if key and isinstance(described, list) and all(type(each) is int for each in described):
            *shape, kind = described or [0]
            count = math.prod(shape) if all(0 <= each <= _MOST for each in shape) else -1
            if 0 <= count <= _MOST:
                values = VALUES[kind % len(VALUES)] * count
                tensors[key] = Raw(1, shape, values[: 4 * count])
    return tensors


def _layers(*names: str, kind: int) -> dict[str, list[int]]:
    return {f"{name}/{role}": [3, kind] for name in names for role in _ROLES}


def _seeds() -> Iterator[bytes]:
    numbered = ("bn", "bn_1", "bn_2", "net/batch_normalization_3")
    later = ("bn_4", "bn_5", "bn_6", "net/batch_normalization_7")
    for before, after in (
        (numbered, numbered),
        (numbered, later),
        (("model/a/bn", "model/b/bn"), ("net/a/bn", "net/b/bn")),
        (("generator/conv1/BatchNorm",), ("discriminator/conv1/BatchNorm", "x")),
    ):
        for kind in (2, 4):
            pair = [_layers(*before, kind=2), _layers(*after, kind=kind)]
            yield json.dumps([{**each, "kernel": [3, 2, 2]} for each in pair]).encode()


TARGET = Target("two_checkpoints", _read, _seeds, mutate_json, longest=1 << 13)
