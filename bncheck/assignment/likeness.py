"""Pairs of names that nearly agree: of a checkpoint's variable, and of a graph's of equal shape.

Comparing all with all would be quadratic. Names meet in buckets instead: those that end alike in as
many components as any do, and those that are equal without one of their components.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Shape = tuple[int, ...]

_MOST_SOURCES = 16  # names in one bucket that a name is compared with
_FULL = 64  # names of a bucket that tells nothing, since all layers meet in it
_DEEPEST = 24  # components of one name that are looked at; real names have ten
_LONGEST = 1000  # characters
_VERSION = re.compile(r"_v\d+(?=/|$)")


def likely_pairs(
    sources: Mapping[str, Shape], wanted: Mapping[str, Shape]
) -> Iterator[tuple[str, str]]:
    """Yield pairs of a source and a target that may be one variable, each pair once."""
    buckets: dict[tuple[str, Shape], list[str]] = {}
    for name, shape in sources.items():
        for key in (*_tails(name), *_without_one(name)):
            buckets.setdefault((key, shape), []).append(name)
    for target, shape in wanted.items():
        likely: dict[str, None] = {}
        for key in _tails(target):
            bucket = buckets.get((key, shape))
            if bucket:
                likely.update(dict.fromkeys(bucket[:_MOST_SOURCES] if len(bucket) < _FULL else ()))
                break
        for key in _without_one(target):
            bucket = buckets.get((key, shape), [])
            if len(bucket) <= _MOST_SOURCES:
                likely.update(dict.fromkeys(bucket))
        for source in likely:
            if source != target:
                yield source, target


def _tails(name: str) -> Iterator[str]:
    """Yield what a name ends in, the longest first, marked as such."""
    start = 0
    for _ in range(_DEEPEST if len(name) <= _LONGEST else 0):
        yield f"tail {name[start:]}"
        start = name.find("/", start) + 1
        if not start:
            return


def _without_one(name: str) -> Iterator[str]:
    """Yield a name without each of its components, whole, and without version numbers."""
    parts = name.split("/")
    if len(parts) > _DEEPEST or len(name) > _LONGEST:
        return
    yield f"plain {_VERSION.sub('', name)}"
    yield f"less {name}"
    for number in range(len(parts)):
        yield f"less {'/'.join(parts[:number] + parts[number + 1 :])}"
