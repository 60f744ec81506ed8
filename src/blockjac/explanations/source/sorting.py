"""Sorted arrays and the largest entries."""

from __future__ import annotations

from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    Display,
    Subscript,
    call,
    number,
)
from blockjac.explanations.source.program import OBJECT, Value


def sort(equation: Equation) -> Result:
    """`sort(x, axis=0)`; of several arrays, in the order of the first ones."""
    axis, keys = equation.params["dimension"], equation.params["num_keys"]
    builder, module = equation.builder, equation.module
    if len(equation.operands) == 1:
        return call(f"{module}.sort", equation.exact(0), axis=number(axis))
    operands = Display("(", tuple(equation.all_exact()))
    options = {"axis": number(axis), "keys": number(keys)}
    if module == "jnp":
        options = {"dimension": number(axis), "num_keys": number(keys)}
    code = call("_sort" if module == "np" else "lax.sort", operands, **options)
    whole = builder.value(code, (), OBJECT, "ordered")
    return parts_of(equation, whole)


def parts_of(equation: Equation, whole: Value) -> list[Value | None]:
    """The entries of a tuple that are used."""
    return [
        equation.builder.value(Subscript(whole.ref, (number(place),)), out.shape, out.dtype)
        if is_needed
        else None
        for place, (out, is_needed) in enumerate(
            zip(equation.outputs, equation.needed, strict=True)
        )
    ]


def top_k(equation: Equation) -> Result:
    """The largest entries and their places."""
    rank = len(equation.shapes[0])
    axis = equation.params.get("axis", equation.params.get("reduction_dimension", rank - 1)) % rank
    options = {} if axis == rank - 1 else {"axis": number(axis)}
    k = number(int(equation.params["k"]))
    is_largest = equation.params.get("is_max_k", True)
    if equation.module == "jnp":
        name = "lax.top_k"
        if equation.name == "approx_top_k":
            name = "lax.approx_max_k" if is_largest else "lax.approx_min_k"
            options = {"reduction_dimension": number(axis)} if options else {}
        code = call(name, equation.exact(0), k, **options)
    else:
        code = call("_top_k" if is_largest else "_bottom_k", equation.exact(0), k, **options)
    whole = equation.builder.value(code, (), OBJECT, "largest")
    return parts_of(equation, whole)


SORTING: dict[str, Translation] = {"sort": sort, "top_k": top_k, "approx_top_k": top_k}
"""Translations by primitive."""
