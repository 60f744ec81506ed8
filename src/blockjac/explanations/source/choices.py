"""Choices between values, bounds, and conversions of dtype."""

from __future__ import annotations

import numpy as np

from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    Attribute,
    Binary,
    Call,
    Display,
    Expression,
    Literal,
    Ref,
    Text,
    Unary,
    call,
    method,
)
from blockjac.explanations.source.program import Value


def clamp(equation: Equation) -> Result:
    """`clip(x, low, high)`."""
    low, x, high = equation.loose()
    return equation.elementwise(call(f"{equation.module}.clip", x, low, high))


def select_n(equation: Equation) -> Result:
    """`where(test, yes, no)`; `choose` for more than two cases."""
    test, *cases = equation.operands
    builder, module = equation.builder, equation.module
    known = test.known
    if known is not None and known.ndim == 0:
        return cases[int(known)]
    codes = builder.loose(cases)
    if len(cases) == 1 or (len({id(case) for case in cases}) == 1):
        return cases[0]
    if test.dtype != bool:
        exact = [equation.exact(number) for number in range(1, len(cases) + 1)]
        index = equation.exact(0) if test.shape else test.ref
        options = {"mode": Text('"clip"')} if module == "jnp" else {}
        return call(f"{module}.choose", index, Display("[", tuple(exact)), **options)
    no, yes = codes
    mask: Expression = test.ref
    if isinstance(test.code, Unary) and test.code.operator == "~" and not test.name:
        mask, no, yes = test.code.of, yes, no
    result = equation.elementwise(call(f"{module}.where", mask, yes, no))
    result.from_end = _from_end(test, cases)
    return result


def _from_end(test: Value, cases: list[Value]) -> tuple[Value, int] | None:
    """The place `i` and the size `n` of `where(i < 0, i + n, i)`."""
    place, shifted = cases
    match test.code, shifted.code:
        case Binary("<", Ref(left), Literal("0")), Binary("+", Ref(below), Literal(size)):
            return (place, int(size)) if left is place and below is place else None
        case _:
            return None


def convert(equation: Equation) -> Result:
    """`x.astype(dtype)`."""
    (value,) = equation.operands
    old, new = np.dtype(value.dtype), np.dtype(equation.out.dtype)
    if old == new:
        return value
    code: Expression = value.ref
    if old.kind == "c" and new.kind not in "cb":
        code = Attribute(code, "real")
    if isinstance(value.code, Call) and value.code.function == f"{equation.module}.eye":
        options = equation.builder.dtype_option(new, "float64")
        eye = call(value.code.function, *value.code.arguments, **options)
        return equation.builder.value(eye, value.shape, new)
    if value.is_python:
        if new.kind in "iu":
            return value
        return Value(code, (), new, equation.builder.block, is_python=True)
    converted = method(code, "astype", equation.builder.dtype(new))
    result = equation.builder.value(converted, value.shape, new)
    result.bounds = value.bounds if new.kind == "i" and value.bounds else None
    result.truth = value if old.kind == "b" else None
    return result


CHOICES: dict[str, Translation] = {
    "clamp": clamp,
    "select_n": select_n,
    "convert_element_type": convert,
}
"""Translations by primitive."""
