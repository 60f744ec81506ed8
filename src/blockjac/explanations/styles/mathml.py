"""Formulas as MathML, which browsers draw by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from blockjac.explanations.expressions import Expression, Letter
from blockjac.explanations.names import GREEK, Derivative, Name
from blockjac.explanations.styles.style import ATOM, POWER, PRODUCT, RELATIONS, Style

SIGNS = {"sum": "∑", "prod": "∏", "max": "max", "min": "min"}

THIN = '<mspace width="0.17em"/>'
"""A thin space."""

LOGIC = {"and": "∧", "or": "∨", "xor": "⊕"}


def row(*parts: str) -> str:
    """Parts as one."""
    return f"<mrow>{''.join(parts)}</mrow>"


def operator(sign: str) -> str:
    """A sign between parts."""
    return f"<mo>{escape(sign)}</mo>"


class MathML(Style):
    """MathML: `<msub><mi>W</mi><mn>1</mn></msub>`."""

    def name(self, name: Name) -> str:
        """A name with its subscripts; words stand upright, as browsers have it."""
        base = "ℓ" if name.base == "ell" else GREEK.get(name.base, name.base)
        own = f"<mi>{escape(base)}</mi>"
        if not name.below:
            return own
        return f"<msub>{own}{self._list([self._below(part) for part in name.below])}</msub>"

    def _below(self, part: str | Name) -> str:
        """A subscript."""
        if isinstance(part, Name):
            return self.name(part)
        return f"<mn>{part}</mn>" if part.isdigit() else self.name(Name(part))

    def _list(self, parts: Sequence[str]) -> str:
        """Parts with commas between them."""
        return parts[0] if len(parts) == 1 else row(operator(",").join(parts))

    def derivative(self, derivative: Derivative) -> str:
        """`D_x f`, with a thin space before a word."""
        base = derivative.of.base
        gap = THIN if len(base) > 1 and base not in GREEK and base != "ell" else ""
        own = f"<msub><mi>D</mi>{self.name(derivative.by)}</msub>{gap}{self.name(derivative.of)}"
        if derivative.result is not None:
            own += self.parentheses(self.name(derivative.result))
        return row(own)

    def space(self, shape: Sequence[int]) -> str:
        """T with the shape below; numbers are real."""
        if not shape:
            return "<mi>ℝ</mi>"
        sizes = operator(",").join(f"<mn>{size}</mn>" for size in shape)
        return f"<msub><mi>𝒯</mi>{self.parentheses(sizes)}</msub>"

    def identity(self) -> str:
        """`I`."""
        return "<mi>I</mi>"

    def entry(self, name: Name | Derivative, places: Sequence[str]) -> str:
        """An entry: the places below the name."""
        own = self.called(name)
        if not places:
            return own
        if not isinstance(name, Name) or name.below:
            own = row('<mo stretchy="false">(</mo>', own, '<mo stretchy="false">)</mo>')
        return f"<msub>{own}{row(operator(',').join(places))}</msub>"

    def letter(self, letter: Letter) -> str:
        """`i'`."""
        own = f"<mi>{letter.name}</mi>"
        return f"<msup>{own}<mo>{'′' * letter.primes}</mo></msup>" if letter.primes else own

    def digits(self, digits: str) -> str:
        """A number."""
        return f"<mn>{escape(digits.replace('inf', '∞'))}</mn>"

    def symbol(self, symbol: str) -> str:
        """A sign."""
        return operator("−" if symbol == "-" else symbol)

    def parentheses(self, body: str) -> str:
        """`(body)`."""
        return row(operator("("), body, operator(")"))

    def bracket(self, body: str) -> str:
        """`[body]`."""
        return row(operator("["), body, operator("]"))

    def product(self, factors: Sequence[str]) -> str:
        """Factors with a thin space between them."""
        return row(THIN.join(factors))

    def ratio(self, top: str, bottom: str) -> str:
        """A fraction."""
        return f"<mfrac>{row(top)}{row(bottom)}</mfrac>"

    def quotient(self, numerator: Expression, denominator: Expression) -> tuple[int, str]:
        """A fraction."""
        return PRODUCT, self.ratio(self.write(numerator), self.write(denominator))

    def power(self, base: str, exponent: Expression) -> str:
        """A power."""
        return f"<msup>{row(base)}{row(self.write(exponent))}</msup>"

    def applied(self, function: str, arguments: Sequence[Expression]) -> tuple[int, str]:
        """A function of expressions."""
        written = [self.write(part) for part in arguments]
        if function in RELATIONS:
            return ATOM, self.bracket(written[0] + operator(RELATIONS[function]) + written[1])
        if function == "where":
            mask, first, second = written
            cells = [f"<mtd>{first}</mtd><mtd><mtext>if&#160;</mtext>{mask}</mtd>"]
            cells.append(f"<mtd>{second}</mtd><mtd><mtext>otherwise</mtext></mtd>")
            table = "".join(f"<mtr>{cell}</mtr>" for cell in cells)
            return ATOM, row(operator("{"), f"<mtable>{table}</mtable>")
        if function == "not":
            return ATOM, row(operator("¬"), self.write(arguments[0], ATOM))
        if function in LOGIC:
            sign = operator(LOGIC[function])
            return ATOM, self.parentheses(sign.join(self.write(part, ATOM) for part in arguments))
        if function == "sqrt":
            return ATOM, f"<msqrt>{written[0]}</msqrt>"
        if function == "abs":
            return ATOM, row(operator("|"), written[0], operator("|"))
        own = f"<mi>{escape(function)}</mi>"
        return POWER, row(own, self.parentheses(operator(",").join(written)))

    def over(self, kind: str, letters: Sequence[str], body: str) -> str:
        """A sum over letters."""
        return row(
            f"<munder><mo>{SIGNS[kind]}</mo>{row(operator(',').join(letters))}</munder>", body
        )

    def delta(self, left: str, right: str) -> str:
        """Kronecker's delta."""
        return f"<msub><mi>δ</mi>{row(left, right)}</msub>"


MATHML = MathML()
