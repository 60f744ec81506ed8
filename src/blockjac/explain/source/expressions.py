"""Expressions of the emitted module: small trees with their Python text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ATOM, CALL, POWER, SIGN, PRODUCT, SUM, SHIFT, AND, XOR, OR, COMPARE, NOT, LAMBDA = range(13)
"""How tightly an expression binds, from the tightest on."""

_BINDING = {
    "**": POWER,
    "*": PRODUCT,
    "/": PRODUCT,
    "//": PRODUCT,
    "@": PRODUCT,
    "%": PRODUCT,
    "+": SUM,
    "-": SUM,
    "<<": SHIFT,
    ">>": SHIFT,
    "&": AND,
    "^": XOR,
    "|": OR,
    "==": COMPARE,
    "!=": COMPARE,
    "<": COMPARE,
    "<=": COMPARE,
    ">": COMPARE,
    ">=": COMPARE,
}


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
    value = np.asarray(value)[()]
    return Literal(_digits(value), value.dtype.name)


def _digits(value: Any) -> str:
    """The shortest digits that give the value back."""
    if isinstance(value, np.bool_):
        return str(bool(value))
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


class Writer:
    """Writes expressions as text.

    Attributes:
        array_module: `np` or `jnp`.
        name_of: the name of a value, or None if its expression stands in its place.
    """

    def __init__(self, array_module: str, name_of: Any) -> None:
        self.array_module = array_module
        self.name_of = name_of

    def resolved(self, expression: Expression) -> Expression:
        """The expression itself, for references to values without a name that of the value."""
        while isinstance(expression, Ref) and self.name_of(expression.value) is None:
            expression = expression.value.code
        return expression

    def text(self, expression: Expression, binding: int = LAMBDA) -> str:
        """The text, in parentheses where it binds less tightly than its place asks."""
        expression = self.resolved(expression)
        text, own = self._written(expression)
        return f"({text})" if own > binding else text

    def _written(self, node: Expression) -> tuple[str, int]:
        """The text of a node and how tightly it binds."""
        match node:
            case Text():
                return node.text, SIGN if node.text.startswith("-") else ATOM
            case Ref():
                return self.name_of(node.value), ATOM
            case Literal():
                return self._literal(node)
            case Call():
                function = node.function
                name = function if isinstance(function, str) else self.text(function, CALL)
                return f"{name}({', '.join(self.items(node))})", CALL
            case Attribute():
                return f"{self.text(node.of, CALL)}.{node.name}", CALL
            case Subscript():
                return f"{self.text(node.of, CALL)}[{', '.join(self.items(node))}]", CALL
            case Slice():
                return self._slice(node), LAMBDA
            case Binary():
                return self._binary(node)
            case Unary():
                if node.operator == "not":
                    return f"not {self.text(node.of, NOT)}", NOT
                return f"{node.operator}{self.text(node.of, SIGN)}", SIGN
            case Display():
                return self._display(node), LAMBDA if not node.kind else ATOM
            case _:
                raise TypeError(f"cannot write {node!r}")

    def items(self, node: Expression) -> list[str]:
        """The texts between the brackets of a call, subscript or display."""
        match node:
            case Call():
                options = [f"{name}={self.text(value)}" for name, value in node.options]
                return [*map(self.text, node.arguments), *options]
            case Subscript():
                return list(map(self.text, node.items))
            case Display():
                texts = list(map(self.text, node.items))
                if node.keys:
                    texts = [f"{key}: {text}" for key, text in zip(node.keys, texts, strict=True)]
                return texts
            case _:
                return []

    def _display(self, node: Display) -> str:
        """A tuple of one entry has a comma."""
        inner = ", ".join(self.items(node))
        if node.kind in ("", "(") and len(node.items) == 1:
            inner += ","
        close = {"(": ")", "[": "]", "{": "}", "": ""}[node.kind]
        return f"{node.kind}{inner}{close}"

    def _slice(self, node: Slice) -> str:
        """Parts that are not short have spaces around the colon."""
        parts = ["" if part is None else self.text(part) for part in (node.start, node.stop)]
        is_simple = all(_is_simple(part) for part in parts)
        text = ":".join(parts) if is_simple else f"{parts[0]} : {parts[1]}".strip()
        return text if node.step is None else f"{text}:{self.text(node.step)}"

    def _literal(self, node: Literal) -> tuple[str, int]:
        """A number, with its dtype unless the other operands or Python decide it."""
        text = node.text.replace("np.", f"{self.array_module}.")
        if node.is_loose or node.dtype in ("float64", "int64", "bool", "complex128"):
            if node.is_loose and text.endswith(".0") and text != "-0.0":
                text = text.removesuffix(".0")
            return text, SIGN if text.startswith("-") else ATOM
        return f"{self.array_module}.{node.dtype}({text})", CALL

    def _binary(self, node: Binary) -> tuple[str, int]:
        """Signs move into sums: `a + -b` is `a - b`; operands of powers are hugged if short."""
        operator, binding = node.operator, _BINDING[node.operator]
        left, right = self.resolved(node.left), self.resolved(node.right)
        if operator == "**":
            base, exponent = self.text(left, CALL), self.text(right, SIGN)
            space = "" if _is_simple(base) and _is_simple(exponent) else " "
            return f"{base}{space}**{space}{exponent}", POWER
        if operator in "+-" and isinstance(right, Unary) and right.operator == "-":
            operator, right = {"+": "-", "-": "+"}[operator], self.resolved(right.of)
        elif operator == "+" and isinstance(left, Unary) and left.operator == "-":
            operator, left, right = "-", right, self.resolved(left.of)
        tighter = binding - 1
        first = self.text(left, tighter if binding == COMPARE else binding)
        return f"{first} {operator} {self.text(right, tighter)}", binding


def _is_simple(text: str) -> bool:
    """Whether a text is a name, a number, or a chain of attributes, with or without a sign."""
    return all(
        character.isalnum() or character in "._" for character in text.removeprefix("-")
    ) and not (text.startswith("-") and not text[1:])
