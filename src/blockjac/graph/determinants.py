"""The determinant, with a second derivative that is finite everywhere, being a polynomial.

JAX divides by the pivots, some of which are 0 for a singular matrix. Its gradient is right all the
same, but the derivative of its gradient is nan. Near singular matrices that derivative is taken
from the singular values here, without dividing by them.

Source:
    M. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
    differentiation", 2008, for regular matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_jvp
def determinant(matrix: Any) -> Any:
    """`jnp.linalg.det`, of matrices of shape `(..., n, n)`."""
    return jnp.linalg.det(matrix)


@determinant.defjvp
def _determinant_rate(point: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (matrix,), (rate,) = point, tangents
    return determinant(matrix), jnp.sum(cofactors(matrix) * rate, (-2, -1))


@jax.custom_jvp
def cofactors(matrix: Any) -> Any:
    """The derivative of the determinant by each entry, as JAX finds it."""
    values, pull = jax.vjp(jnp.linalg.det, matrix)
    return pull(jnp.ones_like(values))[0]


@cofactors.defjvp
def _cofactor_rates(point: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The cofactors and their derivative along a tangent, by whichever formula is accurate."""
    (matrix,), (rate,) = point, tangents
    left, values, right_adjoint = jnp.linalg.svd(lax.stop_gradient(matrix))
    smallest, next_smallest, largest = values[..., -1], values[..., -2], values[..., 0]
    epsilon = jnp.finfo(values.dtype).eps
    # The formula with inverses loses digits by the ratio of the two smallest singular values, and
    # is meaningless if the smallest is a rounding error.
    singular = smallest <= jnp.maximum(epsilon**0.25 * next_smallest, epsilon**0.5 * largest)
    singular = singular[..., None, None]
    # The regular formula gets a matrix at which it is finite, as the unused side must not be nan.
    regular = jnp.where(singular, jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix)
    of_singular = _singular_rates(left, values, right_adjoint, rate)
    rates = jnp.where(singular, of_singular, _regular_rates(regular, rate))
    return cofactors(matrix), rates * _one(matrix, singular)


def _regular_rates(matrix: Any, rate: Any) -> Any:
    """`det(A) (tr(A^-1 E) A^-T - A^-T E^T A^-T)`."""
    inverse = jnp.linalg.inv(matrix)
    turned = jnp.swapaxes(inverse, -1, -2)
    moved = inverse @ rate
    trace = jnp.trace(moved, axis1=-2, axis2=-1)[..., None, None]
    scale = jnp.linalg.det(matrix)[..., None, None]
    return scale * (trace * turned - jnp.swapaxes(moved @ inverse, -1, -2))


def _singular_rates(left: Any, values: Any, right_adjoint: Any, rate: Any) -> Any:
    """The rates of the cofactors from the singular value decomposition `U S V*`.

    For the diagonal matrix S and a rate E they are the derivative by F of
    `sum_ij p_ij (E_ii F_jj - E_ij F_ji)`, where `p_ij` is the product of all singular values but
    the i-th and the j-th. U and V rotate the rate there, and the derivative back.
    """
    right = jnp.conj(jnp.swapaxes(right_adjoint, -1, -2))
    turned = jnp.conj(jnp.swapaxes(left, -1, -2)) @ rate @ right
    size = values.shape[-1]
    diagonal = jnp.eye(size, dtype=bool)
    left_out = diagonal[:, None, :] | diagonal[None, :, :]
    products = jnp.prod(jnp.where(left_out, 1, values[..., None, None, :]), -1)
    products = jnp.where(diagonal, 0, products)
    by_diagonal = products @ jnp.diagonal(turned, axis1=-2, axis2=-1)[..., None]
    by_turned = jnp.where(diagonal, by_diagonal, 0) - products * jnp.swapaxes(turned, -1, -2)
    scale = (jnp.linalg.det(left) * jnp.linalg.det(right_adjoint))[..., None, None]
    return scale * (jnp.conj(left) @ by_turned @ jnp.swapaxes(right, -1, -2))


@jax.custom_jvp
def sign_and_log(matrix: Any) -> Any:
    """`jnp.linalg.slogdet`, of matrices of shape `(..., n, n)`."""
    return tuple(jnp.linalg.slogdet(matrix))


@sign_and_log.defjvp
def _sign_and_log_rates(point: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """As JAX has them, but with the inverse as a function that is differentiated by products."""
    (matrix,), (rate,) = point, tangents
    sign, log = sign_and_log(matrix)
    rates = jnp.sum(jnp.swapaxes(inverse(matrix), -1, -2) * rate, (-2, -1))
    if not jnp.iscomplexobj(rates):
        return (sign, log), (jnp.zeros_like(sign), rates)
    return (sign, log), ((rates - jnp.real(rates)) * sign, jnp.real(rates))


@jax.custom_jvp
def inverse(matrix: Any) -> Any:
    """`jnp.linalg.inv`, whose derivative is two products with itself, and no further solve."""
    return jnp.linalg.inv(matrix)


@inverse.defjvp
def _inverse_rate(point: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (matrix,), (rate,) = point, tangents
    value = inverse(matrix)
    return value, -(value @ rate @ value)


@jax.custom_jvp
def _one(matrix: Any, singular: Any) -> Any:
    """1, with a derivative that is nan (unknown) if the matrix is singular, and 0 otherwise."""
    return jnp.ones_like(matrix, shape=singular.shape)


@_one.defjvp
def _one_rate(point: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (matrix, singular), (rate, _) = point, tangents
    unknown = jnp.where(singular, jnp.nan, 0).astype(matrix.dtype)
    return _one(matrix, singular), unknown * jnp.sum(rate, (-2, -1), keepdims=True)
