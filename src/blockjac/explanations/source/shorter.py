"""Results that are written without the operation: `x + 0`, `eye(n)`, tests that never fail."""

from __future__ import annotations

import numpy as np

from blockjac.explanations.source.builder import Equation
from blockjac.explanations.source.expressions import (
    Binary,
    Call,
    Literal,
    Text,
    Unary,
    call,
    number,
)
from blockjac.explanations.source.program import Value
from blockjac.explanations.source.views import joint, without_ones


def shorter(symbol: str, equation: Equation) -> Value | None:
    """The result of an operation without the operation, if there is a shorter way to write it."""
    left, right = equation.operands
    if symbol in "+*":
        neutral = 1 if symbol == "*" else 0
        is_exact = symbol == "*" or np.issubdtype(left.dtype, np.integer)
        for term, operand in ((left, right), (right, left)):
            if is_exact and _is_number(term, neutral) and term.shape == ():
                return operand
    if left.dtype == bool and symbol in ("==", "!="):
        return _compared_bools(equation, symbol)
    identity = _identity(equation) if symbol == "==" else None
    if identity is not None:
        return identity
    decided = _decided(symbol, left, right)
    return None if decided is None else equation.builder.constant(np.asarray(decided))


def _is_number(value: Value, wanted: float) -> bool:
    """Whether a value is a literal of a number."""
    return isinstance(value.code, Literal) and bool(value.known == wanted)


def _compared_bools(equation: Equation, symbol: str) -> Value:
    """Bools are compared with True and False by themselves."""
    left, right = equation.operands
    for literal_operand, operand in ((left, right), (right, left)):
        if isinstance(literal_operand.code, Literal):
            is_same = bool(literal_operand.known) == (symbol == "==")
            return operand if is_same else equation.elementwise(Unary("~", operand.ref))
    return equation.elementwise(Binary(symbol, left.ref, right.ref))


def _identity(equation: Equation) -> Value | None:
    """`eye(n)` for the comparison of `arange(n)` along one axis with itself along another."""
    builder = equation.builder
    left, right = equation.operands
    numbers = builder.views.get(left, left)
    code = numbers.code
    is_range = isinstance(code, Call) and code.function == f"{equation.module}.arange"
    if not is_range or builder.views.get(right, right) is not numbers or left.shape == right.shape:
        return None
    shape = joint([left.shape, right.shape])
    size = numbers.shape[0]
    if without_ones(shape) != (size, size):
        return None
    eye = call(f"{equation.module}.eye", number(size), dtype=Text("bool"))
    value = builder.value(eye, (size, size), np.dtype(bool), "identity")
    return builder.reshaped(value, (size, size), shape)


def _decided(symbol: str, left: Value, right: Value) -> bool | None:
    """What a comparison of a bounded value with a number gives in any case; None if it depends."""
    if left.bounds is None or right.known is None or right.known.ndim or symbol not in ("<", ">="):
        return None
    low, high = left.bounds
    if low >= right.known:
        return symbol == ">="
    return symbol == "<" if high < right.known else None
