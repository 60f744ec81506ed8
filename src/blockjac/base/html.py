"""Small pieces of HTML that notebooks and pages share."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row names the columns; numbers stand at the right."""
    head, *body = rows
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = ["".join(map(_cell, row)) for row in body]
    written = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{written}\n</tbody>\n</table></div>"
    )


def _cell(cell: str) -> str:
    """A cell of a table."""
    name = ' class="number"' if cell[:1].isdigit() else ""
    return f"<td{name}>{escape(cell)}</td>"


def card(title: str, facts: Sequence[tuple[str, str]], picture: str) -> str:
    """What a notebook shows of a matrix: a title, facts, and a picture beside them.

    Args:
        title: of the whole.
        facts: names and what they are, as text.
        picture: SVG, or a sentence that says why there is none.
    """
    rows = "".join(
        f"<tr><th style='text-align:left;font-weight:normal;opacity:.7'>{escape(name)}</th>"
        f"<td style='text-align:left;font-family:monospace'>{escape(fact)}</td></tr>"
        for name, fact in facts
    )
    return (
        "<div style='display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start'>"
        f"<div><strong>{escape(title)}</strong><table>{rows}</table></div>{picture}</div>"
    )
