"""Eigenvalues, singular values and their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.base import compat
from blockjac.explanations import expressions as ex
from blockjac.explanations.closed_forms.form import (
    CLOSED_FORMS,
    ClosedForm,
    Helper,
    Request,
    conjugated,
    identity_like,
    is_real,
    of_program,
)
from blockjac.explanations.contraction import Partial
from blockjac.explanations.expressions import Number
from blockjac.explanations.places import equal
from blockjac.graph.graph import Equation


def _over_gaps(gaps: Any) -> Helper:
    """One over the gaps, and 0 on the diagonal, where they are 0."""
    eye = identity_like(gaps)
    return Helper((1 - eye) / (gaps + eye))


# Symmetric matrices


def _eigh_arrays(
    equation: Equation, inputs: Sequence[Any], outs: Sequence[Any]
) -> dict[str, Helper]:
    """The vectors and one over the gaps between the values."""
    del equation, inputs
    vectors, values = outs
    return {
        "V": of_program(vectors),
        "conjugate": conjugated(of_program(vectors)),
        "F": _over_gaps(values[..., None, :] - values[..., :, None]),
    }


def _eigh(request: Request) -> list[Partial]:
    """`dw_i = v_i^H dA v_i` and `dV = V (F * (V^H dA V))` with `F[i,j] = 1 / (w_j - w_i)`."""
    size = request.shape[-1]
    term = request.chain()
    k, m = term.letter(size), term.letter(size)
    if request.result == 1:
        i = request.rows[-1]
        return [term.entry("conjugate", k, i).entry("V", m, i).by(k, m)]
    i, j = request.rows[-2:]
    n = term.letter(size)
    term.entry("V", i, n).entry("F", n, j)
    return [term.entry("conjugate", k, n).entry("V", m, j).by(k, m)]


def _is_whole(equation: Equation, inputs: Sequence[Any]) -> bool:
    """Whether all eigenvalues are computed, so that gaps to all others are known."""
    del inputs
    return equation.params.get("subset_by_index") is None


CLOSED_FORMS["eigh"] = ClosedForm(
    _eigh_arrays, _eigh, _is_whole, ("the vectors of eigh({})", "the values of eigh({})")
)


# Singular values


def _svd_arrays(
    equation: Equation, inputs: Sequence[Any], outs: Sequence[Any]
) -> dict[str, Helper]:
    """The values, the vectors, and one over the gaps between squares of values."""
    (matrix,) = inputs
    values, left, right = outs[0], *outs[1:], *(None, None)[len(outs) - 1 :]
    if left is None:
        params = {**equation.params, "compute_uv": True, "full_matrices": False}
        _, left, right = compat.bind(equation.primitive, [matrix], params)
        vectors = (
            Helper(left, "U of svd({})", (matrix,)),
            Helper(right, "Vᵀ of svd({})", (matrix,)),
        )
    else:
        vectors = of_program(left), of_program(right)
    squares = values * values
    return {
        "s": of_program(values),
        "U": vectors[0],
        "Vt": vectors[1],
        "conjugate of U": conjugated(vectors[0]),
        "conjugate of Vt": conjugated(vectors[1]),
        "F": _over_gaps(squares[..., None, :] - squares[..., :, None]),
    }


def _svd(request: Request) -> list[Partial]:
    """Of values `ds_i = Re u_i^H dA v_i`; of the vectors of real matrices, with `C = U^T dA V`.

    dU = U (F * (C S + S C^T)) + (1 - U U^T) dA V S^-1
    dV = V (F * (S C + C^T S)) + (1 - V V^T) dA^T U S^-1,  F[i,j] = 1 / (s_j^2 - s_i^2)
    """
    rows, columns = request.shape[-2:]
    if request.result == 0:
        term = request.chain()
        (i,) = request.rows[-1:]
        k, m = term.letter(rows), term.letter(columns)
        return [term.entry("conjugate of U", k, i).entry("conjugate of Vt", i, m).by(k, m)]
    return [
        _rotated(request, True),
        _rotated(request, False),
        *_beyond(request, rows if request.result == 1 else columns),
    ]


def _rotated(request: Request, is_plain: bool) -> Partial:
    """The part of the vectors that stays in their span: of `C`, or of its transpose."""
    rows, columns = request.shape[-2:]
    term = request.chain()
    k, m, n = term.letter(rows), term.letter(columns), term.letter(min(rows, columns))
    i, j = request.rows[-2:]
    is_left = request.result == 1
    if is_left:
        term.entry("U", i, n)
    else:
        i, j = j, i
        term.entry("Vt", n, i)
    first, second = (n, j) if is_plain else (j, n)
    term.entry("F", n, j).entry("U", k, first).entry("Vt", second, m)
    return term.entry("s", second if is_left else first).by(k, m)


def _beyond(request: Request, size: int) -> list[Partial]:
    """The part of the vectors that leaves their span, if they have more entries than there are."""
    rows, columns = request.shape[-2:]
    count = min(rows, columns)
    if size == count:
        return []
    is_left = request.result == 1
    i, j = request.rows[-2:] if is_left else request.rows[-2:][::-1]
    terms: list[Partial] = []
    for is_projected in (False, True):
        term = request.chain()
        k, m = term.letter(rows), term.letter(columns)
        own = k if is_left else m
        if is_projected:
            n = term.letter(count)
            term.times(Number(-1))
            for place in (i, own):
                term.entry(*(("U", place, n) if is_left else ("Vt", n, place)))
        else:
            term.times(equal(i, own))
        term.entry(*(("Vt", j, m) if is_left else ("U", k, j)))
        value = request.factors["s"].entry(j)
        terms.append(term.times(ex.Quotient(ex.ONE, value)).by(k, m))
    return terms


def _has_vectors(equation: Equation, inputs: Sequence[Any]) -> bool:
    """Whether the thin vectors are known: of complex ones the phase is a convention."""
    (matrix,) = inputs
    params = equation.params
    is_square = matrix.shape[-1] == matrix.shape[-2]
    return (
        params.get("subset_by_index") is None
        and (is_real(matrix) or not params["compute_uv"])
        and (is_square or not (params["compute_uv"] and params["full_matrices"]))
        and jnp.size(matrix) > 0
    )


CLOSED_FORMS["svd"] = ClosedForm(
    _svd_arrays, _svd, _has_vectors, ("s of svd({})", "U of svd({})", "Vᵀ of svd({})")
)
