"""Coverage-guided fuzzing: one target a reader, bytes in, only bncheck's own errors out."""
