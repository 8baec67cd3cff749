"""The whole comparison of two checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bncheck.changes.model import Comparison, LayerPair, PairedBy, Pairs
from bncheck.changes.movement import measure_layers
from bncheck.changes.pairs import pair_layers
from bncheck.changes.weights import compare_others, compare_stored

if TYPE_CHECKING:
    from bncheck.snapshot import Snapshot


def compare(
    before: Snapshot, after: Snapshot, tolerance: float = 0.0, *, same_run: bool = False
) -> Comparison:
    """Compare two checkpoints, layer by layer, and all other variables by whether they differ.

    `tolerance` is the largest difference that counts as none, relative to the largest magnitude of
    each variable. Of two checkpoints of the `same_run` equal names are one layer, whatever the
    values say.
    """
    same = same_run and before.naming.names == after.naming.names
    pairs = _same(before, after) if same else pair_layers(before, after)
    others = compare_stored(before, after) if same else None
    return Comparison(
        before=before,
        after=after,
        pairs=pairs,
        layers=tuple(measure_layers(pairs.layers, tolerance, brief=same)),
        others=others or compare_others(before, after, pairs.variables, tolerance),
    )


def _same(before: Snapshot, after: Snapshot) -> Pairs:
    """Pair the layers of two checkpoints of equal variables."""
    layers = {each.name: each for each in after.layers}
    pairs = (LayerPair(e, layers[e.name], PairedBy.NAME) for e in before.layers if e.name in layers)
    return Pairs(tuple(pairs), variables={key: key for key in before.checkpoint.variables})
