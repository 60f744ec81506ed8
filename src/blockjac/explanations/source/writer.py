"""The Python text of expressions."""

from __future__ import annotations

from typing import Any

from blockjac.explanations.source.expressions import (
    Attribute,
    Binary,
    Call,
    Display,
    Expression,
    Literal,
    Ref,
    Slice,
    Subscript,
    Text,
    Unary,
)

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
