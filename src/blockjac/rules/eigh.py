"""Eigenvalues and eigenvectors of a symmetric matrix, from the resolvents of its eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blockjac.base import compat
from blockjac.graph.graph import Equation
from blockjac.rules.linalg import factor_edges, factorized
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Rows
from blockjac.rules.spectral import (
    asked_for,
    combined,
    inner_product,
    joined,
    nan_where,
    resolved,
    spectral_edges,
    tied_values,
)


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
    tied = tied_values(values)[..., None, :]

    def push(tangent: Any) -> Sequence[Any]:
        moved = tangent @ vectors
        rates = resolved(count, matrix, values, vectors, moved) * nan_where(tied, values)
        return rates, inner_product(vectors, moved).real

    def pull(cotangents: Sequence[Any]) -> Any:
        """The adjoint of `push`, nan where vectors of equal eigenvalues are asked for."""
        by_vectors, by_values = cotangents
        answer: Any = 0
        if by_vectors is not None:
            moved = resolved(count, matrix, values, vectors, by_vectors)
            answer += joined(moved, vectors) * nan_where(asked_for(tied, by_vectors), values)
        if by_values is not None:
            answer += combined(values, vectors, vectors, by_values)
        return answer

    return spectral_edges(equation, inputs[0], outs, push, pull)


OPERATOR_RULES["eigh"] = OperatorRule(_eigh_values, eigh_edges)
