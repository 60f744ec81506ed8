"""Documents and formulas as HTML with MathML, self-contained."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from blockjac.base.html import table
from blockjac.explanations.document import Document, Line, Table
from blockjac.explanations.layout import Equation, pieces
from blockjac.explanations.styles.mathml import MATHML


def sections(document: Document) -> str:
    """The sections of a document."""
    written: list[str] = []
    for section in document.sections:
        items = "\n".join(map(_item, section.items))
        written.append(f"<section>\n<h2>{escape(section.title)}</h2>\n{items}\n</section>\n")
    return "".join(written)


def _item(item: Line | Table) -> str:
    """A line or a table."""
    if isinstance(item, Table):
        return table(item.rows)
    remark = f'<span class="remark">{escape(item.remark)}</span>' if item.remark else ""
    if item.equation is None:
        return f"<p>{escape(item.remark)}</p>"
    depth = f" depth{item.depth}" if item.depth else ""
    return f'<div class="equation{depth}">{math(item.equation)}{remark}</div>'


def math(equation: Equation) -> str:
    """An equation in MathML."""
    return f"<math>{''.join(pieces(equation, MATHML))}</math>"


def equations(own: Sequence[Equation]) -> str:
    """Equations as a fragment, for notebooks."""
    return "\n".join(f'<div class="equation">{math(equation)}</div>' for equation in own)
