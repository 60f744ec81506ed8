"""The command line. What it does is imported when it is asked for, so that `--help` is quick."""

from blockjac.cli.program import main

__all__ = ["main"]
