"""The singular value decomposition, from the resolvents of its singular values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.base import compat
from blockjac.graph.graph import Equation
from blockjac.rules.linalg import factor_edges, factorized
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Rows
from blockjac.rules.spectral import (
    adjoint,
    asked_for,
    combined,
    divided_by_gaps,
    inner_product,
    joined,
    nan_where,
    resolved,
    spectral_edges,
    square_shape,
    tied_values,
)


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
    tied = tied_values(values)[..., None, :]

    def together(columns: Any) -> Any:
        """The resolvent of the doubled matrix."""
        above = jnp.concatenate([jnp.zeros_like(matrix, shape=square_shape(left)), matrix], -1)
        below = jnp.zeros_like(matrix, shape=square_shape(right))
        doubled = jnp.concatenate([above, jnp.concatenate([adjoint(matrix), below], -1)], -2)
        plus, minus = (jnp.concatenate([left, sign * right], -2) for sign in (1, -1))
        vectors = jnp.concatenate([plus, minus], -1) * 0.5**0.5
        doubled_values = jnp.concatenate([values, -values], -1)
        solution = resolved(count, doubled, doubled_values, vectors, jnp.concatenate(columns, -2))
        return solution[..., :rows, :], solution[..., rows:, :]

    def push(tangent: Any) -> Sequence[Any]:
        """`ds_j = Re u_j^H dA v_j`, and the rates of the vectors, nan where values are equal."""
        above, below = tangent @ right, adjoint(tangent) @ left
        along = inner_product(left, above)
        if not equation.params["compute_uv"]:
            return [along.real]
        left_rates, right_rates = together([above, below])
        if is_complex:
            turn = 1j * divided_by_gaps(along.imag, 2 * values)[..., None, :]
            left_rates, right_rates = left_rates + turn * left, right_rates + turn * right
        known = nan_where(tied, values)
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
            turned = (inner_product(1j * left, by_left) + inner_product(1j * right, by_right)).real
            turn = 1j * divided_by_gaps(turned, 2 * values)
            by_vectors += combined(values, left, right, turn)
        unknown = asked_for(tied, by_left) | asked_for(tied, by_right)
        return answer + by_vectors * nan_where(unknown, values)

    return spectral_edges(equation, inputs[0], outs, push, pull)


OPERATOR_RULES["svd"] = OperatorRule(_svd_values, svd_edges)
