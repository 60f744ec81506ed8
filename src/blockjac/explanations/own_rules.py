"""Steps with a backward rule of the user's own that is no Jacobian: it clips cotangents, say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.extend.core

from blockjac.base import compat
from blockjac.explanations.program import Program, Step
from blockjac.graph.linearity import is_inexact, is_linear


def steps_without_a_jacobian(program: Program) -> list[Step]:
    """The steps whose own backward rule is not seen to be linear in the cotangents.

    What such a rule gives depends on the whole cotangent that comes back, so that no product of
    elemental Jacobians is what reverse mode computes.

    Args:
        program: whose active steps are looked at.
    """
    return [
        step
        for step in program.active_steps
        if _has_backward_rule(step.equation) and not _is_linear(program, step)
    ]


def _has_backward_rule(equation: Any) -> bool:
    """Whether an equation, or a program inside of it, is a function under `jax.custom_vjp`."""
    if equation.primitive.name.startswith("custom_vjp_call"):
        return True
    inside: Any = jax.extend.core.jaxprs_in_params(equation.params)
    return any(_has_backward_rule(own) for body in inside for own in compat.open_jaxpr(body).eqns)


def _is_linear(program: Program, step: Step) -> bool:
    """Whether the pullback of a step is seen to be linear in the cotangents."""
    avals = [compat.struct(program.graph.avals[value]) for value in step.operands]
    floats = [n for n, aval in enumerate(avals) if is_inexact(aval)]
    function = step.function(program.heads(step))

    def pulled(operands: list[Any], cotangents: list[Any]) -> list[Any]:
        """The cotangents of the operands that are floats."""

        def of_floats(*arrays: Any) -> list[Any]:
            """The step with its other operands fixed."""
            whole = list(operands)
            for position, array in zip(floats, arrays, strict=True):
                whole[position] = array
            return function(*whole)

        primals = [operands[position] for position in floats]
        pull = cast("Callable[..., Any]", jax.vjp(of_floats, *primals)[1])
        return list(pull(cotangents))

    heads = [compat.struct(program.graph.avals[value]) for value in program.heads(step)]
    closed = jax.make_jaxpr(pulled)(avals, heads)
    return is_linear(closed, [*(False for _ in avals), *(True for _ in heads)])
