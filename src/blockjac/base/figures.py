"""Figures of matplotlib, which is an extra and imported when something is drawn."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from blockjac.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LETTERS = 11.0
"""Letters of 11 points to an inch, most of them lower-case."""


def new_figure(width: float, height: float, method: str, instead: str) -> Figure:
    """An empty figure, which pyplot knows nothing of.

    Args:
        width: in inches.
        height: in inches.
        method: what draws, for the message: `"plot()"`.
        instead: what shows the same without matplotlib, for the message.

    Raises:
        MissingExtraError: without matplotlib.
    """
    try:
        from blockjac.base.notebook_figure import NotebookFigure
    except ImportError as error:
        raise MissingExtraError(
            f"{method} draws with matplotlib, which is not installed: pip install 'blockjac[app]'; "
            f"{instead} needs nothing"
        ) from error
    return NotebookFigure(figsize=(width, height), layout="constrained")


def title_lines(title: str, width: float) -> str:
    """A title in as many lines as it takes in a figure.

    Args:
        title: in letters of 11 points.
        width: of the figure, in inches.
    """
    return textwrap.fill(title, max(20, int(LETTERS * width)))
