"""`python -m bncheck` is the command line."""

from bncheck.cli.main import run

run()
