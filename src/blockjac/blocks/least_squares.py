"""Least squares with a Block or BlockMatrix, by its normal equations.

The normal matrix `A' A` keeps the structure of `A`: rows of a population of regressions stay
independent, and residuals between neighbors give a band. It is factored once, and the solution is
corrected once with the residual, by the same factors. These corrected seminormal equations (Bjorck,
"Stability analysis of the method of seminormal equations for linear least squares problems", Linear
Algebra and its Applications 88/89, 1987) are about as accurate as a QR factorization unless the
condition number of `A` comes near the inverse root of the rounding error. A normal matrix that
neither fits nor has structure is not made: LSMR needs products with `A` alone.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from blockjac.blocks import tree_vectors
from blockjac.blocks.block_matrix import BlockMatrix
from blockjac.blocks.known_places import with_known_places
from blockjac.blocks.large_least_squares import large_least_squares
from blockjac.blocks.system_checks import check_real, checked_damping
from blockjac.blocks.systems import Factors, flat_solution, forms, solver_of, vectors_of
from blockjac.linear_systems.iterative import Iterative
from blockjac.terms.block import Block
from blockjac.terms.matrix_interface import MatrixInterface


def lstsq(matrix: MatrixInterface, right: Any, damping: Any = 0.0) -> Any:
    """The `x` that makes `|matrix x - right|^2 + damping |x|^2` least, as the structure allows.

    With fewer outputs than inputs and no damping it is the shortest of all that solve the system.
    The matrix must be of full rank unless it is damped; otherwise the answer is inf, nan or of no
    use, and damping gives a good one.

    Args:
        matrix: a Block or BlockMatrix of any shape.
        right: for a Block an array of `out_shape`, for a BlockMatrix a tree like the outputs.
        damping: not negative; a number or an array of shape ().

    Returns:
        For a Block an array of `wrt_shape`, for a BlockMatrix a tree like the inputs.

    Raises:
        BlockShapeError: if `right` does not fit.
        BlockTypeError: for something else than a Block or BlockMatrix, and for a batch of blocks.
        InvalidOptionError: for a damping that is not a number, or below 0.

    Source:
        Bjorck, "Stability analysis of the method of seminormal equations for linear least squares
        problems", Linear Algebra and its Applications 88/89, 1987.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> x = jnp.arange(4.0)
        >>> line = blockjac.block_jacobian(lambda p: p[0] + p[1] * x)(jnp.zeros(2))
        >>> solution = blockjac.lstsq(line, jnp.array([1.0, 3.0, 5.0, 7.0]))
        >>> [round(float(value), 3) for value in solution]
        [1.0, 2.0]
    """
    is_damped = checked_damping(matrix, damping, "lstsq")
    check_real("lstsq", matrix)
    tree, shapes = vectors_of(matrix, outputs=True)
    tree_vectors.check(right, tree, shapes, "lstsq")
    shift = jnp.asarray(damping, matrix.dtype)
    return with_known_places(_least_squares, matrix, shift, right, is_damped=is_damped)


def leverage(matrix: MatrixInterface, damping: Any) -> Any:
    """The leverage of each output; see `Block.leverage`."""
    is_damped = checked_damping(matrix, damping, "leverage")
    check_real("leverage", matrix)
    tree, _ = vectors_of(matrix, outputs=True)
    shift = jnp.asarray(damping, matrix.dtype)
    parts = with_known_places(_leverages, matrix, shift, is_damped=is_damped)
    return jax.tree.unflatten(tree, parts)


def _least_squares(matrix: Any, shift: Any, right: Any, *, is_damped: bool) -> Any:
    """The solution, as a tree like the inputs."""
    tree, shapes = vectors_of(matrix)
    vector = tree_vectors.flat(right)
    factors = _gram(matrix, shift, is_damped)
    vector = vector.astype(jnp.result_type(matrix.dtype, vector))
    if isinstance(factors[2], Iterative):
        scale = _scale(matrix, factors[2])
        return tree_vectors.tree(large_least_squares(matrix, shift, vector, scale), shapes, tree)
    if _is_wide(matrix):  # (A'A + s)^-1 A' = A' (AA' + s)^-1
        z = flat_solution(factors, vector)
        rest = vector - matrix.flat_matvec(matrix.flat_vecmat(z)) - shift * z
        solution = matrix.flat_vecmat(z + flat_solution(factors, rest))
    else:
        x = flat_solution(factors, matrix.flat_vecmat(vector))
        rest = matrix.flat_vecmat(vector - matrix.flat_matvec(x)) - shift * x
        solution = x + flat_solution(factors, rest)
    return tree_vectors.tree(solution, shapes, tree)


def _scale(matrix: Any, gram: Iterative) -> Any:
    """The reciprocal lengths of the columns; 1 where the solution would depend on them."""
    if _is_wide(matrix):
        return 1.0
    return jnp.sqrt(jnp.abs(jnp.concatenate(list(gram.inverse_diagonals))))


def _leverages(matrix: Any, shift: Any, *, is_damped: bool) -> list[jax.Array]:
    """The leverage of each output."""
    factors = _gram(matrix, shift, is_damped)
    if not _is_wide(matrix):
        return forms(factors, matrix, matrix)
    if isinstance(matrix, Block):
        return forms(factors, factors[0], Block.identity(matrix.out_shape, matrix.dtype))
    units = [Block.identity(shape, matrix.dtype) for shape in matrix.out_shapes]
    rows = [[unit if i == j else None for j in range(len(units))] for i, unit in enumerate(units)]
    return forms(factors, factors[0], BlockMatrix(rows))


def _is_wide(matrix: MatrixInterface) -> bool:
    """Whether there are fewer outputs than inputs."""
    outputs, inputs = matrix.matrix_shape
    return outputs < inputs


def _gram(matrix: Any, shift: Any, is_damped: bool) -> Factors:
    """`A' A`, or `A A'` if that is smaller, with its factors."""
    gram = matrix @ matrix.T if _is_wide(matrix) else matrix.T @ matrix
    return gram, shift, solver_of(gram, shift, assume="pos", is_damped=is_damped).solver
