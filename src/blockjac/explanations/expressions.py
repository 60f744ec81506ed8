"""Formulas with indices: entries of arrays, deltas, sums over letters.

A formula gives one entry of an array as an expression of letters, each of which runs over an axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blockjac.explanations.names import Derivative, Name


@dataclass(frozen=True)
class Letter:
    """An index that runs over `0 .. size - 1`.

    Attributes:
        name: a letter of the alphabet.
        size: how many values it takes.
        primes: how many primes it is written with.
    """

    name: str
    size: int
    primes: int = 0


@dataclass(frozen=True)
class Place:
    """A position on an axis: `offset + sum(stride * letter) + an entry of integers`."""

    offset: int = 0
    strides: tuple[tuple[Letter, int], ...] = ()
    lookup: Expression | None = None

    @staticmethod
    def of(letter: Letter) -> Place:
        """A letter as it is; one that takes a single value is 0."""
        return Place(0, ((letter, 1),) if letter.size != 1 else ())

    @property
    def letter(self) -> Letter | None:
        """The letter that this is, if it is nothing else."""
        if self.lookup is None and not self.offset and len(self.strides) == 1:
            letter, stride = self.strides[0]
            return letter if stride == 1 else None
        return None


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: int | float | complex | bool


@dataclass(frozen=True)
class Entry:
    """An entry of a named array.

    Attributes:
        name: of the array.
        places: one for each axis; none for a number.
        shape: of the array.
    """

    name: Name | Derivative
    places: tuple[Place, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """A product."""

    factors: tuple[Expression, ...]


@dataclass(frozen=True)
class Total:
    """A sum of terms."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True)
class Negative:
    """The negative of an expression."""

    body: Expression


@dataclass(frozen=True)
class Quotient:
    """A fraction."""

    numerator: Expression
    denominator: Expression


@dataclass(frozen=True)
class Power:
    """A power with an exponent that is a number or an expression."""

    base: Expression
    exponent: Expression


@dataclass(frozen=True)
class Applied:
    """An elementwise function of expressions, by its name in `functions`."""

    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class Over:
    """A sum, product, maximum or minimum over letters.

    Attributes:
        kind: "sum", "prod", "max" or "min".
        letters: that it runs over.
        body: what is summed.
    """

    kind: str
    letters: tuple[Letter, ...]
    body: Expression


@dataclass(frozen=True)
class Equal:
    """1 where two positions are the same and 0 elsewhere: a Kronecker delta or Iverson bracket."""

    left: Place
    right: Place


@dataclass(frozen=True)
class Within:
    """1 where a position lies on an axis of some size, and 0 elsewhere."""

    place: Place
    size: int


Expression = (
    Number | Entry | Product | Total | Negative | Quotient | Power | Applied | Over | Equal | Within
)


@dataclass(frozen=True)
class Formula:
    """One entry of an array: `name[letters] = body`.

    Attributes:
        name: of the array.
        letters: one place for each axis.
        body: the entry.
        shape: of the array.
    """

    name: Name | Derivative
    letters: tuple[Place, ...]
    body: Expression
    shape: tuple[int, ...]


LARGEST_INVERSE = 10_000_000
"""A factor that is one over a whole number up to this goes below the line."""

ZERO, ONE = Number(0), Number(1)


def product(factors: list[Expression]) -> Expression:
    """A product, with numbers and signs in front and ones left out."""
    number: Any = 1
    rest: list[Expression] = []
    denominators: list[Expression] = []
    for factor in flat(factors):
        while isinstance(factor, Negative):
            number, factor = -number, factor.body
        if isinstance(factor, Number):
            number = number * factor.value
        elif isinstance(factor, Quotient):
            denominators.append(factor.denominator)
            rest += [] if factor.numerator == ONE else flat([factor.numerator])
        else:
            rest.append(factor)
    if number == 0:
        return ZERO
    if isinstance(number, complex) or number > 0 or not isinstance(number, int | float):
        negative = False
    else:
        number, negative = -number, True
    inverse = round(1 / number) if isinstance(number, float) and 0 < number < 1 else 0
    if inverse > 1 and inverse <= LARGEST_INVERSE and 1 / inverse == number:
        number = 1
        denominators.append(Number(inverse))
    rest.sort(key=lambda factor: not isinstance(factor, Equal | Within))
    if number != 1 or not rest:
        rest.insert(0, Number(number))
    body: Expression = rest[0] if len(rest) == 1 else Product(tuple(rest))
    if denominators:
        body = Quotient(body, product(denominators))
    return Negative(body) if negative else body


def flat(factors: list[Expression]) -> list[Expression]:
    """The factors of products one by one."""
    result: list[Expression] = []
    for factor in factors:
        result += factor.factors if isinstance(factor, Product) else [factor]
    return result


def total(terms: list[Expression]) -> Expression:
    """A sum of terms, zeros left out."""
    result: list[Expression] = []
    for term in terms:
        result += term.terms if isinstance(term, Total) else [term] if term != ZERO else []
    if not result:
        return ZERO
    return result[0] if len(result) == 1 else Total(tuple(result))


def over(kind: str, letters: tuple[Letter, ...], body: Expression) -> Expression:
    """A sum over letters, or the body itself where there are none; signs stand in front."""
    if not letters or body == ZERO:
        return body
    if kind == "sum" and isinstance(body, Negative):
        return Negative(over(kind, letters, body.body))
    if isinstance(body, Over) and body.kind == kind:
        return Over(kind, letters + body.letters, body.body)
    return Over(kind, letters, body)
