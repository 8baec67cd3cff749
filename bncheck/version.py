"""The version, in a room of its own: reports name it, and the build reads it."""

__version__ = "0.1.0"
