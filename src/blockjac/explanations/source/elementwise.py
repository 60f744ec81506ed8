"""Elementwise primitives in both targets."""

from __future__ import annotations

import numpy as np

from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    Binary,
    Expression,
    Literal,
    Ref,
    Unary,
    call,
    literal,
    method,
    number,
)
from blockjac.explanations.source.function_names import FUNCTIONS, OPERATORS
from blockjac.explanations.source.program import Value
from blockjac.explanations.source.shorter import shorter


def _operator(symbol: str) -> Translation:
    """`x + y`, with zeros and ones that change nothing left out."""

    def translate(equation: Equation) -> Result:
        """The result of one equation."""
        left, right = equation.operands
        known = shorter(symbol, equation)
        if known is not None:
            return known
        first, second = equation.loose()
        if symbol == "+" and isinstance(first, Literal):
            first, second = second, first
        first, second, sign = _signed(symbol, first, second)
        result = equation.elementwise(Binary(sign, first, second))
        if symbol == "+" and left.bounds and right.known is not None and right.known.ndim == 0:
            low, high = left.bounds
            result.bounds = low + int(right.known), high + int(right.known)
        result.is_python = equation.is_of_python
        return result

    return translate


def _signed(
    symbol: str, first: Expression, second: Expression
) -> tuple[Expression, Expression, str]:
    """Negative literals make a sum a difference."""
    is_negative = isinstance(second, Literal) and second.text.startswith("-") and second.is_loose
    if symbol in "+-" and isinstance(second, Literal) and is_negative and "np." not in second.text:
        positive = Literal(second.text[1:], second.dtype, second.is_loose)
        return first, positive, "-" if symbol == "+" else "+"
    return first, second, symbol


def _function(numpy_name: str, jax_name: str) -> Translation:
    """A function of arrays that broadcasts."""

    def translate(equation: Equation) -> Result:
        """The result of one equation."""
        name = numpy_name if equation.module == "np" else jax_name
        if name.startswith("lax."):
            return call(name, *equation.all_exact())
        code = call(name, *equation.loose())
        is_wide = equation.out.dtype == np.float64
        if name.startswith("special.") and len(equation.operands) > 1 and not is_wide:
            code = method(code, "astype", equation.builder.dtype(equation.out.dtype))
        return equation.elementwise(code)

    return translate


def _extreme(name: str) -> Translation:
    """The larger or smaller one; an infinite number that never is it is left out."""
    limit = -np.inf if name == "max" else np.inf
    general = _function(f"np.{name}imum", f"jnp.{name}imum")

    def translate(equation: Equation) -> Result:
        """The result of one equation."""
        left, right = equation.operands
        for bound, operand in ((left, right), (right, left)):
            if isinstance(bound.code, Literal) and bool(bound.known == limit):
                return operand
        return general(equation)

    return translate


def neg(equation: Equation) -> Result:
    """`-x`; twice is nothing."""
    (value,) = equation.operands
    if isinstance(value.code, Unary) and value.code.operator == "-" and not value.name:
        return value.code.of.value if isinstance(value.code.of, Ref) else value.code.of
    return equation.elementwise(Unary("-", value.ref))


def logical_not(equation: Equation) -> Result:
    """`~x`."""
    return equation.elementwise(Unary("~", equation.operands[0].ref))


def integer_pow(equation: Equation) -> Result:
    """`x**n`."""
    exponent = equation.params["y"]
    if exponent == 0:
        return equation.builder.constant(np.ones((), equation.out.dtype))
    if exponent == 1:
        return equation.operands[0]
    if exponent == -1:
        return _quotient(equation, _one(equation), equation.operands[0].ref)
    return equation.elementwise(Binary("**", equation.operands[0].ref, number(exponent)))


def square(equation: Equation) -> Result:
    """`x**2`."""
    return equation.elementwise(Binary("**", equation.operands[0].ref, number(2)))


def power(equation: Equation) -> Result:
    """`x**y`."""
    base, exponent = equation.operands
    first, second = equation.loose()
    if exponent.dtype != base.dtype and isinstance(second, Literal):
        second = second.loose()
    elif exponent.dtype != base.dtype and equation.module == "np":
        second = equation.builder.converted(exponent, base.dtype).ref
    return equation.elementwise(Binary("**", first, second))


def _one(equation: Equation) -> Expression:
    """The literal 1 beside an operand of the dtype."""
    return literal(np.ones((), equation.out.dtype)).loose()


def _quotient(equation: Equation, first: Expression, second: Expression) -> Value:
    return equation.elementwise(Binary("/", first, second))


def div(equation: Equation) -> Result:
    """`x / y`; of integers, rounded towards zero."""
    if np.issubdtype(equation.out.dtype, np.integer):
        name = "_divide_integers" if equation.module == "np" else "lax.div"
        if name == "lax.div":
            return call(name, *equation.all_exact())
        return equation.elementwise(call(name, *equation.loose()))
    return _quotient(equation, *equation.loose())


def rem(equation: Equation) -> Result:
    """The remainder that has the sign of the dividend."""
    if equation.module == "np":
        return equation.elementwise(call("np.fmod", *equation.loose()))
    return equation.elementwise(call("jnp.fmod", *equation.loose()))


def rsqrt(equation: Equation) -> Result:
    """`1 / sqrt(x)`."""
    if equation.module == "jnp":
        return equation.elementwise(call("lax.rsqrt", equation.operands[0].ref))
    root = equation.elementwise(call("np.sqrt", equation.operands[0].ref))
    return _quotient(equation, _one(equation), root.ref)


def one_minus_square(equation: Equation) -> Result:
    """`1 - x**2`, in the form that does not lose digits near one."""
    x = equation.operands[0].ref
    one = _one(equation)
    below, above = Binary("-", one, x), Binary("+", one, x)
    return equation.elementwise(Binary("*", below, above))


def polynomial(equation: Equation) -> Result:
    """The polynomial with its highest coefficient first."""
    return equation.elementwise(call(f"{equation.module}.polyval", *equation.loose()[::-1]))


def make_complex(equation: Equation) -> Result:
    """`real + 1j * imaginary`, exact also where one of them is infinite."""
    if equation.module == "jnp":
        return call("lax.complex", *equation.all_exact())
    return equation.elementwise(call("_complex", *(value.ref for value in equation.operands)))


def round_(equation: Equation) -> Result:
    """To the nearest whole number; of two, the even one or the one away from zero."""
    x = equation.operands[0].ref
    if int(equation.params["rounding_method"]) == 1:
        return equation.elementwise(call(f"{equation.module}.round", x))
    if equation.module == "jnp":
        return equation.elementwise(call("lax.round", x))
    return equation.elementwise(call("_round_away", x))


def same(equation: Equation) -> Result:
    """What changes nothing: copies, barriers, names and placements."""
    return equation.operands


_SAME = (
    "copy",
    "copy_p",
    "name",
    "optimization_barrier",
    "stop_gradient",
    "device_put",
    "sharding_constraint",
    "layout_constraint",
    "reshard",
    "pvary",
)

ELEMENTWISE: dict[str, Translation] = {
    **{name: _operator(symbol) for name, symbol in OPERATORS.items()},
    **{name: _function(*names) for name, names in FUNCTIONS.items()},
    "max": _extreme("max"),
    "min": _extreme("min"),
    "neg": neg,
    "not": logical_not,
    "integer_pow": integer_pow,
    "square": square,
    "pow": power,
    "div": div,
    "rem": rem,
    "rsqrt": rsqrt,
    "one_minus_square": one_minus_square,
    "polynomial": polynomial,
    "complex": make_complex,
    "round": round_,
    **dict.fromkeys(_SAME, same),
}
"""Translations by primitive."""
