"""The policy of a gate: what counts, for which checkpoints, and which exceptions there are."""
