"""Least squares without a matrix: for normal equations that neither fit nor have structure."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.arrays import precision
from blockjac.linear_systems.iterative import STEPS
from blockjac.linear_systems.lsmr import lsmr


@jax.custom_jvp
def large_least_squares(matrix: Any, shift: Any, right: jax.Array, scale: Any) -> jax.Array:
    """The flat `x` that makes `|matrix x - right|^2 + shift |x|^2` least, by LSMR.

    Args:
        matrix: a Block or BlockMatrix of any shape.
        shift: the damping, of shape ().
        right: `(m,)`.
        scale: by what unknowns are multiplied, `(n,)`, for faster convergence; 1 for none, as the
            shortest of all solutions asks for.
    """
    _, inputs = matrix.matrix_shape
    solution = scale * _augmented(matrix, shift, scale, _padded(right, inputs))
    gradient = _gradient(matrix, shift, right, solution)
    epsilon = precision(right.dtype)
    allowed = epsilon * jnp.sum(jnp.square(matrix.flat_vecmat(right)))
    return jnp.where(jnp.sum(jnp.square(gradient)) <= allowed, solution, jnp.nan)


@large_least_squares.defjvp
def _jvp(primals: Any, tangents: Any) -> Any:
    """That of the normal equations `A' (b - A x) = s x`, by two further problems."""
    matrix, shift, right, scale = primals
    solution = large_least_squares(matrix, shift, right, scale)

    def gradient(matrix: Any, shift: Any, right: Any) -> jax.Array:
        return _gradient(matrix, shift, right, solution)

    moved = jax.jvp(gradient, (matrix, shift, right), tangents[:3])[1]

    def normal(x: jax.Array) -> jax.Array:
        return -_gradient(matrix, shift, jnp.zeros_like(right), x)

    def solve(_: Any, y: jax.Array) -> jax.Array:
        """`(A' A + s)^-1 y`: the shortest w with `[A' r] w = y`, then least squares with w."""
        shortest = _transposed(matrix, shift, scale, scale * y)
        return scale * _augmented(matrix, shift, scale, shortest)

    tangent = jax.lax.custom_linear_solve(normal, moved, solve, symmetric=True)
    return solution, tangent


def _gradient(matrix: Any, shift: Any, right: jax.Array, x: jax.Array) -> jax.Array:
    """`A' (b - A x) - s x`, which vanishes at the solution."""
    return (matrix.flat_vecmat(right - matrix.flat_matvec(x)) - shift * x).astype(right.dtype)


def _augmented(matrix: Any, shift: Any, scale: Any, right: jax.Array) -> jax.Array:
    """The z that makes `|A D z - b|^2 + |r D z - c|^2` least, with `r = shift^0.5`."""
    product, transposed = _products(matrix, shift, scale, right.dtype)
    return lsmr(product, transposed, right, matrix.matrix_shape[1], **_rules(right.dtype))


def _transposed(matrix: Any, shift: Any, scale: Any, right: jax.Array) -> jax.Array:
    """The shortest w with `D [A' r] w = right`."""
    product, transposed = _products(matrix, shift, scale, right.dtype)
    outputs, inputs = matrix.matrix_shape
    return lsmr(transposed, product, right, outputs + inputs, **_rules(right.dtype))


def _products(matrix: Any, shift: Any, scale: Any, dtype: Any) -> Any:
    """`[A D; r D]` times a vector, and its transpose."""
    outputs, _ = matrix.matrix_shape
    root = jnp.sqrt(shift).astype(dtype)

    def product(z: jax.Array) -> jax.Array:
        x = scale * z
        return jnp.concatenate([matrix.flat_matvec(x), root * x]).astype(dtype)

    def transposed(w: jax.Array) -> jax.Array:
        return (scale * (matrix.flat_vecmat(w[:outputs]) + root * w[outputs:])).astype(dtype)

    return product, transposed


def _rules(dtype: Any) -> dict[str, Any]:
    """When to stop: a little above the rounding error."""
    epsilon = precision(dtype)
    tolerance = epsilon**0.9
    return {
        "damp": 0.0,
        "atol": tolerance,
        "btol": tolerance,
        "conlim": 1 / epsilon,
        "steps": STEPS,
    }


def _padded(right: jax.Array, count: int) -> jax.Array:
    """A vector with zeros after it."""
    return jnp.pad(right, (0, count))
