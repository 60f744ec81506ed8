"""Readers of words of the command line."""

import argparse
from collections.abc import Callable


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers in a range.

    Args:
        least: the smallest.
        most: the largest; None for none.
    """

    def read(text: str) -> int:
        """The number that an option gives, or argparse's error."""
        number = int(text) if text.isascii() and text.lstrip("-").isdigit() else None
        if number is None or number < least or (most is not None and number > most):
            above = "on" if most is None else f"to {most}"
            raise argparse.ArgumentTypeError(
                f"'{text}'; wanted a whole number from {least} {above}"
            )
        return number

    return read


def whole_numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers from 0 on, with commas between them.

    Args:
        text: that is read.
    """
    read = whole_number(0)
    return tuple(read(part.strip()) for part in text.split(","))


def _number(text: str) -> float:
    """The number that text is; -1, which no option takes, if it is none."""
    try:
        return float(text)
    except ValueError:
        return -1.0


def share(text: str) -> float:
    """Read a number from 0 up to, but not, 1.

    Args:
        text: that is read.
    """
    number = _number(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"'{text}'; wanted a number from 0 up to, but not, 1")
    return number


def level(text: str) -> float:
    """Read a level of intervals, between 0 and 1.

    Args:
        text: that is read.
    """
    number = share(text)
    if number == 0:
        raise argparse.ArgumentTypeError(f"'{text}'; wanted a number between 0 and 1")
    return number


def seconds(text: str) -> float:
    """Read a time of at least 0.

    Args:
        text: that is read.
    """
    number = _number(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}'; wanted seconds, a number of at least 0")
    return number


def hidden(text: str) -> str | tuple[int, ...]:
    """Read the nodes of hidden layers: "auto", "none", or whole numbers with commas between them.

    Args:
        text: that is read.
    """
    if text in ("auto", "none"):
        return "auto" if text == "auto" else ()
    read = whole_number(1)
    try:
        return tuple(read(part.strip()) for part in text.split(","))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f"'{text}'; wanted auto, none, or nodes of each hidden layer such as 16 or 32,16"
        ) from error
