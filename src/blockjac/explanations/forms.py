"""The forms that an explanation is written in: text, LaTeX, Markdown, pages and pictures."""

from __future__ import annotations

import abc
from functools import cached_property
from typing import TYPE_CHECKING, Any

from blockjac.errors import InvalidOptionError
from blockjac.explanations.document import MOST_SHOWN, Document
from blockjac.explanations.html import sections
from blockjac.explanations.page.page import PageParts, dot_of, page_of, svg_of
from blockjac.explanations.pictures import draw_graph
from blockjac.explanations.written import (
    article,
    latex,
    markdown,
    terminal_width,
    text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Forms(abc.ABC):
    """What writes a document and draws a graph; subclasses say what these hold."""

    @abc.abstractmethod
    def document(self, most: int | None = MOST_SHOWN) -> Document:
        """The sections of the whole explanation."""

    @abc.abstractmethod
    def _page_parts(self) -> PageParts:
        """The parts that a page is made of, each when it is asked for."""

    @cached_property
    def page_parts(self) -> PageParts:
        """What the page, and the pictures of the graph, are made of."""
        return self._page_parts()

    def text(self, width: int | None = None, most: int | None = MOST_SHOWN) -> str:
        """The explanation for a terminal.

        Args:
            width: of a line, in characters; by default the terminal's.
            most: as in `document`.

        Raises:
            InvalidOptionError: unless the width is a positive whole number.
        """
        if width is not None and (type(width) is not int or width < 1):
            raise InvalidOptionError(
                f"width={width!r}; wanted the characters of a line, 1 or more, or None for the "
                "terminal's"
            )
        return text(self.document(most), width or terminal_width())

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def markdown(self, most: int | None = MOST_SHOWN) -> str:
        """The explanation as Markdown, with formulas in LaTeX between dollars."""
        return markdown(self.document(most))

    def latex(self, most: int | None = MOST_SHOWN, whole: bool = False) -> str:
        r"""The explanation as LaTeX, for an article with `amsmath` and `amssymb`.

        Args:
            most: as in `document`.
            whole: whether to give a whole file rather than the body of one.
        """
        body = latex(self.document(most))
        return article(body) if whole else body

    def html(self, most: int | None = MOST_SHOWN) -> str:
        """The explanation as one interactive page, a self-contained HTML file with MathML.

        The graph to click, the real blocks at `arguments`, and elimination played in any order.

        Args:
            most: as in `document`; of more steps, formulas are left out.
        """
        return page_of(self.page_parts, most)

    def dot(self) -> str:
        """The graph of the steps as text for Graphviz."""
        return dot_of(self.page_parts)

    def svg(self) -> str:
        """The graph of the steps as a picture, light or dark as its surroundings are."""
        return svg_of(self.page_parts)

    def plot(self) -> Figure:
        """Draw the graph of the steps with matplotlib.

        Returns:
            A figure; `explanation.plot().savefig("graph.png")` keeps it.

        Raises:
            MissingExtraError: without matplotlib (`pip install 'blockjac[app]'`).
        """
        return draw_graph(self.page_parts.drawing, self.page_parts.title)

    def _repr_html_(self) -> str:
        return sections(self.document())

    def _repr_latex_(self) -> str:
        return self.latex()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {
            "text/plain": str(self),
            "text/html": self._repr_html_(),
            "text/markdown": self.markdown(),
        }
