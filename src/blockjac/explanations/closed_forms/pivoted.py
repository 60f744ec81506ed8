"""QR and LU factors of real matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.explanations.closed_forms.form import (
    CLOSED_FORMS,
    ClosedForm,
    Helper,
    Request,
    inverse_of_triangle,
    is_real,
    of_program,
)
from blockjac.explanations.contraction import Partial
from blockjac.explanations.expressions import Number, Place
from blockjac.explanations.places import equal, not_before, plus
from blockjac.graph.graph import Equation


def _after(place: Place) -> Place:
    """The next position."""
    return plus(place, Place(1), 1)


# A = Q R


def _qr_arrays(equation: Equation, inputs: Sequence[Any], outs: Sequence[Any]) -> dict[str, Helper]:
    """The factors, and the inverse of the triangle."""
    del equation, inputs
    orthogonal, triangle = outs
    return {
        "Q": of_program(orthogonal),
        "R": of_program(triangle),
        "inverse": Helper(inverse_of_triangle(triangle, False), "inv({})", (triangle,)),
    }


def _qr(request: Request) -> list[Partial]:
    """With `C = Q^T dA R^-1`, of which the part below the diagonal turns `Q`.

    dR = (triu(C) + tril(C, -1)^T) R
    dQ = dA R^-1 - Q (triu(C) + tril(C, -1)^T)
    """
    rows, count = request.shape[-2:]
    i, j = request.rows[-2:]
    terms: list[Partial] = []
    if request.result == 0:
        term = request.chain()
        k, m = term.letter(rows), term.letter(count)
        terms.append(term.times(equal(i, k)).entry("inverse", m, j).by(k, m))
    for is_upper in (True, False):
        term = request.chain()
        k, m, n = term.letter(rows), term.letter(count), term.letter(count)
        row, column = (n, j) if request.result == 0 else (i, n)
        term.times(not_before(column, row if is_upper else _after(row)))
        if request.result == 0:
            term.times(Number(-1)).entry("Q", i, n)
        first, second = (row, column) if is_upper else (column, row)
        term.entry("Q", k, first).entry("inverse", m, second)
        if request.result == 1:
            term.entry("R", n, j)
        terms.append(term.by(k, m))
    return terms


def _is_thin(equation: Equation, inputs: Sequence[Any]) -> bool:
    """Whether the triangle has an inverse, and the factors are real."""
    (matrix,) = inputs
    rows, columns = matrix.shape[-2:]
    params = equation.params
    is_whole = params["full_matrices"] and rows != columns
    return is_real(matrix) and rows >= columns and not is_whole and not params.get("pivoting")


CLOSED_FORMS["qr"] = ClosedForm(_qr_arrays, _qr, _is_thin, ("Q of qr({})", "R of qr({})"))


# P A = L U


def _lu_arrays(equation: Equation, inputs: Sequence[Any], outs: Sequence[Any]) -> dict[str, Helper]:
    """The factors, their inverses, and the permutation."""
    del equation, inputs
    both, _, permutation = outs
    eye = np.eye(both.shape[-1], dtype=both.dtype)
    lower, upper = jnp.tril(both, -1) + eye, jnp.triu(both)
    return {
        "L": Helper(lower, "tril({}) with ones on the diagonal", (both,)),
        "U": Helper(upper, "triu({})", (both,)),
        "inverse of L": Helper(
            inverse_of_triangle(lower, True), "inv(tril({}) with ones on the diagonal)", (both,)
        ),
        "inverse of U": Helper(inverse_of_triangle(upper, False), "inv(triu({}))", (both,)),
        "permutation": of_program(permutation),
    }


def _lu(request: Request) -> list[Partial]:
    """`dL = L tril(C, -1)` and `dU = triu(C) U` in one array, with `C = L^-1 P dA U^-1`."""
    size = request.shape[-1]
    i, j = request.rows[-2:]
    terms: list[Partial] = []
    for is_lower in (True, False):
        term = request.chain()
        r, m, n = (term.letter(size) for _ in range(3))
        row, column = (n, j) if is_lower else (i, n)
        if is_lower:
            term.times(not_before(row, _after(column))).entry("L", i, n)
        else:
            term.times(not_before(column, row))
        term.entry("inverse of L", row, r).entry("inverse of U", m, column)
        if not is_lower:
            term.entry("U", n, j)
        permuted = request.factors["permutation"].entry(r)
        terms.append(term.by(Place(0, (), permuted), m))
    return terms


def _is_square(equation: Equation, inputs: Sequence[Any]) -> bool:
    """Whether the factors are real and have inverses."""
    del equation
    (matrix,) = inputs
    return is_real(matrix) and matrix.shape[-1] == matrix.shape[-2]


CLOSED_FORMS["lu"] = ClosedForm(
    _lu_arrays,
    _lu,
    _is_square,
    ("both triangles of lu({})", "the pivots of lu({})", "the permutation of lu({})"),
)
