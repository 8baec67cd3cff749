"""Layers whose values are found under another number: an insertion shifted what followed it.

Two layers of one run are near each other, channel by channel, however long the training between
them was; those of different layers, or of different runs, are not.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.changes.likeness import FAR, apart, telling
from bncheck.changes.model import Shift
from bncheck.changes.values import NEAR, is_same

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bncheck.batchnorm.layers import Layer

# From its first digit alone: of thousands, each would be tried as the first.
_NUMBER: Final = re.compile(r"_?(?<!\d)(\d+)(?=/|$)")
_MUCH_NEARER: Final = 3.0
_REACH: Final = 8  # numbers to either side
_SAMPLE: Final = 100  # layers of one family that vote on the offset
_LEAST_VOTES: Final = 2
_MOST_UNTOLD: Final = 0.5  # of a family's layers, those that are near nothing


class _Numbered(NamedTuple):
    """A layer's name without its last number, and the number; 0 where it has none."""

    stem: str
    number: int


def _read(name: str) -> _Numbered:
    numbers = list(_NUMBER.finditer(name))
    if not numbers:
        return _Numbered(name, 0)
    last = numbers[-1]
    if len(last[1]) > 9:
        return _Numbered(name, 0)  # a hash, or the like
    return _Numbered(name[: last.start()] + name[last.end() :], int(last[1]))


def stem_of(name: str) -> str:
    """Return a layer's name without its last number, which all layers of one kind have."""
    return _read(name).stem


def without_numbers(name: str) -> str:
    """Return a layer's name without any number."""
    return _NUMBER.sub("", name)


def find_shifts(before: Sequence[Layer], after: Sequence[Layer]) -> list[Shift]:
    """Return the runs of layers of the first checkpoint that the second has under other numbers.

    Two layers with one offset are a shift, and so is one that has a vector of trained numbers bit
    by bit; but not where most of the family is near nothing at all, as in two independent runs.
    """
    old, new = _families(before), _families(after)
    return [
        shift
        for stem in old.keys() & new.keys()
        if len(old[stem]) > 1 or len(new[stem]) > 1
        for shift in _shifts_of(stem, old[stem], new[stem])
    ]


def _families(layers: Iterable[Layer]) -> dict[str, dict[int, Layer]]:
    families: dict[str, dict[int, Layer]] = {}
    for layer in layers:
        name = _read(layer.name)
        families.setdefault(name.stem, {})[name.number] = layer
    return families


def _shifts_of(stem: str, old: Mapping[int, Layer], new: Mapping[int, Layer]) -> list[Shift]:
    told = [number for number, layer in old.items() if telling(layer)]
    here = {number: apart(old[number], new.get(number)) for number in told}
    away = [number for number in told if here[number] > FAR]
    found: dict[int, list[int]] = {}
    for offset in _offsets(away, old, new, here):
        hits = [
            number
            for number in away
            if all(number not in numbers for numbers in found.values())
            and apart(old[number], new.get(number + offset))
            < min(NEAR, here[number] / _MUCH_NEARER)
        ]
        enough = len(hits) >= _LEAST_VOTES
        if enough or any(_share_a_vector(old[n], new[n + offset]) for n in hits):
            found[offset] = hits
    # What comes right behind an insertion has other inputs now, and follows them quickly.
    claimed = {number + offset for offset, numbers in found.items() for number in numbers}
    for number in away:
        offsets = [each for each in found if number + each in new.keys() - claimed]
        nearest = min(offsets, key=lambda each: apart(old[number], new[number + each]), default=0)
        if any(number in numbers for numbers in found.values()) or not nearest:
            continue
        if apart(old[number], new[number + nearest]) < here[number] / 2:
            found[nearest] = sorted([*found[nearest], number])
            claimed.add(number + nearest)
    explained = sum(map(len, found.values())) + sum(here[number] <= FAR for number in told)
    if not found or explained < (1 - _MOST_UNTOLD) * len(told):
        return []
    return [
        Shift(stem, offset, tuple((old[n].name, new[n + offset].name) for n in hits), "values")
        for offset, hits in sorted(found.items())
    ]


def _offsets(
    away: Sequence[int],
    old: Mapping[int, Layer],
    new: Mapping[int, Layer],
    here: Mapping[int, float],
) -> list[int]:
    """Return the offsets at which some of the layers are near, the most frequent first."""
    step = max(1, len(away) // _SAMPLE)
    votes: Counter[int] = Counter()
    for number in away[::step]:
        reach = (offset for offset in range(-_REACH, _REACH + 1) if offset)
        distances = {each: apart(old[number], new.get(number + each)) for each in reach}
        best = min(distances, key=lambda each: (distances[each], abs(each)))
        if distances[best] < min(NEAR, here[number] / _MUCH_NEARER):
            votes[best] += 1
    return [offset for offset, _ in votes.most_common()]


def _share_a_vector(old: Layer, new: Layer) -> bool:
    mine, theirs = telling(old), telling(new)
    return any(is_same(mine[role], theirs[role]) for role in mine.keys() & theirs.keys())
