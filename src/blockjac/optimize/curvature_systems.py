"""Systems with the Gauss-Newton matrix of a model's loss, solved in the cheapest of three ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.sparse import linalg

from blockjac.base.trees import mapped
from blockjac.blocks import Block, BlockMatrix, factorize, star, tree_vectors
from blockjac.curvature import by_outputs
from blockjac.curvature.gauss_newton import GaussNewton
from blockjac.curvature.ggn import ggn
from blockjac.errors import ArgumentError
from blockjac.optimize.gauss_newton_steps import shifted
from blockjac.optimize.model_loss import ModelLoss
from blockjac.optimize.parameters import inner_product, move
from blockjac.planning.jaxpr_cost import operations
from blockjac.transforms.products import jvp

By = Literal["blocks", "outputs", "cg"]

CG_STEPS = 50
"""The most products with the matrix for one solution."""

CG_TOLERANCE = 0.1
"""The share of the gradient that a solution by conjugate gradients may leave."""


@dataclass(frozen=True)
class Curvature:
    """The matrix `J' H J + penalty` of a loss at a point.

    Attributes:
        matrix: `J' H J`.
        penalty: the strengths of an L2 penalty, a tree like the parameters; None without.
        by: how systems are solved.
        outputs: the model, of the parameters alone.
        params: the point.
    """

    matrix: GaussNewton
    penalty: Any
    by: By
    outputs: Callable[[Any], Any]
    params: Any

    def product(self, tangent: Any) -> Any:
        """The matrix by a tree of arrays."""
        product = self.matrix.matvec(tangent)
        if self.penalty is None:
            return product
        weighted = jax.tree.map(jnp.multiply, self.penalty, tangent)
        return jax.tree.map(jnp.add, product, weighted)

    def along(self, direction: Any) -> Array:
        """The curvature along a direction, `d' A d / d' d`; 1 where there is none."""
        squares = inner_product(direction, direction)
        bent = inner_product(direction, self.product(direction))
        share = bent / jnp.where(squares > 0, squares, 1)
        return jnp.where(share > 0, share, 1)

    def decrease(self, gradient: Any, change: Any) -> Array:
        """By how much the model says that the loss falls with a step."""
        return -inner_product(change, gradient) - inner_product(change, self.product(change)) / 2

    def step(self, gradient: Any, shift: Array) -> Any:
        """The solution of `(A + shift) h = -gradient`."""
        return self._solved(jax.tree.map(jnp.negative, gradient), shift)

    def bent(self, change: Any, shift: Array) -> Any:
        """A step with its second-order correction, if that is not too large.

        Args:
            change: the step.
            shift: that of the step.
        """

        def pushed(params: Any) -> Any:
            return jvp(self.outputs, (params,), (change,))[1]

        second = jvp(pushed, (self.params,), (change,))[1]
        force = self.matrix.jacobian.T.matvec(self.matrix.inner.matvec(second))
        correction = self._solved(force, shift)
        is_small = inner_product(correction, correction) <= 0.5 * inner_product(change, change)
        return move(change, jnp.where(is_small, -0.5, 0.0), correction)

    def _solved(self, right: Any, shift: Array) -> Any:
        """The solution for a right-hand side."""
        if self.by == "cg":

            def shifted_product(tangent: Any) -> Any:
                return move(self.product(tangent), shift, tangent)

            return cast("Any", linalg).cg(
                shifted_product, right, tol=CG_TOLERANCE, maxiter=CG_STEPS
            )[0]
        if self.penalty is None:
            diagonal = mapped(lambda part: jnp.full_like(part, shift), right)
        else:
            diagonal = mapped(lambda part: part + shift.astype(part.dtype), self.penalty)
        if self.by == "outputs":
            return self._by_outputs(right, diagonal)
        matrix = shifted(self.matrix, jax.tree.leaves(diagonal))
        return factorize(matrix, assume="pos").solve(right)

    def _by_outputs(self, right: Any, diagonal: Any) -> Any:
        """The solution of `(J' H J + D) x = right` as `S (S J' H J S + 1)^-1 S right`.

        S is the inverse root of D, so that a matrix as large as the outputs is factored.
        """
        scale = mapped(jax.lax.rsqrt, diagonal)
        scales = [Block.diag(part) for part in jax.tree.leaves(scale)]
        jacobian = self.matrix.jacobian
        rows = [[star(a, s) for a, s in zip(row, scales, strict=True)] for row in jacobian.rows]
        scaled = BlockMatrix(rows, jacobian.out_tree, jacobian.wrt_tree)
        solver = by_outputs.factored(scaled, self.matrix.inner, jnp.ones((), jacobian.dtype))
        flat = tree_vectors.flat(jax.tree.map(jnp.multiply, scale, right))
        solution = tree_vectors.tree(solver.solve(flat), jacobian.wrt_shapes, jacobian.wrt_tree)
        return jax.tree.map(jnp.multiply, scale, solution)


def curvature_of(
    loss: Callable[..., Any], params: Any, data: tuple[Any, ...], by: str, solver: str
) -> Curvature:
    """The curvature of a model's loss at a point.

    Args:
        loss: of the user.
        params: the point.
        data: further arguments of the loss.
        by: how to solve systems; "auto" for the way that is predicted to be the fastest.
        solver: the name of who asks.

    Raises:
        ArgumentError: if the loss is not a `ModelLoss`.
    """
    if not isinstance(loss, ModelLoss):
        raise ArgumentError(
            f"{solver} needs to know the model's outputs, but the loss is a plain function; give "
            "optimize.ModelLoss(model, loss), with model(params, X) and loss(Y, outputs), or use "
            "optimize.Descent or optimize.SciPy"
        )
    parts = loss.parts(data)

    def outputs(params: Any) -> Any:
        return loss.model(params, *parts.inputs)

    matrix = ggn(loss.model, loss.loss)(params, *parts.inputs, parts.targets)
    penalty = loss.strengths(params, data) if loss.is_penalized else None
    curvature = Curvature(matrix, penalty, "cg", outputs, params)
    return replace(curvature, by=cheapest(curvature) if by == "auto" else by)


def cheapest(curvature: Curvature) -> By:
    """The way that is predicted to solve a system the fastest."""
    product = operations(jax.make_jaxpr(curvature.product)(curvature.params))
    seconds = curvature.matrix.seconds_by(1.0, "pos")
    seconds["cg"] = CG_STEPS * product.seconds()
    return cast("By", min(seconds, key=seconds.__getitem__))
