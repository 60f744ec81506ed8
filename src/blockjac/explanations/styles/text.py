"""Formulas as text of Unicode letters, for terminals."""

from __future__ import annotations

from collections.abc import Sequence

from blockjac.explanations import expressions as ex
from blockjac.explanations.expressions import Expression, Letter
from blockjac.explanations.names import GREEK, Derivative, Name
from blockjac.explanations.styles.style import ATOM, POWER, PRODUCT, RELATIONS, SUM, Style

LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")

SIGNS = {"sum": "Σ", "prod": "Π", "max": "max", "min": "min"}

LOGIC = {"and": "∧", "or": "∨", "xor": "⊕"}


class Text(Style):
    """Plain text: `W₁[i,j]`, `δ[i,i']`, `Σ_i`."""

    def name(self, name: Name) -> str:
        """`W₁`, `φ₂`, `q_Z₁`."""
        base = "ℓ" if name.base == "ell" else GREEK.get(name.base, name.base)
        if not name.below:
            return base
        parts = [part if isinstance(part, str) else self.name(part) for part in name.below]
        if all(part.isdigit() for part in parts):
            return base + ",".join(part.translate(LOWERED) for part in parts)
        return f"{base}_{','.join(parts)}"

    def derivative(self, derivative: Derivative) -> str:
        """`D_W₁ φ₁`; of several results, the one in parentheses."""
        result = "" if derivative.result is None else f"({self.name(derivative.result)})"
        return f"D_{self.name(derivative.by)} {self.name(derivative.of)}{result}"

    def space(self, shape: Sequence[int]) -> str:
        """`T_(30,20)`; numbers are real."""
        return f"T_({','.join(map(str, shape))})" if shape else "ℝ"

    def identity(self) -> str:
        """`I`."""
        return "I"

    def entry(self, name: Name | Derivative, places: Sequence[str]) -> str:
        """`X[i,j]`, `(D_x f)[i,j]`."""
        if not places:
            return self.called(name)
        own = self.name(name) if isinstance(name, Name) else f"({self.derivative(name)})"
        return f"{own}[{','.join(places)}]"

    def letter(self, letter: Letter) -> str:
        """`i'`."""
        return letter.name + "'" * letter.primes

    def digits(self, digits: str) -> str:
        """A number as it is."""
        return digits.replace("inf", "∞")

    def symbol(self, symbol: str) -> str:
        """A sign as it is, but for the minus."""
        return {"-": "-"}.get(symbol, symbol)

    def parentheses(self, body: str) -> str:
        """`(body)`."""
        return f"({body})"

    def bracket(self, body: str) -> str:
        """`[i = 2j+1]`."""
        return f"[{body}]"

    def product(self, factors: Sequence[str]) -> str:
        """Factors with spaces between them."""
        return " ".join(factors)

    def ratio(self, top: str, bottom: str) -> str:
        """`1/4`."""
        return f"{top}/{bottom}"

    def quotient(self, numerator: Expression, denominator: Expression) -> tuple[int, str]:
        """`a / b`."""
        return PRODUCT, f"{self.write(numerator, PRODUCT)} / {self.write(denominator, POWER)}"

    def power(self, base: str, exponent: Expression) -> str:
        """`x²`, else `x^n`."""
        if isinstance(exponent, ex.Number) and exponent.value in (2, 3):
            return base + {2: "²", 3: "³"}[int(exponent.value.real)]
        return f"{base}^{self.write(exponent, ATOM)}"

    def applied(self, function: str, arguments: Sequence[Expression]) -> tuple[int, str]:
        """`exp(x)`; relations in brackets, and choices in words."""
        if function in RELATIONS:
            left, right = (self.write(part) for part in arguments)
            return ATOM, self.bracket(f"{left} {RELATIONS[function]} {right}")
        if function == "where":
            mask, first, second = (self.write(part) for part in arguments)
            return SUM, f"({first} if {mask} else {second})"
        if function == "not":
            return ATOM, f"¬{self.write(arguments[0], ATOM)}"
        if function in LOGIC:
            sign = f" {LOGIC[function]} "
            return ATOM, f"({sign.join(self.write(part, ATOM) for part in arguments)})"
        return ATOM, f"{function}({', '.join(self.write(part) for part in arguments)})"

    def over(self, kind: str, letters: Sequence[str], body: str) -> str:
        """`Σ_i,j body`."""
        return f"{SIGNS[kind]}_{','.join(letters)} {body}"

    def delta(self, left: str, right: str) -> str:
        """`δ[i,i']`."""
        return f"δ[{left},{right}]"


TEXT = Text()
