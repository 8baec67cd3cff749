"""The gate inside of other programs: a test, or a training that audits what it saves."""
