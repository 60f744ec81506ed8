"""The derivative of a fit by what it depends on: that of the equation which its result fulfils.

At the minimum the gradient g(p, y) of the cost is zero, whatever the start was, so that

    dp = -(dg/dp)^-1 (dg/dy) dy

The steps that led there have no part in it: a fit that starts at the minimum makes none, and yet
its minimum moves with the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.base.compat import is_traced
from blockjac.base.trees import flattened
from blockjac.blocks import BlockMatrix, factorize
from blockjac.optimize.damped_loop import State
from blockjac.optimize.gauss_newton_steps import largest, shifted, total_cost
from blockjac.optimize.least_squares_result import LeastSquaresTrace, Problem
from blockjac.transforms.first_order import block_jacobian, grad

CORRECTIONS = 2
"""How often a solution is corrected by what is left over."""

Fit = Callable[[Any], tuple[State, LeastSquaresTrace]]
"""From the start to where the fit ends."""


def is_differentiable(problem: Problem, params: Any, data: tuple[Any, ...]) -> bool:
    """Whether a fit may be differentiated: if it depends on what is traced, also by a closure."""

    def of_params(params: Any) -> Any:
        return problem.residuals(params, *data)

    closed_over = cast("Any", jax.closure_convert)(of_params, params)[1]
    return is_traced((params, closed_over))


def with_implicit_derivative(
    fit: Fit, problem: Problem, params: Any, data: tuple[Any, ...]
) -> tuple[State, LeastSquaresTrace]:
    """A fit whose parameters and costs have the derivatives of the minimum.

    Those of the trace are zero.
    """

    def cost(params: Any) -> Any:
        return total_cost(problem.residuals(params, *data), problem.loss)

    described: list[Any] = []

    def solve(_: Any, params: Any) -> Any:
        state, trace = fit(params)
        parts, tree = flattened((state, trace))
        described.append((tree, [part.dtype for part in parts]))
        # custom_root knows no integers beside the solution: counts and numbers of a Stop as floats
        return state.params, [part.astype(jnp.result_type(part, jnp.float32)) for part in parts]

    def tangent_solve(product: Callable[[Any], Any], right: Any) -> Any:
        """Solve with the Hessian of the cost, by its structure."""
        parts, tree = flattened(right)
        zeros = [jnp.zeros(part.shape, part.dtype) for part in parts]

        def of_parts(*parts: Any) -> list[Any]:
            return jax.tree.leaves(product(jax.tree.unflatten(tree, parts)))

        rows = block_jacobian(of_parts, tuple(range(len(parts))))(*zeros)
        hessian = BlockMatrix([list(row) for row in rows], tree, tree)
        return _shortest(hessian, right)

    custom_root = cast("Any", jax.lax.custom_root)
    found, parts = custom_root(grad(cost), params, solve, tangent_solve, has_aux=True)
    tree, dtypes = described[-1]
    state, trace = jax.tree.unflatten(tree, map(jax.lax.convert_element_type, parts, dtypes))
    return state._replace(params=found, cost=cost(found), initial_cost=cost(params)), trace


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
