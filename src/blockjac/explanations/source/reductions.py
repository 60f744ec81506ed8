"""Reductions and running sums in both targets."""

from __future__ import annotations

import numpy as np

from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    FULL,
    Expression,
    Literal,
    Slice,
    Subscript,
    Text,
    call,
    integers,
    method,
    number,
)
from blockjac.explanations.source.program import Value
from blockjac.explanations.source.views import padded


def _reduction(name: str) -> Translation:
    """`sum(x, axis=1)`, over axes that the value has."""

    def translate(equation: Equation) -> Result:
        """The result of one equation."""
        axes = sorted(axis % max(len(equation.shapes[0]), 1) for axis in equation.params["axes"])
        if not axes:
            return equation.operands[0]
        value = _with_axes(equation, axes)
        lacking = len(equation.shapes[0]) - len(value.shape)
        own = [axis - lacking for axis in axes]
        options: dict[str, Expression] = {}
        if len(own) < len(value.shape):
            options["axis"] = number(own[0]) if len(own) == 1 else integers(own)
        dtype = np.dtype(equation.out.dtype)
        if name in ("sum", "prod") and dtype.kind in "iu" and dtype.name != "int64":
            options["dtype"] = equation.builder.dtype(dtype)
        if 0 in [value.shape[axis] for axis in own] and name in ("max", "min"):
            options["initial"] = extreme(equation, name == "max")
        code = call(f"{equation.module}.{name}", value.ref, **options)
        left = [size for axis, size in enumerate(value.shape) if axis not in own]
        result = equation.builder.value(code, left, equation.out.dtype)
        result.reduced = tuple(own)
        return result

    return translate


def extreme(equation: Equation, is_largest: bool) -> Expression:
    """What a maximum or minimum of nothing is: the number that loses against all others."""
    dtype = np.dtype(equation.out.dtype)
    if dtype.kind == "f":
        return Text(f"{'-' if is_largest else ''}{equation.module}.inf")
    limits = np.iinfo(dtype)
    return Text(str(limits.min if is_largest else limits.max))


def _with_axes(equation: Equation, axes: list[int]) -> Value:
    """The operand, broadcast if it lacks one of the axes."""
    value, shape = equation.operands[0], equation.shapes[0]
    sizes = padded(value.shape, len(shape))
    has_all = all(sizes[axis] == shape[axis] for axis in axes)
    has_rank = all(axis >= len(shape) - len(value.shape) for axis in axes)
    if has_all and has_rank and not isinstance(value.code, Literal):
        return value
    return equation.builder.exact(value, shape)


def _argument(name: str) -> Translation:
    """`argmax(x, axis=1)`."""

    def translate(equation: Equation) -> Result:
        """The result of one equation."""
        (axis,) = equation.params["axes"]
        code = call(f"{equation.module}.{name}", equation.exact(), axis=number(axis))
        dtype = np.dtype(equation.out.dtype)
        if dtype != np.int64:
            code = method(code, "astype", equation.builder.dtype(dtype))
        return code

    return translate


def _running(numpy_name: str, jax_name: str) -> Translation:
    """`cumsum(x, axis=0)`; from the end by turning the axis around twice."""

    def translate(equation: Equation) -> Result:
        """The result of one equation."""
        axis, reverse = equation.params["axis"], equation.params["reverse"]
        if equation.module == "jnp":
            options = {"axis": number(axis)}
            if reverse:
                options["reverse"] = Text("True")
            return call(jax_name, equation.exact(), **options)
        turn = (*(FULL,) * axis, Slice(None, None, Text("-1")))
        x = equation.exact()
        options = {"axis": number(axis)}
        dtype = np.dtype(equation.out.dtype)
        if numpy_name in ("np.cumsum", "np.cumprod") and dtype.kind in "iu":
            options |= equation.builder.dtype_option(dtype)
        code = call(numpy_name, Subscript(x, turn) if reverse else x, **options)
        return Subscript(code, turn) if reverse else code

    return translate


REDUCTIONS: dict[str, Translation] = {
    "reduce_sum": _reduction("sum"),
    "reduce_max": _reduction("max"),
    "reduce_min": _reduction("min"),
    "reduce_prod": _reduction("prod"),
    "reduce_and": _reduction("all"),
    "reduce_or": _reduction("any"),
    "reduce_xor": _reduction("bitwise_xor.reduce"),
    "argmax": _argument("argmax"),
    "argmin": _argument("argmin"),
    "cumsum": _running("np.cumsum", "lax.cumsum"),
    "cumprod": _running("np.cumprod", "lax.cumprod"),
    "cummax": _running("np.maximum.accumulate", "lax.cummax"),
    "cummin": _running("np.minimum.accumulate", "lax.cummin"),
    "cumlogsumexp": _running("np.logaddexp.accumulate", "lax.cumlogsumexp"),
}
"""Translations by primitive."""
