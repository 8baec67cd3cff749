"""All targets, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fuzz.targets import (
    baseline,
    bundle,
    graph_file,
    graph_text,
    hdf5,
    keras_archive,
    keras_tree,
    meta_graph,
    object_graph,
    policy,
    saved_model,
    state_file,
    table,
    tensor_slices,
    two_checkpoints,
    weights_map,
)

if TYPE_CHECKING:
    from fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    module.TARGET.name: module.TARGET
    for module in (
        table,
        bundle,
        tensor_slices,
        object_graph,
        hdf5,
        keras_tree,
        keras_archive,
        weights_map,
        meta_graph,
        graph_file,
        graph_text,
        saved_model,
        state_file,
        policy,
        baseline,
        two_checkpoints,
    )
}
