"""What every way to write formulas has in common: precedence, signs, fractions, sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction

from blockjac.explanations import expressions as ex
from blockjac.explanations.expressions import Expression, Letter, Place
from blockjac.explanations.names import Derivative, Name

MOST_ABOVE = 12
"""A number is written as a fraction if its numerator is at most this."""

SUM, PRODUCT, POWER, ATOM = range(4)
"""How tightly an expression binds."""

RELATIONS = {"eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥"}


class Style(ABC):
    """Writes expressions; subclasses say how each part looks."""

    def write(self, expression: Expression, above: int = SUM) -> str:
        """An expression, in parentheses if it binds less tightly than what is around it."""
        binds, written = self._written(expression)
        return self.parentheses(written) if binds < above else written

    def _written(self, expression: Expression) -> tuple[int, str]:
        """An expression and how tightly it binds."""
        match expression:
            case ex.Number(value):
                return self._number(value)
            case ex.Entry(name, places, _):
                return ATOM, self.entry(name, self.places(places))
            case ex.Equal(left, right):
                return ATOM, self._equal(left, right)
            case ex.Within(place, size):
                return ATOM, self._within(place, size)
            case ex.NotBefore(left, right):
                sides = f"{self.place(left)} {self.symbol('≥')} {self.place(right)}"
                return ATOM, self.bracket(sides)
            case ex.Angle(turns):
                return self._angle(turns)
            case _:
                return self._operation(expression)

    def _operation(self, expression: Expression) -> tuple[int, str]:
        """An operation on expressions, and how tightly it binds."""
        match expression:
            case ex.Product(factors):
                return PRODUCT, self.product([self.write(part, PRODUCT) for part in factors])
            case ex.Total(terms):
                return SUM, self._total(terms)
            case ex.Negative(body):
                return SUM, f"{self.symbol('-')}{self.write(body, PRODUCT)}"
            case ex.Quotient(numerator, denominator):
                return self.quotient(numerator, denominator)
            case ex.Power(base, exponent):
                return POWER, self.power(self.write(base, ATOM), exponent)
            case ex.Applied(function, arguments):
                return self.applied(function, arguments)
            case ex.Over(kind, letters, body):
                under = [self.letter(letter) for letter in letters]
                return SUM, self.over(kind, under, self.write(body, PRODUCT))
            case _:
                raise AssertionError(expression)

    def _equal(self, left: Place, right: Place) -> str:
        """Kronecker's delta of two letters, and Iverson's bracket of other places."""
        if left.letter is not None and right.letter is not None:
            return self.delta(self.letter(left.letter), self.letter(right.letter))
        return self.bracket(f"{self.place(left)} {self.symbol('=')} {self.place(right)}")

    def _angle(self, turns: Sequence[tuple[Place, Place, int]]) -> tuple[int, str]:
        """`2 π (i j / 8 + k / 4)`."""
        written: list[str] = []
        for left, right, size in turns:
            factors: list[str] = []
            for place in (left, right):
                if place != Place(1):
                    is_sum = len(place.strides) + bool(place.offset) > 1
                    own = self.place(place)
                    factors.append(self.parentheses(own) if is_sum else own)
            above = self.product(factors or [self.digits("1")])
            written.append(self.ratio(above, self.digits(str(size))))
        circle = [self.digits("2"), self.name(Name("pi"))]
        plus = f" {self.symbol('+')} "
        whole = written[0] if len(written) == 1 else self.parentheses(plus.join(written))
        return PRODUCT, self.product([*circle, whole])

    def _within(self, place: Place, size: int) -> str:
        """Where a place lies on an axis: the bounds that need saying."""
        written, low, high = self.place(place), place.offset, place.offset
        for letter, stride in place.strides:
            reach = stride * (letter.size - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        start = f"{self.digits('0')} {self.symbol('≤')} "
        end = f" {self.symbol('<')} {self.digits(str(size))}"
        if place.lookup is None and low >= 0:
            start = ""
        if place.lookup is None and high < size:
            end = ""
        return self.bracket(f"{start}{written}{end}")

    def _number(self, value: complex) -> tuple[int, str]:
        """A number; one over a whole number is written as a fraction."""
        if isinstance(value, complex):
            if not value.imag:
                return self._number(value.real)
            return ATOM, self.digits(f"({value.real:g}{value.imag:+g}i)")
        if isinstance(value, bool):
            return ATOM, self.digits(str(int(value)))
        fraction = _fraction(value)
        if fraction is not None and fraction.denominator != 1:
            sign = self.symbol("-") if fraction < 0 else ""
            top, bottom = abs(fraction.numerator), fraction.denominator
            return PRODUCT, sign + self.ratio(self.digits(str(top)), self.digits(str(bottom)))
        digits = self.digits(repr(value) if fraction is None else str(fraction.numerator))
        return (SUM if value < 0 else ATOM), digits

    def _total(self, terms: Sequence[Expression]) -> str:
        """A sum with its signs."""
        written = self.write(terms[0], SUM)
        for term in terms[1:]:
            negative = isinstance(term, ex.Negative)
            body = term.body if isinstance(term, ex.Negative) else term
            if (
                isinstance(body, ex.Number)
                and not isinstance(body.value, complex)
                and body.value < 0
            ):
                negative, body = not negative, ex.Number(-body.value)
            written += f" {self.symbol('-' if negative else '+')} {self.write(body, PRODUCT)}"
        return written

    def places(self, places: Sequence[Place]) -> list[str]:
        """Places one by one."""
        return [self.place(place) for place in places]

    def place(self, place: Place) -> str:
        """A place such as `2i+j-1`."""
        written = ""
        for letter, stride in place.strides:
            sign = self.symbol("-") if stride < 0 else self.symbol("+") if written else ""
            times = "" if abs(stride) == 1 else self.digits(str(abs(stride)))
            written += f"{sign}{times}{self.letter(letter)}"
        if place.lookup is not None:
            written += (self.symbol("+") if written else "") + self.write(place.lookup, PRODUCT)
        if not written:
            return self.digits(str(place.offset))
        if place.offset:
            sign = self.symbol("-" if place.offset < 0 else "+")
            written += sign + self.digits(str(abs(place.offset)))
        return written

    def called(self, name: Name | Derivative) -> str:
        """A name, or the Jacobian that is one."""
        return self.name(name) if isinstance(name, Name) else self.derivative(name)

    @abstractmethod
    def derivative(self, derivative: Derivative) -> str:
        """`D_x f`."""

    @abstractmethod
    def space(self, shape: Sequence[int]) -> str:
        """The space of tensors of a shape."""

    @abstractmethod
    def identity(self) -> str:
        """The identity."""

    @abstractmethod
    def name(self, name: Name) -> str:
        """A name."""

    @abstractmethod
    def entry(self, name: Name | Derivative, places: Sequence[str]) -> str:
        """An entry of an array."""

    @abstractmethod
    def letter(self, letter: Letter) -> str:
        """An index."""

    @abstractmethod
    def digits(self, digits: str) -> str:
        """A number."""

    @abstractmethod
    def symbol(self, symbol: str) -> str:
        """A sign such as `=`."""

    @abstractmethod
    def parentheses(self, body: str) -> str:
        """`(body)`."""

    @abstractmethod
    def bracket(self, body: str) -> str:
        """Iverson's bracket: 1 where the body is true."""

    @abstractmethod
    def product(self, factors: Sequence[str]) -> str:
        """Factors beside each other."""

    @abstractmethod
    def ratio(self, top: str, bottom: str) -> str:
        """A fraction of two written parts."""

    @abstractmethod
    def quotient(self, numerator: Expression, denominator: Expression) -> tuple[int, str]:
        """A fraction, and how tightly it binds."""

    @abstractmethod
    def power(self, base: str, exponent: Expression) -> str:
        """A power."""

    @abstractmethod
    def applied(self, function: str, arguments: Sequence[Expression]) -> tuple[int, str]:
        """A function of expressions, and how tightly it binds."""

    @abstractmethod
    def over(self, kind: str, letters: Sequence[str], body: str) -> str:
        """A sum over letters."""

    @abstractmethod
    def delta(self, left: str, right: str) -> str:
        """Kronecker's delta."""


def _fraction(value: float) -> Fraction | None:
    """The fraction of small whole numbers that a float is nearest to; None if it is none."""
    if isinstance(value, int):
        return Fraction(value)
    if value != value or value in (float("inf"), float("-inf")):
        return None
    fraction = Fraction(value).limit_denominator(10**7)
    is_simple = fraction.denominator == 1 or abs(fraction.numerator) <= MOST_ABOVE
    return fraction if float(fraction) == value and is_simple else None
