"""Running a command, and ending as a well-behaved program does."""

import argparse
import os
import sys
from collections.abc import Sequence

from blockjac.cli.parser import parse_arguments
from blockjac.errors import BlockjacError, CommandError, FileFormatError, InvalidDataError

FAILED, MISUSED, INTERRUPTED, PIPE_CLOSED = 1, 2, 128 + 2, 128 + 13
"""Exit statuses; those of signals are the shell's, 128 and the signal's number."""

BAD_INPUT = (InvalidDataError, FileFormatError)
"""Errors of tables and models that cannot be used."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after the program's name; those of this process if left out.

    Returns:
        The exit status: 0, or 1 after an error or for a wrong derivative, 2 for words that cannot
        be used, 130 after Ctrl-C, 141 when the reader of the output has gone away.

    Examples:
        >>> main(["--version"])
        Traceback (most recent call last):
        SystemExit: 0
    """
    try:
        options = parse_arguments(arguments)
        status = _run(options)
        sys.stdout.flush()
        return status
    except CommandError as error:
        print(f"blockjac: {error}", file=sys.stderr)
        return MISUSED
    except BlockjacError as error:
        print(f"blockjac: {error}", file=sys.stderr)
        return MISUSED if isinstance(error, BAD_INPUT) else FAILED
    except KeyboardInterrupt as error:
        print(f"blockjac: {error or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # What is still in the buffer cannot be written: let the last flush go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        print(f"blockjac: cannot write the output: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(options: argparse.Namespace) -> int:
    """Do what a command asks for, and return the exit status."""
    if options.command == "explain":
        from blockjac.cli.explain import run_explain

        return run_explain(options)
    if options.command == "train":
        from blockjac.tabular.reading import check_is_there

        if not options.resume:  # it may be complete, and the table gone
            check_is_there(options.data)
        from blockjac.cli.tables.train import run_train

        run_train(options)
        return 0
    if options.command == "predict":
        from blockjac.cli.tables.predict import run_predict

        run_predict(options)
        return 0
    if options.command == "inspect":
        from blockjac.cli.tables.inspect import run_inspect

        run_inspect(options)
        return 0
    if options.command == "check":
        from blockjac.cli.check import run_check

        return run_check(options)
    from blockjac.cli.lecture import run_lecture

    run_lecture(options)
    return 0
