"""What the loops of a program stack."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from blockjac.base import compat


def stacked(fun: Callable[..., Any], *arguments: Any) -> int:
    """How many floating-point numbers the loops of a program stack, in all of their runs.

    Args:
        fun: traced with the arguments.
        arguments: of the function.
    """
    return _stacked(compat.open_jaxpr(jax.make_jaxpr(fun)(*arguments)))


def _stacked(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        runs = 1
        if equation.primitive.name == "scan":
            runs, (_, carried) = equation.params["length"], compat.scan_counts(equation.params)
            avals = [one.aval for one in equation.outvars[carried:]]
            total += sum(one.size for one in avals if jnp.issubdtype(one.dtype, jnp.floating))
        total += runs * sum(map(_stacked, core.jaxprs_in_params(equation.params)))
    return total
