"""Functions with a forward derivative rule of their own (`jax.custom_jvp`)."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend import core

from blockjac.base import compat
from blockjac.graph.linearity import is_inexact, is_linear
from blockjac.graph.primitives import CALLS


def values_and_tangents(
    primitive: Any,
    params: dict[str, Any],
    avals: Sequence[Any],
    active: Sequence[int],
    inexact: Sequence[int],
) -> Any:
    """The jaxpr of a custom_jvp function together with its rule.

    Args:
        primitive: the primitive of the call.
        params: its parameters.
        avals: the types of the operands.
        active: which operands have tangents.
        inexact: which results have tangents.

    Returns:
        A closed jaxpr from the operands and then the tangents to the results and their tangents.
    """

    def with_tangents(values: list[Any], tangents: list[Any]) -> tuple[list[Any], list[Any]]:
        """The results, and the rates at which they change along the tangents."""

        def of_active(*replacements: Any) -> list[Any]:
            operands = list(values)
            for position, replacement in zip(active, replacements, strict=True):
                operands[position] = replacement
            return compat.bind(primitive, operands, params)

        point = tuple(values[position] for position in active)
        results, rates = jax.jvp(of_active, point, tuple(tangents))
        return list(results), [rates[position] for position in inexact]

    shapes = [compat.struct(aval) for aval in avals]
    return jax.make_jaxpr(with_tangents)(shapes, [shapes[position] for position in active])


def calls_itself(closed: Any, params: dict[str, Any], results: Sequence[int]) -> bool:
    """Whether a rule gets the results of its function from that function.

    A further derivative then takes the rule for the results too. Otherwise JAX differentiates what
    the rule computes for them, which is something else if the rule is not its derivative.

    Args:
        closed: the jaxpr of the function together with its rule.
        params: the parameters of its call.
        results: the numbers of the results in question.
    """
    source = compat.function_source(compat.called(params))
    return all(_is_result_of(source, compat.open_jaxpr(closed), number) for number in results)


def _is_result_of(source: str, jaxpr: Any, number: int) -> bool:
    """Whether a result of a jaxpr is that of a function with a rule of its own, by its source."""
    result = jaxpr.outvars[number]
    for equation in jaxpr.eqns:
        if not any(result is variable for variable in equation.outvars):
            continue
        called = compat.called(equation.params) if equation.primitive.name in CALLED else None
        if called is None or equation.primitive.name == "custom_jvp_call":
            return called is not None and compat.function_source(called) == source
        position = next(n for n, variable in enumerate(equation.outvars) if variable is result)
        return _is_result_of(source, compat.open_jaxpr(called), position)
    return False


CALLED = CALLS | {"custom_jvp_call"}
"""Calls inside of which the results of a function may be found."""


def has_linear_rule(params: dict[str, Any]) -> bool:
    """Whether the rule of a custom_jvp function is linear in the tangents of all operands.

    Args:
        params: the parameters of its call.
    """
    called = compat.called(params)
    if called not in _linear_rules:
        _linear_rules[called] = _has_linear_rule(params)
    return _linear_rules[called]


_linear_rules: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
"""Remembered by the jaxpr of the function: for a loop the question comes up again and again."""


def _has_linear_rule(params: dict[str, Any]) -> bool:
    """Trace the rule with tangents of all float and complex operands, and prove it linear."""
    called = compat.open_jaxpr(compat.called(params))
    avals = [variable.aval for variable in called.invars]
    active, inexact = (
        [position for position, variable in enumerate(variables) if is_inexact(variable.aval)]
        for variables in (called.invars, called.outvars)
    )
    closed = values_and_tangents(core.primitives.custom_jvp_call_p, params, avals, active, inexact)
    are_tangents = [False] * len(avals) + [True] * len(active)
    return is_linear(closed, are_tangents, first=len(called.outvars))
