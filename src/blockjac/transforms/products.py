"""Products of a Jacobian with vectors and with a Jacobian: vjp, jvp, chain_rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.arrays import as_shape
from blockjac.engine.arguments import check_callable, traced_call
from blockjac.engine.call import Call
from blockjac.engine.computations import Pullback, Pushforward, Values
from blockjac.engine.leaves import float0_zeros
from blockjac.errors import BlockShapeError, DifferentiationTypeError
from blockjac.graph.linearity import is_inexact
from blockjac.transforms.shell import answered
from blockjac.transforms.tangents import check_tangents, moving_tangents, result_cotangents
from blockjac.transforms.traced_once import Function, traced_once


def vjp(fun: Function, *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function and its pullback, as `jax.vjp`.

    Args:
        fun: any JAX function.
        primals: the point.
        has_aux: whether `fun` returns `(value, aux)`.

    Returns:
        `(value, pullback)`, or `(value, pullback, aux)`: the pullback takes a cotangent in the tree
        of the value and gives a tuple of cotangents, one per argument.

    Raises:
        TypeError: for primals and results that are not arrays.
        ValueError: from the pullback, if a cotangent's tree, shape or dtype differs.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> value, pullback = blockjac.vjp(lambda x, y: x * y, 2.0, 3.0)
        >>> pullback(1.0)
        (Array(3., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    check_callable(fun, "vjp")
    everything = tuple(range(len(primals)))
    call = traced_call("vjp", fun, everything, primals, {}, has_aux=has_aux, allow_int=True)
    outs, residuals = answered(Values(call.count, keep=True), call)

    # A pytree that holds the residuals, like JAX's pullback, so that it may leave jit and vmap.
    static = replace(call, arguments=(), graph=replace(call.graph, captured=[]))
    name = getattr(fun, "__name__", type(fun).__name__)
    pullback = jax.tree_util.Partial(partial(_pulled_back, static, name), residuals)
    value = call.value(outs)
    if not has_aux:
        return value, pullback
    return value, pullback, call.auxiliary(outs[call.count :]).tree()


def jvp(
    fun: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> Any:
    """The value of a function and its directional derivative, as `jax.jvp`.

    Args:
        fun: any JAX function.
        primals: a tuple or list with the point.
        tangents: the direction, in the tree and shapes of `primals`.
        has_aux: whether `fun` returns `(value, aux)`.

    Returns:
        `(value, tangent)`, or `(value, tangent, aux)`.

    Raises:
        TypeError: if primals and tangents differ in tree or shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.jvp(jnp.sin, (0.0,), (2.0,))
        (Array(0., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    check_callable(fun, "jvp")
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise DifferentiationTypeError(
            "primal and tangent arguments to blockjac.jvp must be tuples or lists; "
            f"found {type(primals).__name__} and {type(tangents).__name__}."
        )
    primals, tangents = tuple(primals), tuple(tangents)
    check_tangents("jvp", fun, primals, tangents)

    def moved(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
        """The results, their tangents and the auxiliary result."""
        everything = tuple(range(len(primals)))
        call = traced_call("jvp", fun, everything, primals, {}, has_aux=has_aux, allow_int=True)
        tangent_leaves = moving_tangents(jax.tree.leaves(tangents), call.inputs)
        outs, rates = answered(Pushforward(call.count, call.smooth), call, extra=tangent_leaves)
        moving = iter(rates)
        tangent = call.value(
            [next(moving) if is_inexact(out) else float0_zeros(out.shape) for out in call.results]
        )
        return (call.value(outs), tangent), call.auxiliary(outs[call.count :])

    (value, tangent), aux = traced_once(moved, "forward", fun)(primals, tangents)
    return (value, tangent, aux.tree()) if has_aux else (value, tangent)


def chain_rule(Dg: Any, Df: Any, var_shape: int | Sequence[int]) -> jax.Array:
    """The dense Jacobian of `g o f`: the contraction over all axes of the variable in between.

    Args:
        Dg: array of shape `(*out, *var_shape)`.
        Df: array of shape `(*var_shape, *wrt)`.
        var_shape: shape of the variable in between; as in NumPy, `n` is `(n,)`.

    Returns:
        An array of shape `(*out, *wrt)`.

    Raises:
        BlockShapeError: if an array does not carry the variable's axes; both shapes are named.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.chain_rule(jnp.ones((2, 3, 4)), jnp.ones((3, 4, 5)), (3, 4)).shape
        (2, 5)
    """
    Dg, Df, var_shape = jnp.asarray(Dg), jnp.asarray(Df), as_shape(var_shape)
    rank = len(var_shape)
    if Dg.ndim < rank or Dg.shape[Dg.ndim - rank :] != var_shape or Df.shape[:rank] != var_shape:
        raise BlockShapeError(
            f"chain_rule over a variable of shape {var_shape} needs Dg to end and Df to begin with "
            f"it, but Dg has shape {Dg.shape} and Df has shape {Df.shape}"
        )
    return jnp.tensordot(Dg, Df, axes=rank)


def _pulled_back(call: Call, name: str, residuals: list[Any], *cotangents: Any) -> tuple[Any, ...]:
    """The answer of a pullback: one cotangent an argument."""
    if len(cotangents) != 1:
        raise DifferentiationTypeError(
            f"The function returned by blockjac.vjp applied to {name} was called with "
            f"{len(cotangents)} arguments, but must be called with a single one, the cotangent of "
            "the value: for a function that returns a tuple, one tuple"
        )
    cotangent_leaves = result_cotangents(call, cotangents[0])
    return call.argument_tree(
        answered(Pullback(call.count, call.smooth), call, residuals, cotangent_leaves)
    )
