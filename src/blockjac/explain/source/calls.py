"""Calls of other programs: their bodies are written in place."""

from __future__ import annotations

import numpy as np

from blockjac.base.compat import called, origin
from blockjac.explain.source.builder import Equation, Result, Translation
from blockjac.explain.source.expressions import Binary
from blockjac.explain.source.program import Value


def inlined(equation: Equation) -> Result:
    """The body of a call."""
    return equation.builder.run(called(equation.params), _inputs(equation), equation.needed)


_OPERATORS = {"remainder": "%", "floor_divide": "//"}
"""Functions of `jax.numpy` whose programs are longer than what they mean."""


def jitted(equation: Equation) -> Result:
    """The body of a function under `jit`; an operator where that is all that it computes."""
    name = equation.params.get("name", "")
    body = called(equation.params)
    if name in _OPERATORS and len(equation.operands) == 2 and origin(body).endswith(f":{name}"):
        left, right = equation.operands
        result = equation.elementwise(Binary(_OPERATORS[name], *equation.loose()))
        result.is_python = all(x.is_python or x.known is not None for x in (left, right))
        if name == "remainder" and right.known is not None and right.known.ndim == 0:
            is_whole = np.issubdtype(result.dtype, np.integer) and right.known > 0
            result.bounds = (0, int(right.known) - 1) if is_whole else None
        return result
    return inlined(equation)


def _inputs(equation: Equation) -> list[Value]:
    return list(equation.operands)


def custom_linear_solve(equation: Equation) -> Result:
    """What the given solver computes."""
    jaxprs, counts = equation.params["jaxprs"], equation.params["const_lengths"]
    start = counts.matvec + counts.vecmat
    solve = equation.operands[start : start + counts.solve]
    total = start + counts.solve + counts.transpose_solve
    right = equation.operands[total:]
    return equation.builder.run(jaxprs.solve, [*solve, *right], equation.needed)


def platform_index(equation: Equation) -> Result:
    """The number of a platform, which only a choice between platforms reads."""
    return equation.builder.constant(np.zeros((), np.int32))


CALLS: dict[str, Translation] = {
    **dict.fromkeys(
        [
            "closed_call",
            "core_call",
            "checkpoint",
            "remat",
            "remat2",
            "custom_jvp_call",
            "custom_vjp_call",
            "custom_vjp_call_jaxpr",
            "composite",
        ],
        inlined,
    ),
    "jit": jitted,
    "pjit": jitted,
    "platform_index": platform_index,
    "custom_linear_solve": custom_linear_solve,
}
"""Translations by primitive."""
