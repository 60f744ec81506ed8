"""Cholesky factors, and systems with triangular matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.explanations import expressions as ex
from blockjac.explanations.closed_forms.form import (
    CLOSED_FORMS,
    ClosedForm,
    Helper,
    Request,
    conjugated,
    inverse_of_triangle,
    of_program,
)
from blockjac.explanations.contraction import Partial
from blockjac.explanations.expressions import Expression, Number, Place
from blockjac.explanations.places import equal, not_before, plus
from blockjac.graph.graph import Equation


def _cholesky_arrays(
    equation: Equation, inputs: Sequence[Any], outs: Sequence[Any]
) -> dict[str, Helper]:
    """The factor and its inverse."""
    del equation
    (matrix,), (factor,) = inputs, outs
    lower = jnp.tril(factor)
    inverse = Helper(inverse_of_triangle(lower, True), "inv(cholesky({}))", (matrix,))
    return {
        "L": Helper(lower, "cholesky({})", (matrix,)),
        "inverse": inverse,
        "conjugate": conjugated(inverse),
    }


def half_of_diagonal(row: Place, column: Place) -> list[Expression]:
    """`phi`: the lower triangle, and half of the diagonal."""
    below = not_before(row, column)
    on_diagonal = equal(row, column)
    if on_diagonal == ex.ONE:
        return [Number(0.5)]
    return [below, ex.Quotient(ex.ONE, ex.Total((ex.ONE, on_diagonal)))]


def _cholesky(request: Request) -> list[Partial]:
    """`dL = L phi(L^-1 dA L^-H)`."""
    size = request.shape[-1]
    i, j = request.rows[-2:]
    term = request.chain()
    m, k, n = (term.letter(size) for _ in range(3))
    term.entry("L", i, m).times(*half_of_diagonal(m, j))
    return [term.entry("inverse", m, k).entry("conjugate", j, n).by(k, n)]


CLOSED_FORMS["cholesky"] = ClosedForm(_cholesky_arrays, _cholesky)


def _solve_arrays(
    equation: Equation, inputs: Sequence[Any], outs: Sequence[Any]
) -> dict[str, Helper]:
    """The inverse of the triangle, and the solution."""
    (matrix, _), (solution,) = inputs, outs
    params = equation.params
    array = inverse_of_triangle(matrix, params["lower"], params["unit_diagonal"])
    word = "tril({})" if params["lower"] else "triu({})"
    if params["unit_diagonal"]:
        word += " with ones on the diagonal"
    inverse = Helper(array, f"inv({word})", (matrix,))
    if params["conjugate_a"]:
        inverse = conjugated(inverse)
    return {"inverse": inverse, "X": of_program(solution)}


def _solve(request: Request) -> list[Partial]:
    """`dX = op(A)^-1 (dB - op(dA) X)`, or its mirror image; `op` transposes or conjugates."""
    params = request.equation.params
    left, transposed = params["left_side"], params["transpose_a"]
    i, j = request.rows[-2:]
    term = request.chain()
    size = request.shape[-1 if request.operand == 0 else (-2 if left else -1)]
    k = term.letter(size)

    def inverse(row: Place, column: Place) -> None:
        """A factor that is an entry of the inverse of `op(A)`."""
        term.entry("inverse", *((column, row) if transposed else (row, column)))

    if request.operand == 1:
        inverse(*((i, k) if left else (k, j)))
        return [term.by(*((k, j) if left else (i, k)))]
    m = term.letter(size)
    term.times(Number(-1))
    if left:
        inverse(i, k)
        term.entry("X", m, j)
    else:
        term.entry("X", i, k)
        inverse(m, j)
    axes = (m, k) if transposed else (k, m)
    low, high = axes if params["lower"] else axes[::-1]
    term.times(not_before(low, plus(high, Place(1), 1) if params["unit_diagonal"] else high))
    if params["conjugate_a"] and request.is_complex:
        imaginary = equal(term.at, Place(1))
        term.times(ex.Total((ex.ONE, ex.Negative(ex.Product((Number(2), imaginary))))))
    return [term.by(*axes)]


CLOSED_FORMS["triangular_solve"] = ClosedForm(
    _solve_arrays, _solve, results=("triangular_solve({}, {})",)
)
