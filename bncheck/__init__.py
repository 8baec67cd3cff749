"""Inspect and audit batch normalization in TensorFlow checkpoints."""

__version__ = "0.1.0"
