"""Layers that are one by their numbers, whatever they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bncheck.changes.values import NEAR, distance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bncheck.batchnorm.layers import Layer, Member
    from bncheck.batchnorm.names import Role

FAR: Final = 0.5
"""The distance above which two layers are not one; unrelated ones are at about 1."""
_CLOSE: Final = 0.1  # much nearer than NEAR, since no name speaks for it
_MOST: Final = 300  # layers on one side that are compared with each other


def telling(layer: Layer) -> dict[Role, Member]:
    """Return the variables that tell a layer from others: trained, not everywhere the same."""
    return {
        role: member
        for role, member in layer.members.items()
        if member.values is not None
        and member.summary is not None
        and member.summary.size > 1
        and not member.summary.nonfinite
        and not member.summary.is_uniform
        and not member.initial
    }


def apart(old: Layer, new: Layer | None) -> float:
    """Return the mean distance over the roles that tell one; 1, as of unrelated layers, if none."""
    if new is None:
        return 1.0
    mine, theirs = telling(old), telling(new)
    distances = [distance(mine[role], theirs[role]) for role in mine.keys() & theirs.keys()]
    told = [each for each in distances if each is not None]
    return sum(told) / len(told) if told and len(told) == len(distances) else 1.0


def is_near_layer(old: Layer, new: Layer) -> bool:
    """Whether the numbers say that two layers are one."""
    return apart(old, new) < NEAR


def is_contradicted(old: Layer, new: Layer, others: Sequence[Layer]) -> bool:
    """Whether a layer is far from the one that it is said to be, and close to another."""
    if len(others) > _MOST or apart(old, new) < FAR:
        return False
    return any(apart(old, each) < _CLOSE for each in others if each is not new)


def twins(left: Iterable[Layer], right: Iterable[Layer]) -> Iterator[tuple[Layer, Layer]]:
    """Yield pairs of layers that hold the same trained numbers, bit by bit, and no third does."""
    mine, theirs = _by_content(left), _by_content(right)
    for content, layers in mine.items():
        others = theirs.get(content, [])
        if len(layers) == len(others) == 1:
            yield layers[0], others[0]


def _by_content(layers: Iterable[Layer]) -> dict[frozenset[bytes], list[Layer]]:
    found: dict[frozenset[bytes], list[Layer]] = {}
    for layer in layers:
        # Without the roles: what one format calls gamma, another may not be able to name.
        content = frozenset(
            member.values.tobytes()
            for member in telling(layer).values()
            if member.values is not None
        )
        if content:
            found.setdefault(content, []).append(layer)
    return found


def neighbours(left: Sequence[Layer], right: Sequence[Layer]) -> Iterator[tuple[Layer, Layer]]:
    """Yield pairs of layers that are close, and each the other's nearest."""
    if len(left) > _MOST or len(right) > _MOST:
        return
    distances = [[apart(old, new) for new in right] for old in left]
    for row, old in enumerate(left):
        nearest = min(range(len(right)), key=distances[row].__getitem__)
        found = distances[row][nearest]
        if found < _CLOSE and found <= min(each[nearest] for each in distances):
            yield old, right[nearest]
