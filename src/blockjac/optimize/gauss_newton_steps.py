"""Residuals linearized at a point, and steps of the damped normal equations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from blockjac.base.trees import flattened, mapped, tree_structure
from blockjac.blocks import Block, BlockMatrix, add, factorize
from blockjac.blocks.normal_matrix import normal_matrix
from blockjac.blocks.trees_of_blocks import matrix_of_tree
from blockjac.optimize.parameters import inner_product
from blockjac.optimize.robust_losses import RobustLoss
from blockjac.transforms.first_order import block_jacobian


class LinearModel(NamedTuple):
    """Residuals at a point, and the quadratic model of their cost around it."""

    residuals: Any
    """The tree of residuals."""
    gradient: Any
    """The gradient of the cost, a tree like the parameters."""
    normal: BlockMatrix
    """`J' W J`, with W the second derivative of the cost by the residuals."""


def linear_model(
    residuals: Callable[..., Any], params: Any, data: Sequence[Any], loss: RobustLoss
) -> LinearModel:
    """Linearize residuals at a point."""

    def with_values(params: Any) -> tuple[Any, Any]:
        values = residuals(params, *data)
        return values, values

    tree, values = block_jacobian(with_values, has_aux=True)(params)
    leaves, out_tree = flattened(values)
    jacobian = matrix_of_tree(tree, out_tree, tree_structure(params))
    weights = None if loss.is_linear else [loss.curvature(leaf) for leaf in leaves]
    forces = jax.tree.unflatten(out_tree, [loss.gradient(leaf) for leaf in leaves])
    return LinearModel(values, jacobian.T.matvec(forces), normal_matrix(jacobian, weights))


def total_cost(residuals: Any, loss: RobustLoss) -> Array:
    """The cost of a tree of residuals."""
    return jnp.asarray(sum(loss.cost(leaf) for leaf in jax.tree.leaves(residuals)))


def total_decrease(before: Any, after: Any, loss: RobustLoss) -> Array:
    """By how much the cost falls from a tree of residuals to another."""
    leaves = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return jnp.asarray(sum(loss.decrease(a, b) for a, b in leaves))


class Step(NamedTuple):
    """A step of the damped normal equations."""

    change: Any
    """A tree like the parameters."""
    predicted: Array
    """By how much the model says that the cost falls."""


def damped_step(model: LinearModel, scale: Any, damping: Array) -> Step:
    """Solve `(J' W J + damping D) h = -g`.

    Args:
        model: of the cost around the parameters.
        scale: the diagonal of D, a tree like the parameters.
        damping: a positive number.
    """
    shift = mapped(lambda part: damping * part, scale)
    matrix = shifted(model.normal, jax.tree.leaves(shift))
    downhill = jax.tree.map(jnp.negative, model.gradient)
    change = factorize(matrix, assume="pos").solve(downhill)
    weighted = jax.tree.map(jnp.multiply, shift, change)
    predicted = inner_product(change, jax.tree.map(jnp.add, weighted, downhill)) / 2
    return Step(change, predicted)


def shifted(matrix: BlockMatrix, diagonal: Sequence[Array]) -> BlockMatrix:
    """A square matrix with numbers of its own added to each entry of the diagonal."""

    def entry(i: int, j: int, block: Block) -> Block:
        return add(block, Block.diag(diagonal[i])) if i == j else block

    upper = [
        [entry(i, j, block) for j, block in enumerate(row) if j >= i]
        for i, row in enumerate(matrix.rows)
    ]
    return BlockMatrix.symmetric(upper, matrix.wrt_tree)


def largest(tree: Any) -> Array:
    """The largest absolute value of all entries."""
    parts = [jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack(parts))


def length(tree: Any) -> Array:
    """The Euclidean norm of all entries."""
    return jnp.sqrt(inner_product(tree, tree))
