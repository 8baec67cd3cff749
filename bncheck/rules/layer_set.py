"""BN604 and BN605: are the layers of two checkpoints the same, and under the same names?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.batchnorm.names import STATISTICS
from bncheck.changes.model import Change, PairedBy
from bncheck.changes.shifts import stem_of, without_numbers
from bncheck.rules.rule import Draft, Evidence, Level, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bncheck.changes.model import Comparison, LayerChange


@rule("BN604", "layer-set-changed", Level.WARNING)
def layer_set_changed(evidence: Evidence) -> Iterator[Draft]:
    """Layers were added, removed, renamed or reshaped.

    What: A layer of one checkpoint has no counterpart in the other, or has it under another name,
    or its variables have other shapes.

    Why: A loader that goes by names skips what it does not find, mostly without a word, and the
    layer keeps its initial statistics.

    Right: A model that was changed on purpose looks like this. The same model in another format is
    silent: what a format calls a layer is no rename.

    Fix: `bncheck map` shows what a loader makes of the change, and which rename mends it.
    """
    comparison = evidence.comparison
    if comparison is None:
        return
    pairs = comparison.pairs
    added = [each.name for each in pairs.only_after]
    removed = [each.name for each in pairs.only_before]
    renamed = [
        (each.pair.before.name, each.pair.after.name)
        for each in comparison.layers
        if not pairs.nameless and _is_renamed(each, comparison)
    ]
    reshaped = [
        change.pair.after.name
        for change in comparison.layers
        if any(each.change is Change.RESHAPED for each in change.roles.values())
    ]
    if not (added or removed or renamed or reshaped):
        return
    parts = [
        f"{len(names)} {what} ({_some(names)})"
        for what, names in (
            ("added", added),
            ("removed", removed),
            ("renamed", [f"{old} -> {new}" for old, new in renamed]),
            ("of another shape", reshaped),
        )
        if names
    ]
    by_name = {layer.name: layer for layer in pairs.only_after}
    yield Draft(
        layer="",
        variables=tuple(m.name for n in added for m in by_name[n].members.values()),
        message=f"layers: {'; '.join(parts)}",
        evidence={
            "added": added,
            "removed": removed,
            "renamed": [{"from": old, "to": new} for old, new in renamed],
            "reshaped": reshaped,
            "renames": [each.description for each in pairs.renames],
        },
    )


def _is_renamed(change: LayerChange, comparison: Comparison) -> bool:
    """Whether a layer has another name.

    Where its path identifies it, another number alone is no rename: a program that builds its model
    twice numbers on. What is the same in another format is only called so there.
    """
    pair = change.pair
    if pair.before.name == pair.after.name or pair.by is PairedBy.INDEX:
        return False
    if comparison.before.checkpoint.format != comparison.after.checkpoint.format:
        return pair.by is not PairedBy.NAME and not change.is_unchanged
    numbered_on = without_numbers(pair.before.name) == without_numbers(pair.after.name)
    return pair.by is not PairedBy.NAME or not numbered_on


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f", and {len(names) - 3} more" if len(names) > 3 else "")


@rule("BN605", "statistics-shifted", Level.WARNING)
def statistics_shifted(evidence: Evidence) -> Iterator[Draft]:
    """The second checkpoint has the first's layers under other numbers.

    What: `batch_normalization_1` of the second holds what `batch_normalization` of the first held,
    and so on: the channels agree under the other number, and not under the own one. Where shapes
    alone rule the own numbers out, they tell it, too.

    Why: TensorFlow numbers layers in the order in which a program makes them. A layer more in
    front shifts all that follow, so that the first checkpoint's names mean other layers in the
    second's program. Whoever loads by name gets every statistic into a wrong layer, and where the
    widths are equal nothing says so.

    Right: Two independent runs agree under no number at all. A layer that was renamed by a person
    is BN604.

    Fix: Give layers names of their own, or load with the shift that `bncheck map` proposes.
    """
    comparison = evidence.comparison
    if comparison is None or not comparison.pairs.shifts:
        return
    pairs = comparison.pairs
    owner = {pair.after.name: pair for pair in pairs.layers}
    for shift in pairs.shifts:
        moved = [owner[new].after for _, new in shift.layers if new in owner]
        first, second = shift.layers[0]
        yield Draft(
            layer="",
            variables=tuple(name for layer in moved for name in layer.names(*STATISTICS)),
            message=f"{_many(len(shift.layers))} under another number ({shift.offset:+d}): "
            + (
                f"{second} holds what {first} held before"
                if shift.proof == "values"
                else f"{second} has the shapes that {first} had, and {first} has others now"
            ),
            evidence={
                "offset": shift.offset,
                "layers": [{"before": old, "after": new} for old, new in shift.layers],
                "proof": shift.proof,
            },
            # What was inserted in front of the shifted layers is why they are.
            explains=("BN604",) if _is_insertion(comparison) else (),
        )


def _many(count: int) -> str:
    return f"{count} layers are" if count > 1 else "1 layer is"


def _is_insertion(comparison: Comparison) -> bool:
    """Whether the layers that one side has more of are of the families that are shifted."""
    pairs = comparison.pairs
    if any(_is_renamed(each, comparison) for each in comparison.layers):
        return False
    if any(c.change is Change.RESHAPED for each in comparison.layers for c in each.roles.values()):
        return False
    more = [each.name for each in (*pairs.only_before, *pairs.only_after)]
    shifted = {stem_of(name) for shift in pairs.shifts for name in shift.layers[0]}
    return all(stem_of(name) in shifted for name in more)
