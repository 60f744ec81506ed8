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


@dataclass(frozen=True)
class NotBefore:
    """1 where a position is another or comes after it, and 0 elsewhere: `[i >= j]`."""

    left: Place
    right: Place


@dataclass(frozen=True)
class Angle:
    """`2 pi` times a sum of fractions of a turn, such as `i j / 8`.

    Attributes:
        turns: for each two positions and a number: their product is divided by it.
    """

    turns: tuple[tuple[Place, Place, int], ...]


Expression = (
    Number
    | Entry
    | Product
    | Total
    | Negative
    | Quotient
    | Power
    | Applied
    | Over
    | Equal
    | Within
    | NotBefore
    | Angle
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
    """A product, with numbers and signs in front, ones left out, and one line of a fraction."""
    number: Any = 1
    above: list[Expression] = []
    below: list[Expression] = []
    waiting = [(factor, above) for factor in reversed(factors)]
    while waiting:
        factor, side = waiting.pop()
        match factor:
            case Negative(body):
                number = -number
                waiting.append((body, side))
            case Product(parts):
                waiting += [(part, side) for part in reversed(parts)]
            case Quotient(top, bottom):
                waiting += [(bottom, below if side is above else above), (top, side)]
            case Number(value):
                number = number * value if side is above else _divided(number, value)
            case _:
                side.append(factor)
    if number == 0:
        return ZERO
    is_negative = isinstance(number, int | float) and number < 0
    body = _fraction(-number if is_negative else number, above, below)
    return Negative(body) if is_negative else body


def _divided(number: Any, value: Any) -> Any:
    """A quotient of numbers, whole where it can be; inf and nan as in floating point."""
    if value == 0:
        return number * float("inf")
    quotient = number / value
    is_whole = isinstance(quotient, float) and quotient.is_integer() and abs(quotient) < 2**53
    return int(quotient) if is_whole else quotient


def _fraction(number: Any, above: list[Expression], below: list[Expression]) -> Expression:
    """A positive number times factors above and below the line."""
    inverse = round(1 / number) if isinstance(number, float) and 0 < number < 1 else 0
    if 1 < inverse <= LARGEST_INVERSE and 1 / inverse == number:
        number, below = 1, [Number(inverse), *below]
    above = sorted(above, key=lambda factor: not isinstance(factor, Equal | Within | NotBefore))
    if number != 1 or not above:
        above = [Number(number), *above]
    body: Expression = above[0] if len(above) == 1 else Product(tuple(above))
    if not below:
        return body
    return Quotient(body, below[0] if len(below) == 1 else Product(tuple(below)))


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
