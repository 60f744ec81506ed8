"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import Expression, call, integers, method, number
from blockjac.explanations.source.windows import pairs


def convolution(equation: Equation) -> Result:
    """A convolution: its axes in the usual order, and back."""
    params = equation.params
    numbers = params["dimension_numbers"]
    x, kernel = equation.all_exact()
    if equation.module == "jnp":
        return _lax_convolution(equation, x, kernel)
    x = _ordered(x, numbers.lhs_spec)
    kernel = _ordered(kernel, numbers.rhs_spec)
    code: Expression = call(
        "_convolve",
        x,
        kernel,
        integers(params["window_strides"]),
        pairs(params["padding"]),
        integers(params["lhs_dilation"]),
        integers(params["rhs_dilation"]),
        number(params["feature_group_count"]),
        number(params["batch_group_count"]),
    )
    code = _ordered(code, tuple(int(place) for place in np.argsort(numbers.out_spec)))
    dtype = np.dtype(equation.out.dtype)
    if dtype != np.result_type(*(operand.dtype for operand in equation.operands)):
        code = method(code, "astype", equation.builder.dtype(dtype))
    return code


def _ordered(x: Expression, order: Sequence[int]) -> Expression:
    """The axes in another order."""
    if tuple(order) == tuple(range(len(order))):
        return x
    return method(x, "transpose", *map(number, map(int, order)))


def _lax_convolution(equation: Equation, x: Expression, kernel: Expression) -> Expression:
    """`lax.conv_general_dilated`."""
    params = equation.params
    numbers = params["dimension_numbers"]
    options: dict[str, Expression] = {}
    ones = (1,) * (len(equation.shapes[0]) - 2)
    for key in ("lhs_dilation", "rhs_dilation"):
        if tuple(params[key]) != ones:
            options[key] = integers(params[key])
    specs = [tuple(map(int, spec)) for spec in numbers]
    if any(spec != tuple(range(len(spec))) for spec in specs):
        options["dimension_numbers"] = call("lax.ConvDimensionNumbers", *map(integers, specs))
    for key in ("feature_group_count", "batch_group_count"):
        if params[key] != 1:
            options[key] = number(params[key])
    preferred = params.get("preferred_element_type")
    if preferred is not None and np.dtype(preferred) != equation.operands[0].dtype:
        options["preferred_element_type"] = equation.builder.dtype(preferred)
    strides, padding = integers(params["window_strides"]), pairs(params["padding"])
    return call("lax.conv_general_dilated", x, kernel, strides, padding, **options)


CONVOLUTION: dict[str, Translation] = {"conv_general_dilated": convolution}
"""Translations by primitive."""
