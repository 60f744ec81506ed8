"""What the loops of a program stack."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core


def stacked(fun: Callable[..., Any], *arguments: Any) -> int:
    """How many floating-point numbers the loops of a program stack, in all of their runs.

    Args:
        fun: traced with the arguments.
        arguments: of the function.
    """
    return _stacked(jax.make_jaxpr(fun)(*arguments).jaxpr)


def _stacked(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        runs = 1
        if equation.primitive.name == "scan":
            runs, carried = equation.params["length"], equation.params["num_carry"]
            avals = [one.aval for one in equation.outvars[carried:]]
            total += sum(one.size for one in avals if jnp.issubdtype(one.dtype, jnp.floating))
        total += runs * sum(map(_stacked, core.jaxprs_in_params(equation.params)))
    return total
