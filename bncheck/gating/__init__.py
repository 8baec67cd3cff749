"""The gate before a deployment: many checkpoints, one policy."""
