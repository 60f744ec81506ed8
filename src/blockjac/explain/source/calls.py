"""Calls of other programs: their bodies are written in place."""

from __future__ import annotations

from blockjac.base.compat import called
from blockjac.explain.source.builder import Equation, Result, Translation
from blockjac.explain.source.program import Value


def inlined(equation: Equation) -> Result:
    """The body of a call."""
    return equation.builder.run(called(equation.params), _inputs(equation), equation.needed)


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


CALLS: dict[str, Translation] = {
    **dict.fromkeys(
        "jit pjit closed_call core_call checkpoint remat remat2 custom_jvp_call custom_vjp_call "
        "custom_vjp_call_jaxpr composite".split(),
        inlined,
    ),
    "custom_linear_solve": custom_linear_solve,
}
"""Translations by primitive."""
