"""Blocks as the sparse arrays and linear operators of other libraries.

The values are computed in one pass over the factors; the places follow from the structure, so that
nothing is detected and nothing is coloured. Every matrix has the outputs down the rows and the
inputs across the columns, each flattened in row-major order.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.blocks.entries import (
    Grid,
    Piece,
    are_distinct,
    is_static,
    is_traced,
    pieces,
    places,
    shape_of,
    values,
)
from blockjac.blocks.pattern import Arrangement, arrangement
from blockjac.errors import BlockShapeError, BlockTypeError

SCIPY_FORMATS = ("csr", "csc", "coo", "dia")
"""The formats that `to_scipy` names; scipy converts to the others."""

MAX_CONSTANT = 2**18
"""Up to so many places are constants of a program, which are copied faster than computed."""

MAX_RUNS = 256
"""Up to so many runs of entries are added up by slices; more by a gather."""

BANDED = 10
"""A matrix whose diagonals hold so many times more numbers than it has entries is not banded."""


@jax.jit
def _values(grid: Any) -> Any:
    return values(grid)


def to_scipy(grid: Grid, format: str = "csr") -> Any:
    """A grid's matrix as a sparse array of scipy; see `Block.to_scipy`."""
    if is_traced(grid):
        raise BlockTypeError(
            "to_scipy needs values, but was called while JAX traces (under jit, vmap or grad); "
            "return the Block and call to_scipy outside, or use to_bcoo inside"
        )
    _check_one(grid)
    return assembled(arrangement(grid), _values([list(row) for row in grid]), format)


def assembled(arranged: Arrangement, found: Any, format: str) -> Any:
    """A sparse array of scipy from the values of the entries.

    Args:
        arranged: where they stand.
        found: their values, `(count,)`.
        format: of scipy's.

    Raises:
        BlockTypeError: for a format that does not exist.
        BlockShapeError: for "dia" where the entries lie on no few diagonals.
    """
    from scipy import sparse

    _check_format(format)
    pattern = arranged.pattern
    numbers = arranged.arranged(numpy_values(found))
    if format in ("csr", "csc"):
        return _compressed(pattern, numbers, format)
    matrix = sparse.coo_array((numbers, _places(pattern)), shape=pattern.shape)
    matrix.has_canonical_format = True
    if format == "coo":
        return matrix
    _check_banded(pattern)
    return matrix.todia()


def _compressed(pattern: Any, numbers: np.ndarray, format: str) -> Any:
    from scipy import sparse

    rows, columns = _places(pattern)
    height = pattern.shape[0]
    dtype = _index_type(pattern.nnz, pattern.shape)
    ends = np.zeros(height + 1, dtype)
    np.cumsum(np.bincount(rows, minlength=height), out=ends[1:])
    matrix = sparse.csr_array((numbers, columns, ends), shape=pattern.shape)
    matrix.has_sorted_indices = True
    matrix.has_canonical_format = True
    return matrix if format == "csr" else matrix.tocsc()


def _places(pattern: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns in the width that scipy would choose."""
    dtype = _index_type(pattern.nnz, pattern.shape)
    return pattern.rows.astype(dtype, copy=False), pattern.columns.astype(dtype, copy=False)


def _index_type(nnz: int, shape: tuple[int, int]) -> Any:
    return np.int32 if max(nnz, *shape) < 2**31 else np.int64


def _check_format(format: str) -> None:
    if format not in SCIPY_FORMATS:
        raise BlockTypeError(
            f"format must be one of {', '.join(map(repr, SCIPY_FORMATS))}, but is {format!r}; "
            "to_bcoo and to_bcsr give the formats of jax.experimental.sparse, and .asformat of "
            "scipy's array its other formats"
        )


def _check_banded(pattern: Any) -> None:
    diagonals = len(np.unique(pattern.columns - pattern.rows))
    held = diagonals * min(pattern.shape)
    if held > BANDED * max(pattern.nnz, min(pattern.shape)):
        raise BlockShapeError(
            f"format 'dia' stores whole diagonals, but the {pattern.nnz:,} entries of this "
            f"{pattern.shape[0]:,} x {pattern.shape[1]:,} matrix lie on {diagonals:,} of them, "
            f"{held:,} numbers; use 'csr', 'csc' or 'coo'"
        )


def numpy_values(array: Any) -> np.ndarray:
    """As NumPy; scipy's sparse arrays know no dtype of 16 bits."""
    found = np.asarray(array)
    return found if found.dtype.itemsize > 2 else found.astype(np.float32)


# JAX's sparse arrays


def to_bcoo(grid: Grid) -> Any:
    """A grid's matrix as a `jax.experimental.sparse.BCOO`; see `Block.to_bcoo`."""
    from jax.experimental import sparse

    _check_one(grid)
    shape = shape_of(grid)
    dtype = _jax_index_type(shape)
    found = pieces(grid)
    if not is_static(grid):
        return _at_run_time(grid, found, dtype)
    if is_traced(grid) and are_distinct(grid) and _all_inside(found):
        indices = _computed_places(found, dtype)
        return sparse.BCOO((values(grid), indices), shape=shape, unique_indices=True)
    arranged = arrangement(grid)
    indices = np.stack([arranged.pattern.rows, arranged.pattern.columns], axis=1).astype(dtype)
    numbers = values(grid) if is_traced(grid) else _values(list(grid))
    runs = _runs(arranged) if is_traced(grid) else None
    if runs is None:
        parts = _arranged(numbers, arranged), jnp.asarray(indices)
        return sparse.BCOO(parts, shape=shape, indices_sorted=True, unique_indices=True)
    parts = _added(numbers, runs), jnp.asarray(indices[runs.places])
    return sparse.BCOO(parts, shape=shape, unique_indices=True)


@dataclass(frozen=True, eq=False)
class Runs:
    """The values of a pattern as sums of slices of the values of the entries.

    Attributes:
        places: which place of the pattern each value is for; they keep the order of the entries.
        slices: for each run of places the first entry of each of its summands, and its length.
    """

    places: np.ndarray
    slices: list[tuple[list[int], int]]


def _runs(arranged: Arrangement) -> Runs | None:
    """How to add up entries of one place by slices, without a gather; None if there are many."""
    order = arranged.order
    starts = np.arange(len(order)) if arranged.starts is None else arranged.starts
    lengths = np.diff(np.append(starts, len(order)))
    if not len(starts):
        return None
    places = np.argsort(order[starts], kind="stable")
    last = len(order) - 1
    # Of each place the entries that stand there, first, second, ...; -1 for none.
    layers = [
        np.where(lengths[places] > depth, order[np.minimum(starts[places] + depth, last)], -1)
        for depth in range(lengths.max())
    ]
    breaks = np.zeros(len(places), bool)
    breaks[0] = True
    for layer in layers:
        here, before = layer[1:], layer[:-1]
        follows = (here == before + 1) & (before >= 0)
        breaks[1:] |= ~(follows | (here == before))
    firsts = np.flatnonzero(breaks)
    if len(firsts) > MAX_RUNS:
        return None
    ends = np.append(firsts[1:], len(places))
    slices = [
        ([int(layer[first]) for layer in layers if layer[first] >= 0], int(end - first))
        for first, end in zip(firsts, ends, strict=True)
    ]
    return Runs(places, slices)


def _added(found: Any, runs: Runs) -> Any:
    """The value of each place, by slices."""
    parts = [
        reduce(operator.add, [found[first : first + length] for first in firsts])
        for firsts, length in runs.slices
    ]
    return jnp.concatenate(parts)


def _arranged(found: Any, arranged: Arrangement) -> Any:
    """The value of each place; those of one place add up."""
    if np.array_equal(arranged.order, np.arange(len(found))):
        ordered = found
    else:
        ordered = jnp.take(found, jnp.asarray(arranged.order), axis=0)
    if arranged.starts is None:
        return ordered
    group = np.zeros(len(arranged.order), np.int64)
    group[arranged.starts[1:]] = 1
    return jax.ops.segment_sum(
        ordered,
        np.cumsum(group),
        num_segments=len(arranged.starts),
        indices_are_sorted=True,
    )


def _computed_places(found: list[Piece], dtype: Any) -> Any:
    """Rows and columns `(count, 2)`: up to some size constants, else computed in the program."""
    if sum(piece.count for piece in found) <= MAX_CONSTANT:
        known = [places(piece) for piece in found]
        pairs = [np.stack([one.rows, one.columns], axis=1) for one in known]
        none = np.zeros((0, 2), dtype)
        return jnp.asarray(np.concatenate([none, *pairs]).astype(dtype))
    where = [places(piece, jnp, dtype) for piece in found]
    return jnp.concatenate([jnp.stack([one.rows, one.columns], axis=1) for one in where])


def _at_run_time(grid: Grid, found: list[Piece], dtype: Any) -> Any:
    """The matrix where places are values of the program; what is no entry is off the matrix."""
    from jax.experimental import sparse

    shape = shape_of(grid)
    where = [places(piece, jnp, dtype) for piece in found]
    rows = [
        one.rows if one.inside is None else jnp.where(one.inside, one.rows, shape[0])
        for one in where
    ]
    columns = [
        one.columns if one.inside is None else jnp.where(one.inside, one.columns, shape[1])
        for one in where
    ]
    numbers = [jnp.concatenate(rows), jnp.concatenate(columns)]
    matrix = sparse.BCOO((values(grid), jnp.stack(numbers, axis=1)), shape=shape)
    return matrix if are_distinct(grid) else matrix.sum_duplicates(nse=matrix.nse)


def to_bcsr(grid: Grid) -> Any:
    """A grid's matrix as a `jax.experimental.sparse.BCSR`; see `Block.to_bcsr`."""
    from jax.experimental import sparse

    matrix = to_bcoo(grid)
    return sparse.BCSR.from_bcoo(matrix if matrix.indices_sorted else matrix.sort_indices())


def _all_inside(found: list[Piece]) -> bool:
    return all(
        index.within(size)
        for piece in found
        for index, size in zip(piece.term.indices, piece.block.shape, strict=True)
    )


def _jax_index_type(shape: tuple[int, int]) -> Any:
    """The integers for the places of JAX's formats: 32 bits where they reach.

    Raises:
        BlockShapeError: for a longer axis without x64.
    """
    if max(shape) < 2**31:
        return np.dtype(np.int32)
    if jnp.result_type(np.int64) == np.int64:
        return np.dtype(np.int64)
    raise BlockShapeError(
        f"a matrix of {shape[0]:,} x {shape[1]:,} needs places of 64 bits, which JAX has only with "
        "jax.config.update('jax_enable_x64', True); use to_scipy, or .matvec and .vecmat, which "
        "need no places"
    )


def _check_one(grid: Grid) -> None:
    """Refuse a batch of blocks, whose leaves an outer `vmap` has given a further axis."""
    for row in grid:
        for block in row:
            if block.batch_shape:
                raise BlockTypeError(
                    f"this Block is a batch {block.batch_shape} of blocks out of jax.vmap, and a "
                    "sparse matrix is one; take one of them, as "
                    "jax.tree.map(lambda leaf: leaf[0], block), or differentiate the whole batch "
                    "at once without vmap, whose deltas the Block then keeps"
                )


# Operators


def to_scipy_operator(
    shape: tuple[int, int], dtype: Any, matvec: Callable[[Any], Any], vecmat: Callable[[Any], Any]
) -> Any:
    """A `scipy.sparse.linalg.LinearOperator` from the products of flat vectors."""
    from scipy.sparse import linalg

    def product(function: Callable[[Any], Any], vector: Any) -> np.ndarray:
        return numpy_values(function(jnp.asarray(np.ravel(vector), dtype)))

    def adjoint(vector: Any) -> np.ndarray:
        return np.conj(product(vecmat, np.conj(vector)))

    numbers = np.dtype(dtype) if np.dtype(dtype).itemsize > 2 else np.dtype(np.float32)
    made: Any = linalg.LinearOperator  # its stub has the constructor of a subclass
    return made(shape, matvec=partial(product, matvec), rmatvec=adjoint, dtype=numbers)
