"""Documents as text, Markdown and LaTeX."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from blockjac.explanations.document import Document, Line, Table
from blockjac.explanations.layout import Equation, lines, pieces
from blockjac.explanations.styles.latex import LATEX, escaped
from blockjac.explanations.styles.text import TEXT
from blockjac.planning.tables import aligned

LATEX_WIDTH = 84
"""How many characters of text a line of LaTeX holds, about."""


def terminal_width() -> int:
    """The width of the terminal, in characters."""
    return shutil.get_terminal_size((100, 24)).columns


def text(document: Document, width: int) -> str:
    """A document for a terminal.

    Args:
        document: what to write.
        width: of a line, in characters.
    """
    written = [document.title, "=" * min(len(document.title), width)]
    for section in document.sections:
        written += ["", section.title, "-" * min(len(section.title), width)]
        for item in section.items:
            if isinstance(item, Table):
                written += ["  " + line for line in aligned(item.rows)]
            else:
                written += _text_line(item, width)
    return "\n".join(written)


def _text_line(line: Line, width: int) -> list[str]:
    """An equation and its remark, which stands below where the line has no room for it."""
    indent = "  " * (line.depth + 1)
    if line.equation is None:
        return _sentence(line.remark, width, indent)
    written = equation_text(line.equation, width - len(indent))
    rows = [indent + row for row in written]
    if not line.remark:
        return rows
    if len(rows) == 1 and len(rows[0]) + 4 + len(line.remark) <= width:
        return [f"{rows[0]}    {line.remark}"]
    return [*rows, *_sentence(line.remark, width, indent + "    ")]


def _sentence(words: str, width: int, indent: str) -> list[str]:
    """A sentence in lines, each indented; a word that is longer than a line stays whole."""
    return textwrap.wrap(
        words,
        max(width, len(indent) + 20),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def equation_text(equation: Equation, width: int) -> list[str]:
    """An equation in lines of text."""
    parts = pieces(equation, TEXT)
    rows = lines(parts, list(map(len, parts)), width)
    return [("" if number == 0 else "    ") + " ".join(row) for number, row in enumerate(rows)]


def markdown(document: Document) -> str:
    """A document as Markdown, with formulas between dollars."""
    written = [f"# {document.title}"]
    for section in document.sections:
        written += ["", f"## {section.title}", ""]
        for item in section.items:
            if isinstance(item, Table):
                written += ["", *_markdown_table(item.rows), ""]
            elif item.equation is None:
                written += [item.remark, ""]
            else:
                written += ["$$", equation_latex(item.equation), "$$", ""]
                written += [item.remark, ""] if item.remark else []
    return "\n".join(written).rstrip() + "\n"


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table."""
    head, *body = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    rule = " | ".join("---" for _ in rows[0])
    return [f"| {line} |" for line in (head, rule, *body)]


def equation_latex(equation: Equation) -> str:
    """An equation in LaTeX, in several lines if it is long; for displayed mathematics."""
    parts = pieces(equation, LATEX)
    lengths = list(map(len, pieces(equation, TEXT)))
    rows = [" ".join(row) for row in lines(parts, lengths, LATEX_WIDTH)]
    if len(rows) == 1:
        return rows[0]
    body = " \\\\\n&\\quad ".join(rows)
    return f"\\begin{{aligned}}\n&{body}\n\\end{{aligned}}"


def latex_equations(equations: Sequence[Equation]) -> str:
    """Equations, one below the other."""
    return "\n".join(f"\\[\n{equation_latex(equation)}\n\\]" for equation in equations)


def latex(document: Document) -> str:
    r"""A document as the body of an article; it needs `\usepackage{amsmath,amssymb}`."""
    written = [f"\\section*{{{escaped(document.title)}}}"]
    for section in document.sections:
        written.append(f"\\subsection*{{{escaped(section.title)}}}")
        for item in section.items:
            if isinstance(item, Table):
                written.append(_latex_table(item.rows))
            elif item.equation is None:
                written.append(escaped(item.remark) + "\n")
            else:
                written.append(latex_equations([item.equation]))
                written += [escaped(item.remark) + "\n"] if item.remark else []
    return "\n".join(written) + "\n"


def _latex_table(rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    columns = "l" * len(rows[0])
    body = " \\\\\n".join(" & ".join(map(escaped, row)) for row in rows)
    return f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n"


def article(body: str) -> str:
    """A whole file around the body of an article."""
    return (
        "\\documentclass{article}\n\\usepackage{amsmath,amssymb}\n"
        f"\\begin{{document}}\n{body}\\end{{document}}\n"
    )
