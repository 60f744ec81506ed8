"""What a traced program holds: the operations of its equations, counted one by one.

This is the other side of a prediction: a plan prices an elimination before it is emitted, and this
counts what was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax.extend import core

from blockjac.algebra.cost import Cost
from blockjac.base import compat
from blockjac.graph.expand import ordinary_branch
from blockjac.graph.primitives import facts_of


def operations(jaxpr: Any) -> Cost:
    """The arithmetic of a jaxpr on floats and complex numbers, loops by their length.

    `mul` and `div` count one multiplication per entry of the result, `add` and `sub` one addition;
    a `dot_general` its scalar products and sums, a reduction its sums. What moves, compares,
    selects or negates counts nothing; every other operation (an exponential, a factorization)
    counts one operator operation per entry of its results.

    Args:
        jaxpr: open or closed.

    Returns:
        The counts; `bytes` are those of all operands and results.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> cost = operations(jax.make_jaxpr(lambda x: x @ x * 2.0)(jnp.ones((3, 3))))
        >>> cost.multiplications, cost.additions
        (36, 18)
    """
    total = Cost()
    for equation in compat.open_jaxpr(jaxpr).eqns:
        total.add(_of_equation(equation))
    return total


def _of_equation(equation: Any) -> Cost:
    """The cost of one equation, by the count that the table of primitives gives."""
    name = equation.primitive.name
    kind = facts_of(name).operations
    if kind == "other":
        inner = [operations(jaxpr) for jaxpr in core.jaxprs_in_params(equation.params)]
        if inner:
            return _of_call(name, equation.params, inner)
    if not equation.outvars:
        return Cost()  # it prints, or calls back
    out = equation.outvars[0].aval
    if not hasattr(out, "dtype") or not jnp.issubdtype(out.dtype, jnp.inexact):
        return Cost()
    cost = COUNTED[kind](equation) if kind in COUNTED else Cost()
    if kind == "other":
        cost = Cost(operator_operations=sum(_entries(variable) for variable in equation.outvars))
    cost.bytes = sum(
        _entries(variable) * variable.aval.dtype.itemsize
        for variable in (*equation.invars, *equation.outvars)
        if hasattr(variable.aval, "dtype") and hasattr(variable.aval.dtype, "itemsize")
    )
    return cost


def _of_call(name: str, params: Mapping[str, Any], inner: list[Cost]) -> Cost:
    """A call once, a loop as often as it runs, of branches the dearest that this machine has."""
    if name == "cond":
        own = ordinary_branch(dict(params))
        if own is not None:
            return operations(own)
        return max(inner, key=lambda cost: cost.flops)
    times = params.get("length", 1) if name == "scan" else 1
    total = Cost()
    for cost in inner:
        total.add(cost)
    return Cost(
        total.multiplications * times,
        total.additions * times,
        operator_operations=total.operator_operations * times,
        bytes=total.bytes * times,
    )


def _entries(variable: Any) -> int:
    return math.prod(getattr(variable.aval, "shape", ()))


def _multiplied(equation: Any) -> Cost:
    return Cost(multiplications=_entries(equation.outvars[0]))


def _added(equation: Any) -> Cost:
    return Cost(additions=_entries(equation.outvars[0]))


def _contracted(equation: Any) -> Cost:
    (axes, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    entries, inner = _entries(equation.outvars[0]), math.prod(shape[axis] for axis in axes)
    return Cost(multiplications=entries * inner, additions=entries * max(inner - 1, 0))


def _reduced(equation: Any) -> Cost:
    return Cost(additions=max(_entries(equation.invars[0]) - _entries(equation.outvars[0]), 0))


def _scattered(equation: Any) -> Cost:
    return Cost(additions=_entries(equation.invars[2]))


COUNTED: Mapping[str, Callable[[Any], Cost]] = {
    "product": _multiplied,
    "sum": _added,
    "contraction": _contracted,
    "reduction": _reduced,
    "scatter": _scattered,
}
"""How the operations of a primitive are counted, by what it has in that column of the table."""
