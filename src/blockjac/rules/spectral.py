"""Eigenvectors and singular vectors: derivatives that are finite wherever a vector is isolated.

An eigenvector `v` of a Hermitian matrix `H` moves by `R dH v` with the reduced resolvent
`R = sum_k v_k v_k^H / (w - w_k)`, over all other eigenvalues. It has a derivative if no other
eigenvalue is equal to its own, whatever the others do; so the resolvent leaves out gaps that are 0,
and its own derivative is that of the equation that it solves, in which no other eigenvector occurs.
Singular vectors are eigenvectors of `[[0, A], [A^H, 0]]`.

The vectors of equal values have no derivative, and what is made of all of them together, such as
`V f(w) V^T`, has one that theirs do not tell. Their rates are nan, and so is what is asked of them
backwards; zeros that nobody asks for stay zeros.

Source:
    Magnus, "On differentiating eigenvalues and eigenvectors", Econometric Theory 1, 1985.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.graph.graph import Equation
from blockjac.operators.map_group import MapGroup
from blockjac.rules.fallback import packed, placed, real_dtype, unpacked, vertex_shape
from blockjac.rules.linalg import names_of
from blockjac.rules.registry import Rows

Push = Callable[[Any], Sequence[Any]]
"""From the tangent of a matrix to those of its factors."""

Pull = Callable[[Sequence[Any]], Any]
"""From the cotangents of the factors, None for those that nobody asks for, to the matrix's."""


# The resolvent


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def resolved(count: int, matrix: Any, values: Any, vectors: Any, right: Any) -> Any:
    """Column j of the answer is the reduced resolvent at eigenvalue j, times column j of `right`.

    Args:
        count: how many columns there are; they belong to the first eigenvalues.
        matrix: Hermitian, of shape `(..., n, n)`; it is known by its eigenvectors, and given for
            its tangent's sake.
        values: eigenvalues, of shape `(..., m)`; the others are 0.
        vectors: their eigenvectors as columns, of shape `(..., n, m)`.
        right: of shape `(..., n, count)`.
    """
    del matrix
    own = values[..., None, :count]
    coefficients = adjoint(vectors) @ right
    answer = vectors @ divided_by_gaps(coefficients, own - values[..., :, None])
    if vectors.shape[-1] < vectors.shape[-2]:
        answer += divided_by_gaps(right - vectors @ coefficients, own)
    return answer


@resolved.defjvp
def _resolved_rates(count: int, point: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """`Y` solves `(w_j - H) Y_j + v_j (v_j^H X_j) = X_j` with `v_j^H Y_j = 0`."""
    matrix, values, vectors, right = point
    matrix_rate, value_rates, vector_rates, right_rate = tangents
    answer = resolved(count, matrix, values, vectors, right)
    own = vectors[..., :count]
    own_rates = _where_asked(right, vector_rates[..., :count])
    along = jnp.sum(jnp.conj(own) * right, -2, keepdims=True)
    moved = matrix_rate @ answer - value_rates[..., None, :count] * answer - own_rates * along
    turned = jnp.sum(jnp.conj(own_rates) * answer, -2, keepdims=True)
    rates = resolved(count, matrix, values, vectors, right_rate + moved) - own * turned
    return answer, rates


@jax.custom_jvp
def combined(values: Any, left: Any, right: Any, weights: Any) -> Any:
    """`left diag(weights) right^H`, of vectors that belong to eigenvalues or singular values."""
    del values
    return (left * weights[..., None, :]) @ adjoint(right)


@combined.defjvp
def _combined_rates(point: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The rate is that of the product, and not known where equal values have a weight.

    How the vectors of equal values turn then depends on how the weights would differ if the values
    did, which nothing here tells.
    """
    values, left, right, weights = point
    _, left_rate, right_rate, weight_rate = tangents
    off = ~jnp.eye(values.shape[-1], dtype=bool)
    equal = (values[..., :, None] == values[..., None, :]) & off
    unknown = jnp.any(equal & (weights != 0)[..., None, :], (-2, -1), keepdims=True)
    wide = weights[..., None, :]
    left_rate, right_rate = _where_asked(wide, left_rate), _where_asked(wide, right_rate)
    rate = (left_rate * wide + left * weight_rate[..., None, :]) @ adjoint(right)
    rate += (left * wide) @ adjoint(right_rate)
    return combined(*point), rate * nan_where(unknown, weights)


@jax.custom_jvp
def joined(columns: Any, vectors: Any) -> Any:
    """`columns vectors^H`."""
    return columns @ adjoint(vectors)


@joined.defjvp
def _joined_rates(point: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The rate of the product, in which a vector with a column of zeros has no part."""
    columns, vectors = point
    column_rates, vector_rates = tangents
    rate = column_rates @ adjoint(vectors)
    return joined(*point), rate + columns @ adjoint(_where_asked(columns, vector_rates))


def _where_asked(columns: Any, rates: Any) -> Any:
    """The rates of vectors, 0 where they meet nothing but zeros: these may be nan."""
    return jnp.where(jnp.any(columns != 0, -2, keepdims=True), rates, 0)


def tied_values(values: Any) -> Any:
    """Which values are equal to another one."""
    off = ~jnp.eye(values.shape[-1], dtype=bool)
    return jnp.any((values[..., :, None] == values[..., None, :]) & off, -1)


def nan_where(unknown: Any, like: Any) -> Any:
    """A factor that is nan where something is unknown."""
    return jnp.where(unknown, jnp.nan, 1).astype(like.dtype)


def adjoint(array: Any) -> Any:
    """The conjugate transpose of the last two axes."""
    return jnp.conj(jnp.swapaxes(array, -1, -2))


def divided_by_gaps(array: Any, gaps: Any) -> Any:
    """The quotient, and 0 where the gap is 0."""
    apart = gaps != 0
    return jnp.where(apart, array / jnp.where(apart, gaps, 1), 0)


def inner_product(left: Any, right: Any) -> Any:
    """The products of columns with columns."""
    return jnp.sum(jnp.conj(left) * right, -2)


def asked_for(tied: Any, by_vectors: Any) -> Any:
    """Whether a cotangent asks for the vector of a value that is equal to another one."""
    return jnp.any(tied & (by_vectors != 0), (-2, -1), keepdims=True)


def square_shape(vectors: Any) -> tuple[int, ...]:
    """The shape of the square matrix with all vectors, of which some may be left out."""
    return (*vectors.shape[:-1], vectors.shape[-2])


def spectral_edges(
    equation: Equation, matrix: Any, outs: Sequence[Any], push: Push, pull: Pull
) -> Rows:
    """The operators of a factorization: each matrix of a batch separately."""
    dtypes = [real_dtype(out.dtype) for out in outs]

    def pulled(cotangents: Sequence[Any]) -> Sequence[Any]:
        unpacked_cotangents = [
            None if cotangent is None else unpacked(cotangent, out.dtype)
            for cotangent, out in zip(cotangents, outs, strict=True)
        ]
        return [packed(pull(unpacked_cotangents))]

    group = MapGroup(
        out_shapes=[vertex_shape(out) for out in outs],
        wrt_shapes=[vertex_shape(matrix)],
        dtypes=[real_dtype(matrix.dtype)],
        out_dtypes=dtypes,
        pull=pulled,
        push=lambda tangents: [packed(rate) for rate in push(unpacked(tangents[0], matrix.dtype))],
        name=equation.primitive.name,
        row_axes=[names_of(out, matrix.ndim - 2) for out in outs],
        column_axes=[names_of(matrix, matrix.ndim - 2)],
        structured=True,
        takes_none=True,
    )
    return placed(group, range(len(outs)), [0], (len(outs), 1))
