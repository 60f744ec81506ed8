"""A figure that notebooks show; imported when something is drawn, as matplotlib is an extra."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure of matplotlib that shows itself where it is the last line of a notebook's cell.

    It is pyplot that tells notebooks how to show figures, and pyplot is not imported here: it keeps
    every figure that it makes, and chooses a window system for the whole process.
    """

    def _repr_png_(self) -> bytes:
        """The picture."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()
