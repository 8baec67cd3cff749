"""Report to text, JSON and more: pure functions."""
