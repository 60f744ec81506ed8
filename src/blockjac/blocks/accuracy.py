"""The check of a solution that has been computed: what singular matrices do is said in words."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.base.arrays import precision
from blockjac.base.compat import is_traced
from blockjac.blocks import tree_vectors
from blockjac.errors import InvalidOptionError, SingularMatrixError
from blockjac.terms.matrix_interface import MatrixInterface


def checked(answer: Any, matrix: MatrixInterface, shift: Any, right: Any) -> Any:
    """The solution of `(A + shift) x = right`, if it is one.

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
    return answer


def _norm(vector: Any) -> float:
    """The Euclidean norm."""
    return float(np.linalg.norm(np.asarray(vector)))
