"""The entries of blocks one by one: their values, rows and columns.

Every term has one entry for each value of its labels: the product of its factors there, at the row
and the column that its indices give. The pattern is exact, without detection or coloring. A grid of
blocks, such as the Jacobian of several outputs by several inputs, is one matrix here: outputs one
after another down the rows, inputs across the columns, each flattened in row-major order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.arithmetic import all_of
from blockjac.algebra.backend import backend
from blockjac.base import compat
from blockjac.devices import host_limit, in_bytes
from blockjac.errors import BlockShapeError, BlockTypeError, DenseTooLargeError
from blockjac.terms.block import Block
from blockjac.terms.index import Index, Label, Lookup
from blockjac.terms.term import Term

Grid = Sequence[Sequence[Block]]
"""Blocks by output (rows) and input (columns)."""


LARGEST = 2**63 - 1
"""The largest position that a 64-bit integer can hold."""


@dataclass(frozen=True)
class Piece:
    """A term of a block in a grid, and where the block begins in the grid's matrix.

    Attributes:
        term: the term.
        block: its block.
        row: the first row of the block.
        column: the first column of the block.
    """

    term: Term
    block: Block
    row: int
    column: int

    @property
    def count(self) -> int:
        """The number of entries of the term, including those off the block."""
        return arrays.numel(self.term.labels)


@dataclass(frozen=True, eq=False)
class Places:
    """Rows and columns of entries.

    Attributes:
        rows: integers `(count,)`.
        columns: integers `(count,)`.
        inside: booleans `(count,)`, False for entries that lie off the block; None if all lie on
            it.
    """

    rows: Any
    columns: Any
    inside: Any


def shape_of(grid: Grid) -> tuple[int, int]:
    """The numbers of rows and columns of a grid's matrix."""
    return (
        sum(math.prod(row[0].out_shape) for row in grid),
        sum(math.prod(block.wrt_shape) for block in grid[0]),
    )


def pieces(grid: Grid) -> list[Piece]:
    """All terms of a grid, block by block."""
    widths = [math.prod(block.wrt_shape) for block in grid[0]]
    columns = list(itertools.accumulate(widths, initial=0))
    rows = itertools.accumulate((math.prod(row[0].out_shape) for row in grid), initial=0)
    return [
        Piece(term, block, first_row, column)
        for first_row, row in zip(rows, grid, strict=False)
        for column, block in zip(columns, row, strict=False)
        for term in block.terms
    ]


def values(grid: Grid) -> Any:
    """The value of each entry, term after term, in one array `(count,)`."""
    dtype = dtype_of(grid)
    parts = [values_of(piece.term, dtype) for piece in pieces(grid)]
    count = sum(part.shape[0] for part in parts)
    return backend().array(
        (count,), dtype, lambda: jnp.concatenate(parts) if parts else jnp.zeros((0,), dtype)
    )


def dtype_of(grid: Grid) -> Any:
    """The dtype of a grid's matrix."""
    return jnp.result_type(*(block.dtype for row in grid for block in row))


def values_of(term: Term, dtype: Any) -> Any:
    """The value of each entry of a term, including those off the block."""
    labels = term.labels
    count = arrays.numel(labels)
    if not term.factors:
        return backend().array((count,), dtype, lambda: jnp.full((count,), term.coefficient, dtype))
    product = arrays.product(term.factors, term.coefficient, dtype, labels)

    def emit() -> Any:
        array = jnp.asarray(arrays.aligned(product, labels), dtype)
        return jnp.reshape(jnp.broadcast_to(array, arrays.sizes(labels)), (count,))

    return backend().array((count,), dtype, emit)


def places(piece: Piece, xp: Any = np, dtype: Any = np.int64) -> Places:
    """The rows and columns of the entries of a term.

    Args:
        piece: the term in its grid.
        xp: `numpy`, or `jax.numpy` for places that the running program computes.
        dtype: the dtype of the rows and columns.
    """
    term, block = piece.term, piece.block
    labels = term.labels
    shape = arrays.sizes(labels)

    def flat(indices: Sequence[Index], sizes: Sequence[int], first: int) -> Any:
        strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
        total = _total(indices, strides, labels, xp, dtype) + xp.asarray(first, dtype)
        return xp.reshape(xp.broadcast_to(total, shape), (-1,))

    bounds = [
        (value >= 0) & (value < size)
        for index, size in zip(term.indices, block.shape, strict=True)
        if not index.within(size)
        for value in [_total([index], [1], labels, xp, _wide(index, dtype))]
    ]
    inside = None
    if bounds:
        inside = xp.reshape(xp.broadcast_to(all_of(bounds), shape), (-1,))
    return Places(
        flat(term.out, block.out_shape, piece.row),
        flat(term.wrt, block.wrt_shape, piece.column),
        inside,
    )


def _wide(index: Index, dtype: Any) -> Any:
    """Integers in which no value of the index's lookup wraps around onto the axis."""
    is_wide = index.lookup is not None and np.dtype(index.lookup.array.dtype).itemsize == 8
    return np.int64 if is_wide else dtype


def _total(
    indices: Sequence[Index], weights: Sequence[int], labels: Sequence[Label], xp: Any, dtype: Any
) -> Any:
    """`sum weight * index` over the labels, shaped to broadcast."""
    steps: dict[Label, int] = {}
    offset = 0
    lookups: list[tuple[Lookup, int]] = []
    for index, weight in zip(indices, weights, strict=True):
        offset += weight * index.offset
        for label, stride in index.strides:
            steps[label] = steps.get(label, 0) + weight * stride
        if index.lookup is not None:
            lookups.append((index.lookup, weight))
    total = xp.full((1,) * len(labels), offset, dtype)
    for label in reversed(labels):  # the fast axes first, while the sum is small
        if steps.get(label):
            shape = tuple(label.size if axis is label else 1 for axis in labels)
            total = total + steps[label] * xp.reshape(xp.arange(label.size, dtype=dtype), shape)
    for lookup, weight in lookups:
        order = [lookup.labels.index(label) for label in labels if label in lookup.labels]
        array = xp.transpose(xp.asarray(lookup.array).astype(dtype), order)
        shape = tuple(label.size if label in lookup.labels else 1 for label in labels)
        total = total + weight * xp.reshape(array, shape)
    return total


def is_static(grid: Grid) -> bool:
    """Whether all places are known now, since no lookup is a value that is being traced."""
    return not any(
        isinstance(index.lookup.array, compat.Tracer)
        for piece in pieces(grid)
        for index in piece.term.indices
        if index.lookup is not None
    )


def all_inside(terms: Sequence[Piece]) -> bool:
    """Whether it is certain that no entry lies off its block."""
    return all(
        index.within(size)
        for piece in terms
        for index, size in zip(piece.term.indices, piece.block.shape, strict=True)
    )


def check_one(grid: Grid, what: str = "a sparse matrix") -> None:
    """Refuse a batch of blocks in a grid; see `check_no_batch`."""
    for row in grid:
        for block in row:
            check_no_batch(block, what)


def check_no_batch(block: Any, what: str) -> None:
    """Refuse a batch of blocks, whose leaves an outer `vmap` has given a further axis.

    Args:
        block: a Block or BlockMatrix.
        what: what cannot be made of a batch.

    Raises:
        BlockTypeError: if the block is a batch; says what to do instead.
    """
    if block.batch_shape:
        raise BlockTypeError(
            f"this {type(block).__name__} is a batch {block.batch_shape} of blocks out of "
            f"jax.vmap, but {what} is made of a single one; take one of them, as "
            "jax.tree.map(lambda leaf: leaf[0], block), or differentiate the whole batch "
            "at once without vmap, whose deltas the Block then keeps"
        )


def check_countable(shape: tuple[int, int]) -> None:
    """Refuse a matrix with more rows or columns than 64-bit integers can number.

    Raises:
        BlockShapeError: if it has more; says what to use instead.
    """
    if max(shape) > LARGEST:
        raise BlockShapeError(
            f"a matrix of {shape[0]:,} x {shape[1]:,} has places that 64 bits cannot number; use "
            ".matvec and .vecmat, which need no places"
        )


def check_room(numbers: int, what: str) -> None:
    """Refuse lists of this many 64-bit numbers if they exceed the limit.

    Raises:
        DenseTooLargeError: if they do; says what needs them and what to use instead.
    """
    needed = 8 * numbers
    if needed > host_limit():
        raise DenseTooLargeError(
            f"{what} need {in_bytes(needed)}, over the limit of {in_bytes(host_limit())}; "
            ".matvec, .vecmat and the linear operators need none of them"
        )
