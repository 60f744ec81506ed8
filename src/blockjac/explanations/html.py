"""Documents and formulas as HTML with MathML, self-contained."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from blockjac.base.html import table
from blockjac.explanations.document import Document, Line, Table
from blockjac.explanations.layout import Equation, pieces
from blockjac.explanations.styles.mathml import MATHML

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.equation { margin: .1rem 0; padding: .25rem 0; overflow: auto hidden; }
.equation math { font-size: 1.05rem; }
.remark { color: var(--soft); font-size: .85rem; margin-left: 1rem; }
.depth1 { margin-left: 2rem; }
table { border-collapse: collapse; font-size: .9rem; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .15rem .7rem; border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
@media print { body { max-width: none; } }
"""


def page(document: Document, extra: str = "") -> str:
    """A whole file: no script, font or picture from elsewhere.

    Args:
        document: what to write.
        extra: HTML put before the sections.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(document.title)}</h1>\n{extra}{sections(document)}</main>\n</body>\n</html>\n"
    )


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
