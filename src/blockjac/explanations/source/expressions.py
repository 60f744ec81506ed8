"""Expressions of the emitted module: small trees with their Python text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


class Expression:
    """A node; the children are expressions."""

    def children(self) -> Sequence[Expression]:
        """The direct parts."""
        return ()


@dataclass(frozen=True)
class Text(Expression):
    """Code that is written as it is: a dotted name or a number."""

    text: str


@dataclass(frozen=True)
class Literal(Expression):
    """A scalar.

    Attributes:
        text: its digits.
        dtype: the name of its dtype.
        is_loose: whether the other operands decide the dtype, so that a plain number will do.
    """

    text: str
    dtype: str
    is_loose: bool = False

    def loose(self) -> Literal:
        """The same number where the other operands decide the dtype."""
        return Literal(self.text, self.dtype, True)


@dataclass(frozen=True)
class Ref(Expression):
    """The value of a variable; `value` is a `Value` of the program."""

    value: Any


@dataclass(frozen=True)
class Call(Expression):
    """`function(*arguments, **options)`; the function is a dotted name or an expression."""

    function: str | Expression
    arguments: tuple[Expression, ...] = ()
    options: tuple[tuple[str, Expression], ...] = ()

    def children(self) -> Sequence[Expression]:
        """The function if it is an expression, then all arguments."""
        function = () if isinstance(self.function, str) else (self.function,)
        return (*function, *self.arguments, *(value for _, value in self.options))


@dataclass(frozen=True)
class Attribute(Expression):
    """`of.name`."""

    of: Expression
    name: str

    def children(self) -> Sequence[Expression]:
        """The object."""
        return (self.of,)


@dataclass(frozen=True)
class Subscript(Expression):
    """`of[items]`."""

    of: Expression
    items: tuple[Expression, ...]

    def children(self) -> Sequence[Expression]:
        """The object, then the indices."""
        return (self.of, *self.items)


@dataclass(frozen=True)
class Slice(Expression):
    """`start:stop:step` in a subscript; a missing part is None."""

    start: Expression | None = None
    stop: Expression | None = None
    step: Expression | None = None

    def children(self) -> Sequence[Expression]:
        """The parts that are there."""
        return [part for part in (self.start, self.stop, self.step) if part is not None]


@dataclass(frozen=True)
class Binary(Expression):
    """`left operator right`."""

    operator: str
    left: Expression
    right: Expression

    def children(self) -> Sequence[Expression]:
        """Both operands."""
        return (self.left, self.right)


@dataclass(frozen=True)
class Unary(Expression):
    """`-of`, `~of` or `not of`."""

    operator: str
    of: Expression

    def children(self) -> Sequence[Expression]:
        """The operand."""
        return (self.of,)


@dataclass(frozen=True)
class Display(Expression):
    """A tuple, list or dictionary written out.

    Attributes:
        kind: `(`, `[` or `{`; empty for a tuple without parentheses.
        items: the entries.
        keys: of a dictionary.
    """

    kind: str
    items: tuple[Expression, ...]
    keys: tuple[str, ...] = ()

    def children(self) -> Sequence[Expression]:
        """The entries."""
        return self.items


FULL = Slice()
NEW_AXIS = Text("None")


def number(value: float) -> Text:
    """An integer or float of Python."""
    return Text(repr(value))


def integers(values: Sequence[int]) -> Expression:
    """A tuple of integers."""
    return Display("(", tuple(number(int(value)) for value in values))


def call(function: str | Expression, *arguments: Expression, **options: Expression) -> Call:
    """A call with its arguments."""
    return Call(function, arguments, tuple(options.items()))


def method(of: Expression, name: str, *arguments: Expression, **options: Expression) -> Call:
    """`of.name(*arguments)`."""
    return Call(Attribute(of, name), arguments, tuple(options.items()))


def references(expression: Expression) -> Iterator[Any]:
    """The values that an expression reads, once for each time."""
    if isinstance(expression, Ref):
        yield expression.value
    for child in expression.children():
        yield from references(child)


def literal(value: Any) -> Literal:
    """The literal of a scalar, whose digits are exact in its dtype."""
    array: np.ndarray[Any, Any] = np.array(value)
    return Literal(_digits(array[()]), array.dtype.name)


def _digits(value: Any) -> str:
    """The shortest digits that give the value back."""
    if value.dtype == bool:
        return "True" if value else "False"
    if np.issubdtype(value.dtype, np.integer):
        return str(int(value))
    if np.issubdtype(value.dtype, np.complexfloating):
        real, imaginary = _float_digits(value.real), _float_digits(value.imag)
        return f"complex({real}, {imaginary})"
    return _float_digits(value)


def _float_digits(value: Any) -> str:
    """The digits of a float of any width; names of `np` for those that have none."""
    exact = float(value)
    if exact != exact:
        return "np.nan"
    if exact in (float("inf"), float("-inf")):
        return "np.inf" if exact > 0 else "-np.inf"
    if value.dtype == np.float64:
        return repr(exact)
    short = str(value.astype(np.float32)) if value.dtype.itemsize <= 4 else repr(exact)
    is_exact = value.dtype.type(float(short)) == value
    digits = short if is_exact else repr(exact)
    return repr(float(digits))
