"""The Gauss-Newton matrix of a network on a table, as one array."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from blockjac.curvature.ggn import ggn
from blockjac.estimators.objective import Objective, Targets
from blockjac.transforms.first_order import grad, jacobian

LARGE = 1e9
"""From this many multiplications on, the matrix is assembled from its structure, which takes half a
second more to compile and saves a part of them at each step."""


class Curvature(NamedTuple):
    """What the rows' loss does around a point."""

    matrix: Array
    """`J' H J`, shape `(parameters, parameters)`."""
    gradient: Array
    """Shape `(parameters,)`."""
    loss: Array


def rows_jacobian(objective: Objective, params: Any, X: Array) -> Array:
    """The Jacobian of the outputs of some rows, shape `(n, outputs, parameters)`."""
    blocks = jacobian(partial(_outputs, objective, X))(params)
    leaves = jax.tree.leaves(blocks)
    return jnp.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=2)


def _outputs(objective: Objective, X: Array, params: Any) -> Array:
    """The outputs as a function of the parameters."""
    return objective.model(params, X)


def curvature(objective: Objective, params: Any, X: Array, targets: Targets) -> Curvature:
    """The curvature of the rows' loss, without the penalty."""
    outputs = objective.model(params, X)
    loss = objective.loss(targets, outputs)
    parameters = sum(part.size for part in jax.tree.leaves(params))
    if outputs.size * parameters**2 > LARGE:
        matrix = ggn(objective.model, objective.loss)(params, X, targets)
        gradient = grad(partial(_loss, objective, X, targets))(params)
        return Curvature(matrix.dense(), ravel_pytree(gradient)[0], loss)
    J = rows_jacobian(objective, params, X)
    roots = jnp.einsum("nij,nip->njp", objective.roots(targets, outputs), J)
    roots = roots.reshape(-1, J.shape[2])
    gradient = jnp.einsum("ni,nip->p", objective.slopes(targets, outputs), J)
    return Curvature(roots.T @ roots, gradient, loss)


def _loss(objective: Objective, X: Array, targets: Targets, params: Any) -> Array:
    """The loss as a function of the parameters."""
    return objective.loss(targets, objective.model(params, X))
