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

from blockjac.base import compat
from blockjac.graph.graph import Equation
from blockjac.operators.map_group import MapGroup
from blockjac.rules.fallback import packed, placed, real_dtype, unpacked, vertex_shape
from blockjac.rules.linalg import factor_edges, factorized, names_of
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Rows

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
    answer = vectors @ _divided(coefficients, own - values[..., :, None])
    if vectors.shape[-1] < vectors.shape[-2]:
        answer += _divided(right - vectors @ coefficients, own)
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
    return combined(*point), rate * _known(unknown, weights)


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


def _tied(values: Any) -> Any:
    """Which values are equal to another one."""
    off = ~jnp.eye(values.shape[-1], dtype=bool)
    return jnp.any((values[..., :, None] == values[..., None, :]) & off, -1)


def _known(unknown: Any, like: Any) -> Any:
    """A factor that is nan where something is unknown."""
    return jnp.where(unknown, jnp.nan, 1).astype(like.dtype)


def adjoint(array: Any) -> Any:
    """The conjugate transpose of the last two axes."""
    return jnp.conj(jnp.swapaxes(array, -1, -2))


def _divided(array: Any, gaps: Any) -> Any:
    """The quotient, and 0 where the gap is 0."""
    apart = gaps != 0
    return jnp.where(apart, array / jnp.where(apart, gaps, 1), 0)


def _inner(left: Any, right: Any) -> Any:
    """The products of columns with columns."""
    return jnp.sum(jnp.conj(left) * right, -2)


def _asked(tied: Any, by_vectors: Any) -> Any:
    """Whether a cotangent asks for the vector of a value that is equal to another one."""
    return jnp.any(tied & (by_vectors != 0), (-2, -1), keepdims=True)


# Eigenvectors of a Hermitian matrix


def _eigh_values(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[Sequence[Any], Any]:
    if _is_partial(equation):
        return factorized(equation, inputs, active)
    vectors, values = compat.bind(equation.primitive, inputs, equation.params)
    return [vectors, values], (inputs[0], vectors, values)


def _is_partial(equation: Equation) -> bool:
    """Whether only some eigenvalues are computed: JAX says what it does with them."""
    return equation.params.get("subset_by_index") is not None


def eigh_edges(
    equation: Equation,
    inputs: Sequence[Any],
    outs: Sequence[Any],
    residuals: Any,
    active: Sequence[bool],
) -> Rows:
    """`dv_j = R_j dH v_j` and `dw_j = v_j^H dH v_j`."""
    if _is_partial(equation):
        return factor_edges(equation, inputs, outs, residuals, active)
    matrix, vectors, values = residuals
    count = values.shape[-1]
    tied = _tied(values)[..., None, :]

    def push(tangent: Any) -> Sequence[Any]:
        moved = tangent @ vectors
        rates = resolved(count, matrix, values, vectors, moved) * _known(tied, values)
        return rates, _inner(vectors, moved).real

    def pull(cotangents: Sequence[Any]) -> Any:
        """The adjoint of `push`, nan where vectors of equal eigenvalues are asked for."""
        by_vectors, by_values = cotangents
        answer: Any = 0
        if by_vectors is not None:
            moved = resolved(count, matrix, values, vectors, by_vectors)
            answer += joined(moved, vectors) * _known(_asked(tied, by_vectors), values)
        if by_values is not None:
            answer += combined(values, vectors, vectors, by_values)
        return answer

    return _edges(equation, inputs[0], outs, push, pull)


# Singular vectors


def _svd_values(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[Sequence[Any], Any]:
    """The singular values, with vectors if asked for, and the thin factors as residuals."""
    if _is_left_to_jax(equation, inputs[0]):
        return factorized(equation, inputs, active)
    params = {**equation.params, "compute_uv": True, "full_matrices": False}
    values, left, right = compat.bind(equation.primitive, inputs, params)
    results = [values, left, right] if equation.params["compute_uv"] else [values]
    return results, (inputs[0], values, left, right)


def _is_left_to_jax(equation: Equation, matrix: Any) -> bool:
    """Whether JAX says what it does: of only some singular values, of vectors beyond them."""
    params = equation.params
    beyond = params["compute_uv"] and params["full_matrices"]
    square = matrix.shape[-1] == matrix.shape[-2]
    return params.get("subset_by_index") is not None or (beyond and not square)


def svd_edges(
    equation: Equation,
    inputs: Sequence[Any],
    outs: Sequence[Any],
    residuals: Any,
    active: Sequence[bool],
) -> Rows:
    """`u_j` and `v_j` move together as an eigenvector of `[[0, A], [A^H, 0]]`.

    Of complex vectors the phase is free; as in JAX it is that for which `v_j^H dv_j = 0`.
    """
    if _is_left_to_jax(equation, inputs[0]):
        return factor_edges(equation, inputs, outs, residuals, active)
    matrix, values, left, right_adjoint = residuals
    right = adjoint(right_adjoint)
    rows, count = left.shape[-2:]
    is_complex = jnp.iscomplexobj(matrix)
    tied = _tied(values)[..., None, :]

    def together(columns: Any) -> Any:
        """The resolvent of the doubled matrix."""
        above = jnp.concatenate([jnp.zeros_like(matrix, shape=_square(left)), matrix], -1)
        below = jnp.zeros_like(matrix, shape=_square(right))
        doubled = jnp.concatenate([above, jnp.concatenate([adjoint(matrix), below], -1)], -2)
        plus, minus = (jnp.concatenate([left, sign * right], -2) for sign in (1, -1))
        vectors = jnp.concatenate([plus, minus], -1) * 0.5**0.5
        both = jnp.concatenate([values, -values], -1)
        found = resolved(count, doubled, both, vectors, jnp.concatenate(columns, -2))
        return found[..., :rows, :], found[..., rows:, :]

    def push(tangent: Any) -> Sequence[Any]:
        """`ds_j = Re u_j^H dA v_j`, and the rates of the vectors, nan where values are equal."""
        above, below = tangent @ right, adjoint(tangent) @ left
        along = _inner(left, above)
        if not equation.params["compute_uv"]:
            return [along.real]
        left_rates, right_rates = together([above, below])
        if is_complex:
            turn = 1j * _divided(along.imag, 2 * values)[..., None, :]
            left_rates, right_rates = left_rates + turn * left, right_rates + turn * right
        known = _known(tied, values)
        return along.real, left_rates * known, adjoint(right_rates * known)

    def pull(cotangents: Sequence[Any]) -> Any:
        """The adjoint of `push`, nan where vectors of equal singular values are asked for."""
        by_values, by_left, by_right = (*cotangents, None, None)[:3]
        answer: Any = 0
        if by_values is not None:
            answer += combined(values, left, right, by_values)
        if by_left is None and by_right is None:
            return answer
        by_left = jnp.zeros_like(left) if by_left is None else by_left
        by_right = jnp.zeros_like(right) if by_right is None else adjoint(by_right)
        above, below = together([by_left, by_right])
        by_vectors = joined(above, right) + adjoint(joined(below, left))
        if is_complex:
            turned = (_inner(1j * left, by_left) + _inner(1j * right, by_right)).real
            turn = 1j * _divided(turned, 2 * values)
            by_vectors += combined(values, left, right, turn)
        unknown = _asked(tied, by_left) | _asked(tied, by_right)
        return answer + by_vectors * _known(unknown, values)

    return _edges(equation, inputs[0], outs, push, pull)


def _square(vectors: Any) -> tuple[int, ...]:
    return (*vectors.shape[:-1], vectors.shape[-2])


def _edges(equation: Equation, matrix: Any, outs: Sequence[Any], push: Push, pull: Pull) -> Rows:
    """The operators of a factorization: each matrix of a batch separately."""
    dtypes = [real_dtype(out.dtype) for out in outs]

    def pulled(cotangents: Sequence[Any]) -> Sequence[Any]:
        given = [
            None if one is None else unpacked(one, out.dtype)
            for one, out in zip(cotangents, outs, strict=True)
        ]
        return [packed(pull(given))]

    group = MapGroup(
        out_shapes=[vertex_shape(out) for out in outs],
        wrt_shapes=[vertex_shape(matrix)],
        dtypes=[real_dtype(matrix.dtype)],
        out_dtypes=dtypes,
        pull=pulled,
        push=lambda tangents: [packed(one) for one in push(unpacked(tangents[0], matrix.dtype))],
        name=equation.primitive.name,
        row_axes=[names_of(out, matrix.ndim - 2) for out in outs],
        column_axes=[names_of(matrix, matrix.ndim - 2)],
        structured=True,
        takes_none=True,
    )
    return placed(group, range(len(outs)), [0], (len(outs), 1))


OPERATOR_RULES["eigh"] = OperatorRule(_eigh_values, eigh_edges)
OPERATOR_RULES["svd"] = OperatorRule(_svd_values, svd_edges)
