"""Formulas as LaTeX, for a plain article."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from blockjac.explanations.expressions import Expression, Letter
from blockjac.explanations.names import ENGLISH, GREEK, Derivative, Name, is_letter
from blockjac.explanations.styles.style import ATOM, POWER, PRODUCT, Style

SYMBOLS = {
    "⋆": r"\star",
    "≠": r"\neq",
    "≤": r"\leq",
    "≥": r"\geq",
    "∈": r"\in",
    "×": r"\times",
}

LOWERED = "₀₁₂₃₄₅₆₇₈₉"
"""Digits as subscripts, as titles have them."""

KNOWN = frozenset({"exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "min", "max"})
"""Functions that LaTeX has a command for."""

RELATIONS = {"eq": "=", "ne": r"\neq", "lt": "<", "le": r"\leq", "gt": ">", "ge": r"\geq"}

LOGIC = {"and": r"\land", "or": r"\lor", "xor": r"\oplus"}

SPECIAL = {
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "%": r"\%",
    "&": r"\&",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",  # the fonts of a plain article have other glyphs in these places
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
}
"""Characters that mean something to LaTeX, and how they are written."""


OF_TEXT = frozenset("\\~^ -")
"""Characters that LaTeX writes in text alone, as it does accents, or otherwise in mathematics."""


def escaped(text: str) -> str:
    """A word in LaTeX's text mode; what a plain article has no glyph for, by its code point."""
    return "".join(_character(character) for character in text)


def _character(character: str) -> str:
    """One character."""
    if character in SPECIAL:
        return SPECIAL[character]
    if character.isascii() or unicodedata.name(character, "").startswith("LATIN "):
        return character
    if character in LOWERED:
        return rf"\textsubscript{{{LOWERED.index(character)}}}"
    if character in ENGLISH:
        return rf"\ensuremath{{\{ENGLISH[character]}}}"
    return f"U+{ord(character):04X}"


class Latex(Style):
    r"""LaTeX: `(W_1)_{ij}`, `\delta_{ii'}`, `\sum_{i}`."""

    def name(self, name: Name) -> str:
        r"""`W_{1}`, `\phi_{2}`, `\mathrm{relu}`."""
        base = name.base
        if base == "ell":
            own = r"\ell"
        elif base in GREEK or base in ENGLISH:
            own = "\\" + (base if base in GREEK else ENGLISH[base])
        elif is_letter(base) and base.isascii():
            own = base
        else:
            is_plain = base.isascii() and not OF_TEXT.intersection(base)
            font = "mathrm" if is_plain else "text"
            own = rf"\{font}{{{escaped(base)}}}"
        if not name.below:
            return own
        below = [self._below(part) for part in name.below]
        return f"{own}_{{{','.join(below)}}}"

    def _below(self, part: str | Name) -> str:
        """A subscript."""
        if isinstance(part, Name):
            return self.name(part)
        return part if part.isdigit() else self.name(Name(part))

    def derivative(self, derivative: Derivative) -> str:
        r"""`D_{W_{1}} \phi_{1}`."""
        result = "" if derivative.result is None else f"({self.name(derivative.result)})"
        return f"D_{{{self.name(derivative.by)}}} {self.name(derivative.of)}{result}"

    def space(self, shape: Sequence[int]) -> str:
        r"""`\mathcal{T}_{(30,20)}`; numbers are real."""
        sizes = ",".join(map(str, shape))
        return rf"\mathcal{{T}}_{{({sizes})}}" if shape else r"\mathbb{R}"

    def identity(self) -> str:
        """`I`."""
        return "I"

    def entry(self, name: Name | Derivative, places: Sequence[str]) -> str:
        """`X_{ij}`; names with subscripts of their own in parentheses."""
        own = self.called(name)
        if not places:
            return own
        is_plain = isinstance(name, Name) and not name.below
        separator = "" if all(_is_short(place) for place in places) else ","
        return f"{own if is_plain else f'({own})'}_{{{separator.join(places)}}}"

    def letter(self, letter: Letter) -> str:
        """`i'`."""
        digits = letter.name[1:]
        own = f"{letter.name[0]}_{{{digits}}}" if digits else letter.name
        return own + "'" * letter.primes

    def digits(self, digits: str) -> str:
        """A number; powers of ten are written out."""
        if digits in ("inf", "-inf"):
            return digits.replace("inf", r"\infty")
        mantissa, _, exponent = digits.partition("e")
        if exponent and mantissa.replace(".", "").lstrip("-").isdigit():
            return rf"{mantissa} \cdot 10^{{{int(exponent)}}}"
        return digits

    def symbol(self, symbol: str) -> str:
        """A sign."""
        return SYMBOLS.get(symbol, symbol)

    def parentheses(self, body: str) -> str:
        """Parentheses of the height of the body."""
        return rf"\left({body}\right)"

    def bracket(self, body: str) -> str:
        """Brackets."""
        return f"[{body}]"

    def product(self, factors: Sequence[str]) -> str:
        """Factors beside each other."""
        return r" \, ".join(factors)

    def ratio(self, top: str, bottom: str) -> str:
        """A fraction."""
        return rf"\frac{{{top}}}{{{bottom}}}"

    def quotient(self, numerator: Expression, denominator: Expression) -> tuple[int, str]:
        """A fraction."""
        return PRODUCT, self.ratio(self.write(numerator), self.write(denominator))

    def power(self, base: str, exponent: Expression) -> str:
        """A power."""
        return f"{{{base}}}^{{{self.write(exponent)}}}"

    def applied(self, function: str, arguments: Sequence[Expression]) -> tuple[int, str]:
        """A function of expressions."""
        written = [self.write(part) for part in arguments]
        if function in RELATIONS:
            return ATOM, self.bracket(f"{written[0]} {RELATIONS[function]} {written[1]}")
        if function == "where":
            mask, first, second = written
            rows = rf"{first} & \text{{if }} {mask} \\ {second} & \text{{otherwise}}"
            return ATOM, rf"\begin{{cases}} {rows} \end{{cases}}"
        if function == "not":
            return ATOM, rf"\lnot {self.write(arguments[0], ATOM)}"
        if function in LOGIC:
            sign = f" {LOGIC[function]} "
            return ATOM, self.parentheses(sign.join(self.write(part, ATOM) for part in arguments))
        if function == "sqrt":
            return ATOM, rf"\sqrt{{{written[0]}}}"
        if function == "abs":
            return ATOM, rf"\left|{written[0]}\right|"
        own = f"\\{function}" if function in KNOWN else rf"\mathrm{{{escaped(function)}}}"
        return POWER, own + self.parentheses(", ".join(written))

    def over(self, kind: str, letters: Sequence[str], body: str) -> str:
        """A sum over letters."""
        return rf"\{kind}_{{{','.join(letters)}}} {body}"

    def delta(self, left: str, right: str) -> str:
        """Kronecker's delta."""
        return rf"\delta_{{{left}{right}}}"


def _is_short(place: str) -> bool:
    """Whether an index needs no comma beside it."""
    return len(place.replace("'", "")) == 1 and not place[0].isdigit()


LATEX = Latex()
