"""What is wrong with a linear system, said before anything is computed."""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax.numpy as jnp

from blockjac.base.compat import Tracer
from blockjac.blocks import tree_vectors
from blockjac.blocks.systems import vectors_of
from blockjac.errors import BlockShapeError, BlockTypeError, InvalidOptionError
from blockjac.terms.matrix_interface import MatrixInterface

Assume = Literal["gen", "sym", "pos"]
"""What is promised of a matrix, in the words of `scipy.linalg.solve`."""


def checked_damping(matrix: Any, damping: Any, name: str) -> bool:
    """Whether there is any damping, once it and the matrix are found to be what they should be."""
    if not isinstance(matrix, MatrixInterface):
        raise BlockTypeError(
            f"{name} takes a Block or a BlockMatrix, but found {type(matrix).__name__}; for an "
            f"array use jax.numpy.linalg.{'lstsq' if name == 'lstsq' else 'solve'}"
        )
    tree_vectors.check_damping(damping)
    if matrix.batch_shape:
        raise BlockTypeError(
            f"{name} takes one matrix, but this is a batch of them out of jax.vmap: call {name} "
            "inside of it"
        )
    return isinstance(damping, Tracer) or float(damping) != 0


def check_inputs(matrix: MatrixInterface, jacobian: Any) -> None:
    """Raise unless a Jacobian is by the inputs of a matrix."""
    if not isinstance(jacobian, MatrixInterface):
        raise BlockTypeError(
            "predictive_variance takes the Jacobian of the outputs, a Block or a BlockMatrix such "
            f"as blockjac.block_jacobian gives, but found {type(jacobian).__name__}"
        )
    check_real("predictive_variance", matrix, jacobian)
    own, others = vectors_of(matrix), vectors_of(jacobian)
    if own != others:
        raise BlockShapeError(
            f"predictive_variance needs a Jacobian by the inputs of the factored matrix, {own[0]} "
            f"of shapes {own[1]}, but found one by {others[0]} of shapes {others[1]}"
        )


def check_real(name: str, *matrices: MatrixInterface) -> None:
    """Raise unless matrices are real."""
    if any(jnp.issubdtype(matrix.dtype, jnp.complexfloating) for matrix in matrices):
        raise BlockTypeError(
            f"{name} takes real matrices, but found complex numbers: take real and imaginary parts "
            "as two outputs"
        )


def check_assume(assume: Any) -> None:
    """Raise unless an assumption is one of those that are known."""
    if assume not in get_args(Assume):
        raise InvalidOptionError(f"assume must be 'gen', 'sym' or 'pos', but is {assume!r}")


def check_square(matrix: Any, name: str) -> None:
    """Raise unless outputs and inputs have the same shapes.

    Raises:
        BlockShapeError: names both.
    """
    (_, out), (_, wrt) = vectors_of(matrix, outputs=True), vectors_of(matrix)
    if out != wrt:
        raise BlockShapeError(
            f"{name} needs a square matrix, of equal output and input shapes, but found {out} and "
            f"{wrt}; blockjac.lstsq takes the others"
        )
