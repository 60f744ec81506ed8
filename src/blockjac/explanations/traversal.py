"""Walking through expressions: their parts, and the same expression with parts changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from blockjac.explanations.expressions import (
    ONE,
    Applied,
    Entry,
    Expression,
    Negative,
    Number,
    Over,
    Place,
    Power,
    Product,
    Quotient,
    Total,
    over,
    product,
    total,
)


def _held(value: Any) -> Iterator[Any]:
    """What a field holds, one by one; tuples may hold tuples."""
    if isinstance(value, tuple):
        for part in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _held(part)
    else:
        yield value


def held(expression: Expression) -> Iterator[Any]:
    """The places, the expressions and all else in an expression, in the order of reading."""
    for field in fields(expression):
        yield from _held(getattr(expression, field.name))


def children(expression: Expression) -> Iterator[Expression]:
    """The expressions that an expression is made of, in the order in which they are read."""
    for part in held(expression):
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


def rebuilt(
    expression: Expression,
    change: Callable[[Expression], Expression],
    at: Callable[[Place], Place] | None = None,
) -> Expression:
    """The expression with its direct parts changed, and nothing simplified.

    Args:
        expression: whose parts are changed.
        change: an expression to the one in its place.
        at: the same of places; by default they stay.
    """

    def changed(value: Any) -> Any:
        """A field with its places and expressions changed."""
        if isinstance(value, tuple):
            return tuple(map(changed, value))  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(value, Place) and at is not None:
            return at(value)
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
        whole = rebuilt(part, change, at)
        return replace(whole, name=rename(whole.name)) if isinstance(whole, Entry) else whole

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
