"""Equations as users see them: printed, as LaTeX, in a notebook."""

from __future__ import annotations

from dataclasses import dataclass

from blockjac.explanations.html import equations as html_equations
from blockjac.explanations.layout import Equation
from blockjac.explanations.written import equation_text, latex_equations, terminal_width


@dataclass(frozen=True)
class Equations:
    """Equations to print: as text, as LaTeX, in a notebook.

    Attributes:
        equations: one below the other.
    """

    equations: tuple[Equation, ...]

    def __str__(self) -> str:
        rows = (equation_text(equation, terminal_width()) for equation in self.equations)
        return "\n".join(line for lines in rows for line in lines)

    def __repr__(self) -> str:
        return str(self)

    def __len__(self) -> int:
        return len(self.equations)

    def latex(self) -> str:
        """The equations as displayed mathematics, one for each."""
        return latex_equations(self.equations)

    def _repr_latex_(self) -> str:
        return self.latex()

    def _repr_html_(self) -> str:
        return html_equations(self.equations)
