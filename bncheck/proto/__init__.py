"""The few TensorFlow messages that bncheck reads, under its own package name."""
