"""What each row's outputs would be had it been left out, all from one curvature.

Near the minimum, leaving out row i moves the outputs of row i by

    S_i (1 - H_i S_i)^-1 g_i    with    S_i = J_i A^-1 J_i'

and widens their covariance from S_i to (1 - S_i H_i)^-1 S_i. Here J_i is the Jacobian of its
outputs by the parameters, g_i and H_i are the gradient and the Hessian of its loss by the outputs,
and A is the curvature of the whole penalized loss: it is one Newton step of the fit without the
row. For linear models with squares it is exact.

Source: D. Pregibon, Logistic regression diagnostics, Annals of Statistics 9 (1981), for linear
models; here with J in the place of their features.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import solve_triangular

from blockjac.estimators.curvature import rows_jacobian
from blockjac.estimators.objective import Objective, Targets
from blockjac.estimators.tables import Numbers

CHUNK_BYTES = 2**23
"""Of Jacobians of rows at a time."""

LEAST_LEFT = 1e-6
"""Added to the share of a row that the others explain, which may be 0."""


class LeftOut(NamedTuple):
    """Outputs of each row, with it and without it."""

    outputs: Any
    """Of the whole fit, shape `(n, outputs)`."""
    without: Any
    """Of the fit without the row."""
    spread: Any
    """`S_i`, the covariance of a row's outputs over the noise, shape `(n, outputs, outputs)`."""
    pull: Any
    """`(1 - H_i S_i)^-1 g_i`: without the row, the parameters move by `A^-1 J_i'` times this."""
    wider: Any
    """The covariance without the row, `(1 - S_i H_i)^-1 S_i`, shape `(n, outputs, outputs)`."""


def halves(objective: Objective, params: Any, triangle: Array, X: Array) -> Array:
    """`L^-1 J'` of some rows, shape `(n, outputs, parameters)`: its squares are `J A^-1 J'`."""
    J = rows_jacobian(objective, params, X)
    half = solve_triangular(triangle, J.reshape(-1, J.shape[2]).T, lower=True)
    return half.T.reshape(J.shape)


def _inverse_of_linear(params: Any, triangle: Array) -> dict[str, Array]:
    """`L^-1` of a linear model, by its parameters.

    A row's Jacobian by the weights is zero but for one output, so that the halves of many rows are
    products with parts of this, which take less than triangular systems for all of them.
    """
    inputs, outputs = params["weights"][0].shape
    eye = jnp.eye(triangle.shape[0], dtype=triangle.dtype)
    inverse = solve_triangular(triangle, eye, lower=True)
    return {
        "biases": inverse[:, :outputs].T,
        "weights": inverse[:, outputs:].reshape(-1, inputs, outputs),
    }


@partial(jax.jit, static_argnums=0)
def spreads(objective: Objective, params: Any, triangle: Array, X: Array) -> Array:
    """`J_i A^-1 J_i'` of each row, shape `(n, outputs, outputs)`; some rows at a time."""
    rows, columns = X.shape
    outputs = params["biases"][-1].shape[0]
    size = max(1, min(rows, CHUNK_BYTES // (outputs * triangle.shape[0] * X.dtype.itemsize)))
    count = -(-rows // size)
    padded = jnp.pad(X, ((0, count * size - rows), (0, 0)))
    many = rows * outputs > triangle.shape[0] and len(params["weights"]) == 1
    inverse = _inverse_of_linear(params, triangle) if many and not params["direct"] else None

    def of_chunk(part: Array) -> Array:
        if inverse is None:
            half = halves(objective, params, triangle, part)
        else:
            half = inverse["biases"] + jnp.einsum("ni,pik->nkp", part, inverse["weights"])
        return jnp.einsum("nip,njp->nij", half, half)

    if count == 1:
        return of_chunk(X)
    chunks = lax.map(of_chunk, padded.reshape(count, size, columns))
    return chunks.reshape(count * size, outputs, outputs)[:rows]


@partial(jax.jit, static_argnums=0)
def left_out(
    objective: Objective, params: Any, triangle: Array, X: Array, targets: Targets
) -> LeftOut:
    """The outputs of each row, with it and without it.

    Args:
        objective: of the network.
        params: trained with all rows.
        triangle: of the curvature there.
        X: the rows, shape `(n, inputs)`.
        targets: of them.
    """
    targets = targets._replace(weights=targets.units)
    S = spreads(objective, params, triangle, X)
    Q = objective.model(params, X)
    g = objective.slopes(targets, Q)
    U = objective.roots(targets, Q)
    # with H = U U', (1 - H S)^-1 = 1 + U (1 - U' S U)^-1 U' S, whose matrix is symmetric
    half = jnp.swapaxes(U, 1, 2) @ S
    left = (1 + LEAST_LEFT) * jnp.eye(U.shape[2], dtype=Q.dtype) - half @ U
    solved = jnp.linalg.solve(left, jnp.concatenate([half, half @ g[..., None]], axis=2))
    pull = g + (U @ solved[..., -1:])[..., 0]
    wider = S + jnp.swapaxes(half, 1, 2) @ solved[..., :-1]
    return LeftOut(Q, Q + jnp.einsum("nij,nj->ni", S, pull), S, pull, wider)


def is_as_good(losses: Numbers, others: Numbers, weights: Numbers) -> bool:
    """Whether rows are predicted as well as by another network, but for chance.

    Args:
        losses: of left-out rows.
        others: those of the other network; worse than any if they are not finite.
        weights: of the rows.
    """
    differences = losses - others
    mean = np.average(differences, weights=weights)
    variance = np.average((differences - mean) ** 2, weights=weights)
    rows = np.sum(weights) ** 2 / np.sum(weights**2)
    return not mean > np.sqrt(variance / max(rows - 1, 1))
