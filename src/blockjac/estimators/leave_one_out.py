"""What each row's outputs would be had it been left out, all from one curvature.

Near the minimum, leaving out row i moves the outputs of row i by

    S_i (1 - H_i S_i)^-1 g_i    with    S_i = J_i A^-1 J_i'

and widens their covariance from S_i to (1 - S_i H_i)^-1 S_i. Here J_i is the Jacobian of its
outputs by the parameters, g_i and H_i are the gradient and the Hessian of its loss by the outputs,
and A is the curvature of the whole penalized loss: it is one Newton step of the fit without the
row. For linear models with squares it is exact.

Two more things move the outputs as much: columns are standardized without the row, too, so that
their weights meet other penalties; and in networks the Gauss-Newton matrix is not the Hessian.

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
from jax.scipy.linalg import cho_solve, solve_triangular

from blockjac.estimators.curvature import rows_jacobian
from blockjac.estimators.objective import Objective, Targets
from blockjac.estimators.tables import Numbers
from blockjac.transforms.hessians import block_hessian

CHUNK_BYTES = 2**23
"""Of Jacobians of rows at a time."""

LEAST_LEFT = 1e-6
"""Added to the share of a row that the others explain, which may be 0."""

CONSTANT = 1e-9
"""A variance of a column without a row, as a share of that with it; below, it is rounding."""

WIDER = 2.0
"""Up to what multiple of the variance by the Gauss-Newton matrix the exact Hessian is trusted for a
row without itself. Beyond that, less and less of what it says is taken."""


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


class Moved(NamedTuple):
    """What some directions of the parameters do to the outputs of rows."""

    directions: Array
    """`L^-1` of a matrix whose columns they are, shape `(parameters, directions)`."""
    amounts: Array
    """Of each, for each row, shape `(n, directions)`."""


@partial(jax.jit, static_argnums=0)
def spreads(objective: Objective, params: Any, triangle: Array, X: Array) -> Array:
    """`J_i A^-1 J_i'` of each row, shape `(n, outputs, outputs)`; some rows at a time."""
    return _spreads_and_moves(objective, params, triangle, X, None)[0]


def _spreads_and_moves(
    objective: Objective, params: Any, triangle: Array, X: Array, moved: Moved | None
) -> tuple[Array, Array]:
    """`J_i A^-1 J_i'` of each row, and how far directions move its outputs, if there are any."""
    rows = len(X)
    outputs = params["biases"][-1].shape[0]
    size = max(1, min(rows, CHUNK_BYTES // (outputs * triangle.shape[0] * X.dtype.itemsize)))
    count = -(-rows // size)
    many = rows * outputs > triangle.shape[0] and len(params["weights"]) == 1
    inverse = _inverse_of_linear(params, triangle) if many and not params["direct"] else None
    if moved is None:
        moved = Moved(jnp.zeros((triangle.shape[0], 0), X.dtype), jnp.zeros((rows, 0), X.dtype))

    def of_chunk(chunk: tuple[Array, Array]) -> tuple[Array, Array]:
        """Of some rows, and the amounts of the directions for them."""
        part, amounts = chunk
        if inverse is None:
            half = halves(objective, params, triangle, part)
        else:
            half = inverse["biases"] + jnp.einsum("ni,pik->nkp", part, inverse["weights"])
        moves = jnp.einsum("nkd,nd->nk", half @ moved.directions, amounts)
        return jnp.einsum("nip,njp->nij", half, half), moves

    if count == 1:
        return of_chunk((X, moved.amounts))

    def chunked(array: Array) -> Array:
        padded = jnp.pad(array, ((0, count * size - rows), (0, 0)))
        return padded.reshape(count, size, array.shape[1])

    found = lax.map(of_chunk, (chunked(X), chunked(moved.amounts)))
    return tuple(part.reshape(count * size, *part.shape[2:])[:rows] for part in found)


class Removal(NamedTuple):
    """What leaving a row out does by its own curvature."""

    pull: Array
    """`(1 - H S)^-1 g`."""
    wider: Array
    """`(1 - S H)^-1 S`."""


def _removal(S: Array, U: Array, g: Array) -> Removal:
    """From the covariance, the root of the Hessian and the gradient of each row.

    Not finite where the curvature without a row is not positive.
    """
    # with H = U U', (1 - H S)^-1 = 1 + U (1 - U' S U)^-1 U' S, whose matrix is symmetric
    half = jnp.swapaxes(U, 1, 2) @ S
    left = (1 + LEAST_LEFT) * jnp.eye(U.shape[2], dtype=S.dtype) - half @ U
    triangle = jnp.linalg.cholesky(left)
    sides = jnp.concatenate([half, half @ g[..., None]], axis=2)
    solved = cho_solve((triangle, True), sides)
    pull = g + (U @ solved[..., -1:])[..., 0]
    return Removal(pull, S + jnp.swapaxes(half, 1, 2) @ solved[..., :-1])


@partial(jax.jit, static_argnums=0)
def left_out(
    objective: Objective,
    params: Any,
    triangle: Array,
    X: Array,
    targets: Targets,
    strengths: Array | None = None,
) -> LeftOut:
    """The outputs of each row, with it and without it.

    Args:
        objective: of the network.
        params: trained with all rows.
        triangle: of the curvature there.
        X: the rows, shape `(n, inputs)`.
        targets: of them.
        strengths: of the penalty of each layer and the direct map, where `X` is standardized and
            the whole network was trained. The outputs without a row are those of its columns
            standardized without it, then, and by the exact curvature.
    """
    count = jnp.sum(targets.weights)
    S = spreads(objective, params, triangle, X)
    Q = objective.model(params, X)
    slopes = objective.slopes(targets, Q)
    targets = targets._replace(weights=targets.units)
    g = objective.slopes(targets, Q)
    U = objective.roots(targets, Q)
    pull, wider = _removal(S, U, g)
    without = Q + jnp.einsum("nij,nj->ni", S, pull)
    if strengths is not None:
        exact = _exact_triangle(objective, params, triangle, X, slopes)
        moved = _of_scales(params, exact, X, targets.units, count, strengths)
        near, moves = _spreads_and_moves(objective, params, exact, X, moved)
        removal = _removal(near, U, g)
        shift = jnp.einsum("nij,nj->ni", near, removal.pull) - moves
        H = U @ jnp.swapaxes(U, 1, 2)
        shift -= jnp.einsum("nij,njk,nk->ni", removal.wider, H, moves)
        share = _trusted(removal.wider, wider)[:, None]
        without = jnp.where(share > 0, share * (Q + shift) + (1 - share) * without, without)
    return LeftOut(Q, without, S, pull, wider)


def _trusted(exact: Array, wider: Array) -> Array:
    """The share of each row's move by the exact Hessian; the rest is by the Gauss-Newton matrix.

    Without the row, the Hessian may be nearly singular or not positive: training has not come to
    its minimum, or this is none without the row. A step from there would lead anywhere.

    Args:
        exact: the covariance without the row by the Hessian, not finite where that is not positive.
        wider: by the Gauss-Newton matrix.
    """
    traces = [jnp.trace(part, axis1=1, axis2=2) for part in (exact, wider)]
    share = jnp.minimum(1, (WIDER * traces[1] / traces[0]) ** 2)
    return jnp.where(jnp.isfinite(share), share, 0)


def _exact_triangle(
    objective: Objective, params: Any, triangle: Array, X: Array, slopes: Array
) -> Array:
    """The Cholesky factor of the Hessian of the penalized loss; that given where there is none.

    Args:
        objective: of the network.
        params: the point.
        triangle: the Cholesky factor of the Gauss-Newton matrix and the penalty.
        X: the rows.
        slopes: the gradients of the losses by their outputs, shape `(n, outputs)`.
    """
    if len(params["weights"]) == 1:
        return triangle

    def bent(params: Any, X: Array, slopes: Array) -> Array:
        return jnp.sum(slopes * objective.model(params, X))

    matrix = block_hessian(bent)(params, X, slopes).dense()
    exact = jnp.linalg.cholesky(triangle @ triangle.T + matrix)
    return jnp.where(jnp.all(jnp.isfinite(exact)), exact, triangle)


def _of_scales(
    params: Any, triangle: Array, X: Array, units: Array, count: Array, strengths: Array
) -> Moved:
    """What the scales of columns do, which are others without a row.

    A weight by a column of another spread meets another penalty: times the square of the spread.
    One by a column that is constant then keeps its penalty, which draws it to 0.
    """
    rest = jnp.maximum(count - units, jnp.finfo(X.dtype).tiny)[:, None]
    squares = count * (rest - units[:, None] * X**2) / rest**2
    amounts = jnp.where(squares > CONSTANT, squares - 1, 0)
    inputs = X.shape[1]

    def by_columns(part: Array, strength: Any) -> Array:
        return jnp.einsum("ik,ij->ikj", strength * part, jnp.eye(inputs, dtype=X.dtype))

    zeros = jax.tree.map(lambda part: jnp.zeros((*part.shape, inputs), X.dtype), params)
    first = params["weights"][0]
    forces = {
        "weights": [by_columns(first, strengths[0]), *zeros["weights"][1:]],
        "biases": zeros["biases"],
        "direct": [by_columns(part, strengths[-1]) for part in params["direct"]],
    }
    matrix = jnp.concatenate([part.reshape(-1, inputs) for part in jax.tree.leaves(forces)])
    return Moved(solve_triangular(triangle, matrix, lower=True), amounts)


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
