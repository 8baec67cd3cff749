"""Measures bncheck beside TensorFlow: `python -m benchmarks`, from the repository's root."""
