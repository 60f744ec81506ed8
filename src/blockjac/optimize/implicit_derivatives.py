"""The derivative of a fit by what it depends on: that of the equation which its result fulfils.

At the minimum the gradient g(p, y) of the cost is zero, whatever the start was, so that

    dp = -(dg/dp)^-1 (dg/dy) dy

The steps that led there have no part in it: a fit that starts at the minimum makes none, and yet
its minimum moves with the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from blockjac.base.compat import is_traced
from blockjac.base.trees import mapped
from blockjac.blocks import BlockMatrix, factorize
from blockjac.optimize.damped_loop import State
from blockjac.optimize.gauss_newton_steps import largest, shifted, total_cost
from blockjac.optimize.least_squares_result import LeastSquaresTrace, Problem
from blockjac.transforms.first_order import grad
from blockjac.transforms.hessians import block_hessian
from blockjac.transforms.products import jvp

CORRECTIONS = 2
"""How often a solution is corrected by what is left over."""

Ended = tuple[State, LeastSquaresTrace]
"""Where a fit ended, and how it went."""

Fit = Callable[[Problem, Any, Sequence[Any]], Ended]
"""From what is minimized, the start and the data."""


def with_implicit_derivative(
    fit: Fit, problem: Problem, params: Any, data: tuple[Any, ...]
) -> Ended:
    """A fit whose parameters and costs have the derivatives of the minimum.

    They are found where they are asked for: without a derivative nothing is added to the program.
    What else a fit tells, such as the trace, has the derivative zero.
    """

    def of_params(params: Any) -> Any:
        return problem.residuals(params, *data)

    # what is traced may be among the data, and in a closure
    residuals, traced = cast("Any", jax.closure_convert)(of_params, params)
    if not is_traced((params, traced)):
        return fit(problem, params, data)
    own = replace(problem, residuals=residuals)

    def cost(params: Any, *traced: Any) -> Any:
        return total_cost(residuals(params, *traced), problem.loss)

    def ended(params: Any, traced: Sequence[Any]) -> Ended:
        return fit(own, params, traced)

    known = cast("Any", jax.custom_jvp)(ended)

    def moving(primals: Any, rates: Any) -> Any:
        """Where the fit ended, and how that moves."""
        (start, traced), (start_rates, traced_rates) = primals, rates
        state, trace = known(start, traced)
        change = _change(cost, state.params, traced, traced_rates)
        moved = _still(state)._replace(
            params=change,
            cost=jvp(cost, (state.params, *traced), (change, *traced_rates))[1],
            initial_cost=jvp(cost, (start, *traced), (start_rates, *traced_rates))[1],
        )
        return (state, trace), (moved, _still(trace))

    known.defjvp(moving)
    return known(params, traced)


def _change(
    cost: Callable[..., Any], params: Any, traced: Sequence[Any], rates: Sequence[Any]
) -> Any:
    """How the minimum moves, by the implicit function theorem.

    Args:
        cost: of the parameters, and of what is traced.
        params: the minimum.
        traced: arrays that the cost depends on.
        rates: how these move.
    """
    if not traced:
        return mapped(lambda part: jnp.zeros_like(part), params)

    def gradient(*traced: Any) -> Any:
        return grad(cost)(params, *traced)

    _, rate = jvp(gradient, tuple(traced), tuple(rates))
    hessian = block_hessian(cost)(params, *traced)

    # as one vector: a part that nothing moves would be no tangent, which a transpose asks for
    right, tree = ravel_pytree(jax.tree.map(jnp.negative, rate))

    def product(vector: Any) -> Any:
        return ravel_pytree(hessian.matvec(tree(vector)))[0]

    def solution(_: Any, vector: Any) -> Any:
        return ravel_pytree(_shortest(hessian, tree(vector)))[0]

    solve = cast("Any", jax.lax.custom_linear_solve)
    return tree(solve(product, right, solution, symmetric=True))


def _still(tree: Any) -> Any:
    """Tangents of zero."""

    def zeros(leaf: Any) -> Any:
        is_inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
        return jnp.zeros_like(leaf) if is_inexact else np.zeros(leaf.shape, jax.dtypes.float0)

    return jax.tree.map(zeros, tree)


def _shortest(hessian: BlockMatrix, right: Any) -> Any:
    """A solution, which does not move what the residuals do not determine.

    Of a singular Hessian, as of points and cameras that may turn together, little is added to the
    diagonal. What that costs in accuracy the corrections give back: with the share s of it and the
    condition number c, the error is the third power of s c.
    """
    share = float(cast("Any", jnp.finfo(hessian.dtype)).eps) ** 0.7
    diagonal = [jnp.abs(part) for part in jax.tree.leaves(hessian.diagonal())]
    most = largest(diagonal)
    least = jnp.where(most == 0, 1, most)
    shift = [share * jnp.where(part == 0, least.astype(part.dtype), part) for part in diagonal]
    factors = factorize(shifted(hessian, shift), assume="sym")
    found = factors.solve(right)
    for _ in range(CORRECTIONS):
        rest = jax.tree.map(jnp.subtract, right, hessian.matvec(found))
        found = jax.tree.map(jnp.add, found, factors.solve(rest))
    return found
