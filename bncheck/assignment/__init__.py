"""The assignment map: which checkpoint variable goes into which graph variable, and what loads it.

The logic is the widespread get_assignment_map_from_checkpoint: graph names without their output
number, intersected with the checkpoint's names, in the checkpoint's order. Fed with the trainable
variables alone, as it often is, it drops every moving_mean and moving_variance without a word.
"""

from __future__ import annotations

from bncheck.assignment.matching import AssignmentMap, assignment_map, counterparts
from bncheck.assignment.misses import Assignment, Rename, assign, suggest_renames

__all__ = [
    "Assignment",
    "AssignmentMap",
    "Rename",
    "assign",
    "assignment_map",
    "counterparts",
    "suggest_renames",
]
