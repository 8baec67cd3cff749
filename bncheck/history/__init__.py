"""All checkpoints of a run, oldest first: how the statistics moved, where they went wrong."""
