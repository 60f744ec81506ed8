"""Blocks as the sparse arrays and linear operators of other libraries.

The values are computed in one pass over the factors; the places follow from the structure, so that
nothing is detected and nothing is coloured. Every matrix has the outputs down the rows and the
inputs across the columns, each flattened in row-major order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.distinct import are_distinct
from blockjac.algebra.entries import (
    Grid,
    Piece,
    all_inside,
    check_countable,
    check_no_batch,
    check_one,
    is_static,
    pieces,
    places,
    shape_of,
    values,
)
from blockjac.base.arrays import canonical
from blockjac.base.compat import is_traced
from blockjac.errors import BlockShapeError, BlockTypeError
from blockjac.exports.each_place_once import each_place_once
from blockjac.exports.ordered_values import (
    check_places,
    numpy_values,
    row_column_pairs,
)
from blockjac.exports.prototypes import jax_prototype, scipy_prototype
from blockjac.sparsity.pattern import arrangement
from blockjac.sparsity.scipy_formats import check_ends, check_format

MAX_CONSTANT = 2**18
"""Up to this many places are constants of a program, which are copied faster than computed."""


@jax.jit
def _values(grid: Any) -> Any:
    return values(grid)


def to_scipy(grid: Grid, format: str = "csr") -> Any:
    """A grid's matrix as a sparse array of scipy; see `Block.to_scipy`."""
    check_format(format)
    if is_traced(grid):
        raise _traced_error()
    check_one(grid)
    kept = scipy_prototype(grid, format)  # which refuses what does not fit before it is computed
    with jax.ensure_compile_time_eval():  # of a Block that is a constant of a program
        numbers = numpy_values(_values([list(row) for row in grid]))
    return kept.filled(numbers)


def _traced_error() -> BlockTypeError:
    return BlockTypeError(
        "scipy needs values, but to_scipy or to_scipy_operator was called while JAX traces (under "
        "jit, vmap or grad); return the Block and call it outside, or use to_bcoo inside"
    )


# JAX's sparse arrays


def to_bcoo(grid: Grid, triangle: str | None = None, *, sort: bool = False) -> Any:
    """A grid's matrix as a `jax.experimental.sparse.BCOO`; see `Block.to_bcoo`.

    Args:
        grid: the blocks.
        triangle: "lower" or "upper" for one triangle and the diagonal, of constant places.
        sort: whether constant places are sorted, as a matrix by rows needs them.
    """
    from jax.experimental import sparse

    check_one(grid)
    shape = shape_of(grid)
    dtype = _jax_index_type(shape)
    if not is_traced(grid):
        return jax_prototype(grid, shape, dtype, triangle).filled(grid)
    grid_pieces = pieces(grid)
    check_places(grid_pieces)
    if triangle is None and not is_static(grid):
        return _at_run_time(grid, grid_pieces, dtype)
    if triangle is None and not sort and are_distinct(grid) and all_inside(grid_pieces):
        indices = _computed_places(grid_pieces, dtype)
        return sparse.BCOO((values(grid), indices), shape=shape, unique_indices=True)
    once = each_place_once(arrangement(grid).triangle(triangle), sort=sort)
    parts = once.values(values(grid)), jnp.asarray(row_column_pairs(once.pattern, dtype))
    return sparse.BCOO(parts, shape=shape, indices_sorted=once.is_sorted, unique_indices=True)


def _computed_places(grid_pieces: list[Piece], dtype: Any) -> Any:
    """Rows and columns `(count, 2)`: up to some size constants, else computed in the program."""
    if sum(piece.count for piece in grid_pieces) <= MAX_CONSTANT:
        known = [places(piece) for piece in grid_pieces]
        pairs = [np.stack([coordinates.rows, coordinates.columns], axis=1) for coordinates in known]
        none = np.zeros((0, 2), dtype)
        return jnp.asarray(np.concatenate([none, *pairs]).astype(dtype))
    where = [places(piece, jnp, dtype) for piece in grid_pieces]
    return jnp.concatenate(
        [jnp.stack([coordinates.rows, coordinates.columns], axis=1) for coordinates in where]
    )


def _at_run_time(grid: Grid, grid_pieces: list[Piece], dtype: Any) -> Any:
    """The matrix at positions that the program computes; positions off it have no entry."""
    from jax.experimental import sparse

    shape = shape_of(grid)
    where = [places(piece, jnp, dtype) for piece in grid_pieces]
    rows = [
        coordinates.rows
        if coordinates.inside is None
        else jnp.where(coordinates.inside, coordinates.rows, shape[0])
        for coordinates in where
    ]
    columns = [
        coordinates.columns
        if coordinates.inside is None
        else jnp.where(coordinates.inside, coordinates.columns, shape[1])
        for coordinates in where
    ]
    numbers = [jnp.concatenate(rows), jnp.concatenate(columns)]
    matrix = sparse.BCOO((values(grid), jnp.stack(numbers, axis=1)), shape=shape)
    return matrix if are_distinct(grid) else matrix.sum_duplicates(nse=matrix.nse)


def to_bcsr(grid: Grid, triangle: str | None = None) -> Any:
    """A grid's matrix as a `jax.experimental.sparse.BCSR`; see `Block.to_bcsr` and `to_bcoo`."""
    from jax.experimental import sparse

    check_one(grid)
    check_ends(shape_of(grid)[0], "bcsr")
    return sparse.BCSR.from_bcoo(to_bcoo(grid, triangle, sort=True))


def _jax_index_type(shape: tuple[int, int]) -> Any:
    """The integers for the places of JAX's formats: 32 bits where they reach.

    Raises:
        BlockShapeError: for a longer axis without x64.
    """
    check_countable(shape)
    if max(shape) < 2**31:
        return np.dtype(np.int32)
    if canonical(np.int64) == np.int64:
        return np.dtype(np.int64)
    raise BlockShapeError(
        f"a matrix of {shape[0]:,} x {shape[1]:,} needs places of 64 bits, which JAX has only with "
        "jax.config.update('jax_enable_x64', True); use to_scipy, or .matvec and .vecmat, which "
        "need no places"
    )


# Operators


def to_scipy_operator(
    matrix: Any, matvec: Callable[[Any], Any], vecmat: Callable[[Any], Any]
) -> Any:
    """A `scipy.sparse.linalg.LinearOperator` from a matrix's products with flat vectors."""
    from scipy.sparse import linalg

    if is_traced(matrix):
        raise _traced_error()
    check_no_batch(matrix, "a linear operator")
    dtype = np.dtype(matrix.dtype)
    numbers = dtype if dtype.itemsize > 2 else np.dtype(np.float32)

    def product(function: Callable[[Any], Any], vector: Any) -> np.ndarray:
        """The product with a flat vector; complex vectors are multiplied in two real parts."""
        if np.iscomplexobj(vector) and not jnp.issubdtype(dtype, jnp.complexfloating):
            vector = np.asarray(vector)
            return product(function, vector.real) + 1j * product(function, vector.imag)
        flat = np.ravel(vector).astype(numbers, copy=False)
        with jax.ensure_compile_time_eval():
            return numpy_values(function(flat if numbers == dtype else jnp.asarray(flat, dtype)))

    def adjoint(vector: Any) -> np.ndarray:
        return np.conj(product(vecmat, np.conj(vector)))

    constructor: Any = linalg.LinearOperator  # its stub has the constructor of a subclass
    return constructor(
        matrix.matrix_shape, matvec=partial(product, matvec), rmatvec=adjoint, dtype=numbers
    )
