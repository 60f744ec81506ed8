"""`explain`: trace a function, and give its explanation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.extend import source_info_util

from blockjac.algebra.losses import keeping_lines
from blockjac.engine.arguments import ArgNums, check_argnums, check_callable, traced_call
from blockjac.engine.call import Call
from blockjac.errors import DenseTooLargeError
from blockjac.explanations.explanation import Explanation
from blockjac.explanations.loops import Inside
from blockjac.explanations.program import program_of
from blockjac.graph.trace import named_as
from blockjac.planning import Plan
from blockjac.transforms.plans import plan
from blockjac.transforms.traced_once import Orders

source_info_util.register_exclusion(__file__)  # the place of an equation is the user's line


def explain(
    fun: Callable[..., Any], argnums: ArgNums = 0, *, order: Orders = "auto"
) -> Callable[..., Explanation]:
    """The chain rule of a function: its steps, their Jacobians, and how these are contracted.

    Args:
        fun: any JAX function of real arrays and trees of them. Functions under `jax.jit` and
            `blockjac.step` are steps; what lies between them is explained by primitives.
        argnums: which positional arguments to differentiate.
        order: of elimination, as in `jacobian`, for the costs that are shown.

    Returns:
        A function of the same arguments, arrays or `jax.ShapeDtypeStruct`s in their place, that
        gives an `Explanation`. Nothing is computed but what checks a formula.

    Raises:
        TypeError: for integer and complex inputs, and for integer results.
        ValueError: for `argnums` that do not fit the arguments.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> def loss(w, X, y):
        ...     return jnp.sum((X @ w - y) ** 2)
        >>> explanation = blockjac.explain(loss)(jnp.ones(3), jnp.ones((5, 3)), jnp.ones(5))
        >>> print(explanation.chain_rule)
        D_w loss = D_v₃ sum ⋆ D_v₂ power ⋆ D_v₁ sub ⋆ D_w dot
    """
    check_callable(fun, "explain")
    check_argnums(argnums)

    def explanation_of(*args: Any, **kwargs: Any) -> Explanation:
        """Trace the function, and leave everything else until it is asked for."""
        with keeping_lines():
            call = _traced(fun, argnums, args, kwargs, keeps_calls=True)
        call.check_real()
        return _explanation(call, fun, argnums, order, args, kwargs)

    return named_as(fun, explanation_of)


def _traced(
    fun: Callable[..., Any], argnums: ArgNums, args: Any, kwargs: Any, keeps_calls: bool = False
) -> Call:
    """The call of the function, of shapes too."""
    return traced_call(
        "explain", fun, argnums, args, kwargs, abstract=True, keeps_calls=keeps_calls
    )


def _explanation(
    call: Call, fun: Callable[..., Any], argnums: ArgNums, order: Orders, args: Any, kwargs: Any
) -> Explanation:
    """The explanation of a traced function."""
    return Explanation(
        program_of(call, fun),
        lambda: _planned(fun, argnums, order, args, kwargs),
        lambda: _traced(fun, argnums, args, kwargs),
        _inside,
        lambda module: module.functions(fun, args, kwargs),
    )


def _inside(inside: Inside) -> Explanation:
    """The explanation of what a step runs; a result may be an integer, such as a loop's counter."""
    options = inside.function, inside.differentiated
    with keeping_lines():
        call = _traced(*options, inside.shapes, {}, keeps_calls=True)
    return _explanation(call, *options, "auto", inside.shapes, {})


def _planned(
    fun: Callable[..., Any], argnums: ArgNums, order: Orders, args: Any, kwargs: dict[str, Any]
) -> Plan:
    """The plan of the dense Jacobian; of its blocks where that is too large to write out."""
    try:
        return plan(fun, argnums, order=order)(*args, **kwargs)
    except DenseTooLargeError:
        return plan(fun, argnums, order=order, dense=False)(*args, **kwargs)
