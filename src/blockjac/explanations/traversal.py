"""Walking through expressions: their parts, and the same expression with parts changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from blockjac.explanations.expressions import (
    ONE,
    Applied,
    Entry,
    Equal,
    Expression,
    Negative,
    NotBefore,
    Number,
    Over,
    Place,
    Power,
    Product,
    Quotient,
    Total,
    Within,
    over,
    product,
    total,
)


def children(expression: Expression) -> Iterator[Expression]:
    """The expressions that an expression is made of, in the order in which they are read."""
    for field in fields(expression):
        value = getattr(expression, field.name)
        for part in value if isinstance(value, tuple) else (value,):  # pyright: ignore[reportUnknownVariableType]
            if isinstance(part, Place):
                if part.lookup is not None:
                    yield part.lookup
            elif isinstance(part, Expression):
                yield part


def parts(expression: Expression) -> Iterator[Expression]:
    """An expression and all that it is made of."""
    yield expression
    for child in children(expression):
        yield from parts(child)


def size(expression: Expression) -> int:
    """The number of entries, numbers and operations of an expression."""
    return 1 + sum(map(size, children(expression)))


def entries(expression: Expression) -> Iterator[Entry]:
    """Every entry that an expression reads."""
    yield from (part for part in parts(expression) if isinstance(part, Entry))


def rebuilt(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The expression with its direct parts changed, and nothing simplified; places stay."""

    def changed(value: Any) -> Any:
        """A field with its expressions changed."""
        if isinstance(value, tuple):
            return tuple(map(changed, value))  # pyright: ignore[reportUnknownArgumentType]
        return change(value) if isinstance(value, Expression) else value

    own = {field.name: changed(getattr(expression, field.name)) for field in fields(expression)}
    return replace(expression, **own)


def renamed(expression: Expression, rename: Callable[[Any], Any]) -> Expression:
    """The expression with the names of arrays replaced."""

    def at(place: Place) -> Place:
        """A place with the names in its lookup replaced."""
        return place if place.lookup is None else replace(place, lookup=change(place.lookup))

    def change(part: Expression) -> Expression:
        """A part with names replaced."""
        match part:
            case Entry(name, places, shape):
                return Entry(rename(name), tuple(map(at, places)), shape)
            case Equal(left, right):
                return Equal(at(left), at(right))
            case Within(place, size):
                return Within(at(place), size)
            case NotBefore(left, right):
                return NotBefore(at(left), at(right))
            case _:
                return rebuilt(part, change)

    return change(expression)


def mapped(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The expression with its direct parts changed; places stay as they are."""
    match expression:
        case Product(factors):
            return product([change(factor) for factor in factors])
        case Total(terms):
            return total([change(term) for term in terms])
        case Negative(body):
            return product([Number(-1), change(body)])
        case Quotient(numerator, denominator):
            return product([change(numerator), Quotient(ONE, change(denominator))])
        case Power(base, exponent):
            return Power(change(base), change(exponent))
        case Applied(function, arguments):
            return Applied(function, tuple(map(change, arguments)))
        case Over(kind, letters, body):
            return over(kind, letters, change(body))
        case _:
            return expression
