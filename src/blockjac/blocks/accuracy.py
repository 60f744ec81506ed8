"""The check of a solution that has been computed: what singular matrices do is said in words."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.arrays import precision
from blockjac.base.compat import is_traced
from blockjac.blocks import tree_vectors
from blockjac.errors import InvalidOptionError, SingularMatrixError
from blockjac.terms.matrix_interface import MatrixInterface


def checked(
    answer: Any, matrix: MatrixInterface, shift: Any, right: Any, assume: str = "gen"
) -> Any:
    """The solution of `(A + shift) x = right`, if it is one and the matrix is as promised.

    A broken promise is found by what it would make of a few products: symmetry by the same vector
    on both sides, and a positive definite matrix by the signs of its diagonal and of `x A x`.

    Args:
        answer: the solution.
        matrix: A.
        shift: added to its diagonal.
        right: the right-hand side.
        assume: what was promised of the matrix.

    Raises:
        InvalidOptionError: while JAX traces, when arrays have no values yet.
        SingularMatrixError: if the solution is not finite, or leaves a large residual.
    """
    if is_traced((answer, matrix, shift, right)):
        raise InvalidOptionError(
            "check=True looks at the solution, which has no values under jit, vmap or grad: check "
            "outside, or test jax.numpy.isfinite of the solution"
        )
    x, b = tree_vectors.flat(answer), tree_vectors.flat(right)
    for name, values in (("right-hand side", b), ("matrix", matrix.flat_matvec(jnp.ones_like(x)))):
        if not np.all(np.isfinite(np.asarray(values))):
            raise SingularMatrixError(f"the {name} of a linear system is not finite: find the nan")
    if not np.all(np.isfinite(np.asarray(x))):
        raise SingularMatrixError(
            'the matrix of a linear system is singular, or not positive definite where assume="pos"'
            " promises that: the solution is not finite; add damping=, or leave the promise out"
        )
    residual = _norm(matrix.flat_matvec(x) + shift * x - b)
    allowed = precision(x.dtype) ** 0.5 * _norm(b)
    if residual > allowed:
        raise SingularMatrixError(
            f"the matrix of a linear system is nearly singular: the residual is {residual:.2g}, "
            f"over {allowed:.2g}, that is the norm of the right-hand side times the root of the "
            "rounding error; add damping=, or use 64 bits"
        )
    if assume != "gen":
        _check_promise(matrix, shift, x, assume)
    return answer


def _check_promise(matrix: MatrixInterface, shift: Any, x: Any, assume: str) -> None:
    """Raise where the matrix is found not to be what `assume` says.

    Raises:
        SingularMatrixError: says what was found.
    """
    product, mirrored = matrix.flat_matvec(x), matrix.flat_vecmat(x)
    if _norm(product - mirrored) > precision(x.dtype) ** 0.5 * _norm(product):
        raise SingularMatrixError(
            f"the matrix of a linear system is not symmetric, which assume={assume!r} promises: "
            'leave the promise out, or take assume="gen"'
        )
    if assume != "pos":
        return
    diagonal = [np.asarray(leaf) + shift for leaf in jax.tree.leaves(matrix.diagonal())]
    least = min((float(leaf.min()) for leaf in diagonal if leaf.size), default=1.0)
    form = float(np.vdot(np.asarray(x), np.asarray(product + shift * x)))
    if least <= 0 or (form <= 0 and _norm(x) > 0):
        what = f"an entry {least:.3g} on its diagonal" if least <= 0 else f"x A x = {form:.3g}"
        raise SingularMatrixError(
            f"the matrix of a linear system has {what}, so that it is not positive definite, which "
            'assume="pos" promises: take assume="sym" or "gen", or add damping='
        )


def _norm(vector: Any) -> float:
    """The Euclidean norm."""
    return float(np.linalg.norm(np.asarray(vector)))
