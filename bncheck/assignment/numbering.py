"""Shifted numbers: `batch_normalization_3` of the checkpoint is `batch_normalization_5` here.

TensorFlow numbers layers of one kind in the order in which a program makes them. A layer more in
front, or a second model in one process, shifts all that follow: names still match, and mean other
layers (tensorflow/tensorflow#35906).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from bncheck.assignment.edits import Edit, Suggestion, is_literal, option_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Shape = tuple[int, ...]
    # The variables of each number: what follows the number in their names, and their shapes.
    Layers = dict[int, dict[str, Shape]]

_NUMBER: Final = re.compile(r"(?<=[^/])_[1-9]\d{0,8}(?=/|$)")
_PART_END: Final = re.compile(r"(?<=[^/])(?=/|$)")
_LEAST_GAIN: Final = 2
_MOST_TWINS: Final = 8  # layers of one number each that a layer of equal shapes is compared with
_MOST_OFFSETS: Final = 16
_NEAR: Final = range(-3, 4)
_LONGEST: Final = 1000  # characters


def suggest_shifts(checkpoint: Mapping[str, Shape], graph: Mapping[str, Shape]) -> list[Suggestion]:
    """Return a shift for each kind of layer whose numbers fit better with an offset.

    It must gain two variables of equal shape over what matches without it. Where several offsets
    fit equally well, all of them are in the suggestion.
    """
    stems = _stems(graph) | _stems(checkpoint)
    if not stems:
        return []
    ours, theirs = _families(graph, stems), _families(checkpoint, stems)
    suggestions = []
    for stem in sorted(ours.keys() & theirs.keys()):
        wanted, saved = ours[stem], theirs[stem]
        offsets = _offsets(wanted, saved)
        if not offsets:
            continue
        gains = {offset: _fits(wanted, saved, offset) for offset in offsets}
        gain = max(gains.values()) - _fits(wanted, saved, 0)
        if gain < _LEAST_GAIN:
            continue
        best = [offset for offset in sorted(gains) if gains[offset] == max(gains.values())]
        told = [(_description(stem, offset), _edit(stem, offset)) for offset in best]
        suggestions.append(Suggestion(*told[0], gain, tuple(told[1:])))
    return sorted(suggestions, key=lambda each: -each.gains)


def _stems(names: Iterable[str]) -> set[str]:
    """Return what stands before a number that TensorFlow may have appended, with its scope."""
    return {
        name[: match.start()]
        for name in names
        if len(name) <= _LONGEST and is_literal(name)
        for match in _NUMBER.finditer(name)
    }


def _families(names: Mapping[str, Shape], stems: set[str]) -> dict[str, Layers]:
    """Return the layers of each stem; the one without a number is number 0."""
    families: dict[str, Layers] = {}
    for name, shape in names.items():
        if len(name) > _LONGEST:
            continue
        for match in _PART_END.finditer(name):
            number = _NUMBER.search(name, name.rfind("/", 0, match.start()) + 1, match.start())
            stem = name[: number.start() if number else match.start()]
            if stem in stems:
                layers = families.setdefault(stem, {})
                digits = number.group()[1:] if number else "0"
                layers.setdefault(int(digits), {})[name[match.start() :]] = shape
    return families


def _offsets(wanted: Layers, saved: Layers) -> Iterable[int]:
    """Return the offsets that are worth a look: those of layers with few of equal shapes first."""
    if len(wanted) == len(saved) == 1 and wanted.keys() == saved.keys():
        return ()
    twins: dict[frozenset[tuple[str, Shape]], list[int]] = {}
    for number, layer in saved.items():
        twins.setdefault(frozenset(layer.items()), []).append(number)
    votes: Counter[int] = Counter()
    for number, layer in wanted.items():
        numbers = twins.get(frozenset(layer.items()), [])
        if len(numbers) <= _MOST_TWINS:
            votes.update(number - other for other in numbers)
    likely = [offset for offset, _ in votes.most_common(_MOST_OFFSETS)]
    ends = (min(wanted) - min(saved), max(wanted) - max(saved))
    return dict.fromkeys([*likely, *ends, *_NEAR])


def _fits(wanted: Layers, saved: Layers, offset: int) -> int:
    """Return how many variables an offset matches in name and shape."""
    return sum(
        saved[number - offset].get(rest) == shape
        for number, layer in wanted.items()
        if number - offset in saved
        for rest, shape in layer.items()
    )


def _description(stem: str, offset: int) -> str:
    return f"{stem}_N -> {stem.rpartition('/')[2]}_N{offset:+d}"


def _edit(stem: str, offset: int) -> Edit:
    pattern = f"^{re.escape(stem)}((?:_[0-9]+)?)(?=/|$)"
    literal = stem.replace("\\", r"\\")
    replacement = f"{literal}{{1{offset:+d}}}"
    return Edit(re.compile(pattern), replacement, option_of(pattern, replacement))
