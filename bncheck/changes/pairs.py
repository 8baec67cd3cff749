"""Which layer of the one checkpoint is which of the other.

By name; by another number of the same name, where values or shapes tell that; by a rename; and what
is then left by shape, in the order of the names.
"""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Final

from bncheck import limits
from bncheck.assignment import counterparts
from bncheck.assignment.edits import apply_all, is_literal
from bncheck.assignment.matching import unique
from bncheck.assignment.renames import suggest
from bncheck.changes.likeness import is_contradicted, is_near_layer, neighbours, twins
from bncheck.changes.model import LayerPair, PairedBy, Pairs, Shift
from bncheck.changes.shifts import find_shifts
from bncheck.changes.values import is_same
from bncheck.checkpoint.object_graph import OBJECT_GRAPH, object_path
from bncheck.graph import graph_of_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bncheck.assignment.edits import Suggestion
    from bncheck.batchnorm.layers import Layer
    from bncheck.batchnorm.names import Role
    from bncheck.snapshot import Snapshot

    Shape = tuple[int, ...]
    Signature = tuple[int | None, frozenset[Role]]

_MOST_ALIGNED: Final = 400  # layers left on one side; aligning them is quadratic
_DIGITS: Final = re.compile(r"(\d+)")


def pair_layers(before: Snapshot, after: Snapshot) -> Pairs:
    """Pair the layers and the variables of two checkpoints of any formats."""
    nameless = any(each.checkpoint.structure.nameless for each in (before, after))
    matching = _Matching(before, after, _by_key(before, after, nameless=nameless))
    # A place in a file of numbers is a guess, that the values have to bear out.
    matching.by_variables(PairedBy.SHAPE if nameless else PairedBy.NAME)
    if not nameless or before.checkpoint.format == after.checkpoint.format:
        matching.by_index()
    matching.by_values(exactly=True)
    if not nameless:
        matching.by_rename()
        matching.by_scope()
    matching.by_values(exactly=False)
    matching.by_shape()
    return matching.result(nameless=nameless)


def _by_key(before: Snapshot, after: Snapshot, *, nameless: bool) -> dict[str, str]:
    """Return the second checkpoint's key of each of the first's that it has one for."""
    old, new = before.checkpoint, after.checkpoint
    if old is new or nameless:
        return {key: key for key in old.variables if key in new.variables}
    found = counterparts(graph_of_checkpoint(new), old)
    mine, theirs = before.naming.names, after.naming.names
    # Keras 3 keeps weights in its optimizer's list: a place in it means another variable as soon
    # as other layers are trained.
    places = [
        key
        for key, other in found.items()
        if key == other and _is_place(key) and mine.get(key) != theirs.get(other)
    ]
    for key in places:
        del found[key]
    taken = set(found.values())
    by_name = unique({key: name for key, name in theirs.items() if key not in taken})
    for name, key in unique({k: n for k, n in mine.items() if k not in found}).items():
        if name in by_name:
            found[key] = by_name[name]
    return found


def _is_place(key: str) -> bool:
    """Whether an object's path ends in a number: a place in a list, which names nothing."""
    path = object_path(key)
    return path != key and path.rpartition("/")[2].isdigit()


class _Matching:
    """The pairs that were found so far."""

    def __init__(self, before: Snapshot, after: Snapshot, found: dict[str, str]) -> None:
        self._before = before
        self._after = after
        self._found = found
        self._owners = {m.name: each for each in after.layers for m in each.members.values()}
        self._layers_before = {each.name: each for each in before.layers}
        self._layers_after = {each.name: each for each in after.layers}
        self._pairs: dict[str, LayerPair] = {}
        self._taken: set[str] = set()
        self._renames: list[Suggestion] = []
        self._shifts: list[Shift] = []

    def result(self, *, nameless: bool) -> Pairs:
        return Pairs(
            layers=tuple(
                self._pairs[each.name] for each in self._before.layers if each.name in self._pairs
            ),
            only_before=tuple(self._left()),
            only_after=tuple(self._right()),
            variables=self._found,
            renames=tuple(self._renames),
            shifts=() if self._numbers_on() else tuple(self._shifts),
            nameless=nameless,
        )

    def by_variables(self, by: PairedBy) -> None:
        """Pair the layers most of whose variables are each other's counterparts."""
        for layer in self._left():
            keys = (self._found.get(member.name) for member in layer.members.values())
            owners = (self._owners[key].name for key in keys if key in self._owners)
            votes = Counter(name for name in owners if name not in self._taken)
            if not votes:
                continue
            found = self._layers_after[votes.most_common(1)[0][0]]
            if by is PairedBy.RENAME and is_contradicted(layer, found, self._right()):
                continue
            self._pair(layer, found, by)

    def by_index(self) -> None:
        """Pair anew what the values show under another number."""
        if all(_is_in_place(pair) for pair in self._pairs.values()) and not self._left():
            return
        self._shift(find_shifts(self._before.layers, self._after.layers))

    def by_values(self, *, exactly: bool) -> None:
        """Pair what is left by numbers that are the same, or that are nearest to each other."""
        left, right = self._left(), self._right()
        if not left or not right:
            return
        found = twins(left, right) if exactly else neighbours(left, right)
        for before, after in found:
            self._pair(before, after, PairedBy.VALUES)

    def by_rename(self) -> None:
        """Pair what a change of names brings together, as `bncheck map` proposes it."""
        ours, theirs = self._names(self._after), self._names(self._before)
        names = {
            key: ours.get(self._found[key], self._found[key]) if key in self._found else name
            for key, name in theirs.items()
        }
        old = {name: self._before.checkpoint.variables[key].shape for key, name in names.items()}
        new = {name: self._after.checkpoint.variables[key].shape for key, name in ours.items()}
        if all(new.get(name) == shape for name, shape in old.items()):
            return
        told = [each for each in suggest(old, new) if not each.alternatives]
        self._shift(self._shifts_by_shape([each for each in told if not is_literal(_text(each))]))
        self._renames = [each for each in told if is_literal(_text(each))]
        if not self._renames:
            return
        edits = [each.edit for each in self._renames]
        by_name = {name: key for key, name in ours.items() if key not in self._found.values()}
        for key, name in theirs.items():
            target = by_name.get(apply_all(edits, name)) if key not in self._found else None
            if target is not None:
                self._found[key] = target
        self.by_variables(PairedBy.RENAME)

    def by_scope(self) -> None:
        """Match the variables that are the only ones of their shape in one scope of both sides.

        Keras 3 numbers what older formats name: `dense/0` is `dense/kernel`.
        """
        taken = set(self._found.values())
        sides = []
        for snapshot, known in ((self._before, self._found), (self._after, taken)):
            variables = snapshot.checkpoint.variables
            sides.append(
                unique(
                    {
                        key: f"{name.rpartition('/')[0]} {variables[key].shape}"
                        for key, name in self._names(snapshot).items()
                        if key not in known
                    }
                )
            )
        mine, theirs = sides
        self._found |= {key: theirs[form] for form, key in mine.items() if form in theirs}

    def by_shape(self) -> None:
        """Pair what is left in the order of the names, where shapes and roles agree."""
        left, right = _in_order(self._left()), _in_order(self._right())
        mine, theirs = [_signature(each) for each in left], [_signature(each) for each in right]
        if mine == theirs:
            runs = [(0, 0, len(left))]
        elif len(left) <= _MOST_ALIGNED and len(right) <= _MOST_ALIGNED:
            runs = list(SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks())
        else:
            return
        for start, other, length in runs:
            for number in range(length):
                self._pair(left[start + number], right[other + number], PairedBy.SHAPE)

    def _shifts_by_shape(self, suggestions: Iterable[Suggestion]) -> list[Shift]:
        shifts = []
        right = self._layers_after
        for each in suggestions:
            moved = {}
            for layer in self._before.layers:
                name = each.edit.apply(f"{layer.name}/")[:-1]
                if name == layer.name or name not in right or self._is_settled(layer, name):
                    continue
                if right[name].channels == layer.channels:
                    moved[layer.name] = name
            if moved:
                stem = each.description.partition("_N -> ")[0]
                offset = int(each.description.rpartition("_N")[2])
                shifts.append(Shift(stem, offset, tuple(moved.items()), "shapes"))
        return shifts

    def _is_settled(self, layer: Layer, name: str) -> bool:
        """Whether values have told already what a layer, or the one that it would become, is."""
        if any(layer.name == old for shift in self._shifts for old, _ in shift.layers):
            return True
        return any(
            pair.by in (PairedBy.INDEX, PairedBy.VALUES) or is_near_layer(pair.before, pair.after)
            for pair in self._pairs.values()
            if layer.name == pair.before.name or name == pair.after.name
        )

    def _shift(self, shifts: list[Shift]) -> None:
        """Take the layers of shifts out of their pairs, and pair them as the shifts say."""
        for shift in shifts:
            same = [e for e in self._shifts if (e.stem, e.offset) == (shift.stem, shift.offset)]
            if same:
                self._shifts[self._shifts.index(same[0])] = same[0]._replace(
                    layers=(*same[0].layers, *shift.layers)
                )
            else:
                self._shifts.append(shift)
        moves = dict(move for shift in shifts for move in shift.layers)
        claimed = set(moves.values())
        for name, pair in list(self._pairs.items()):
            if name in moves or pair.after.name in claimed:
                del self._pairs[name]
                self._taken.discard(pair.after.name)
        for old, new in moves.items():
            self._pair(self._layers_before[old], self._layers_after[new], PairedBy.INDEX)

    def _numbers_on(self) -> bool:
        """Whether a program has only built its model a second time, and numbers on.

        Then all layers have one offset, and none is more or less. Of files whose objects are told
        by their paths, that harms nobody.
        """
        by_path = all(
            each.checkpoint.structure.tells_layers for each in (self._before, self._after)
        )
        shifted = sum(len(shift.layers) for shift in self._shifts)
        everything = len(self._before.layers) == len(self._after.layers) == shifted
        return by_path and everything and len({shift.offset for shift in self._shifts}) == 1

    def _pair(self, before: Layer, after: Layer, by: PairedBy) -> None:
        self._pairs[before.name] = LayerPair(before, after, by)
        self._taken.add(after.name)

    def _left(self) -> list[Layer]:
        return [each for each in self._before.layers if each.name not in self._pairs]

    def _right(self) -> list[Layer]:
        return [each for each in self._after.layers if each.name not in self._taken]

    def _names(self, snapshot: Snapshot) -> dict[str, str]:
        return {key: name for key, name in snapshot.naming.names.items() if key != OBJECT_GRAPH}


def _text(suggestion: Suggestion) -> str:
    return suggestion.edit.replacement


def _is_in_place(pair: LayerPair) -> bool:
    """Whether any variable of a layer is bit by bit what it was, so that it is no other layer."""
    return any(
        not member.initial and is_same(member, other)
        for role, member in pair.before.members.items()
        if (other := pair.after.members.get(role)) is not None
    )


def _signature(layer: Layer) -> Signature:
    return layer.channels, frozenset(layer.members)


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= limits.LONGEST_NUMBER


def _in_order(layers: Sequence[Layer]) -> list[Layer]:
    """Sort by names, in which 10 comes after 9."""

    def key(layer: Layer) -> list[tuple[int, str]]:
        parts = _DIGITS.split(layer.name)
        return [(int(p), "") if _is_number(p) else (-1, p) for p in parts]

    return sorted(layers, key=key)
