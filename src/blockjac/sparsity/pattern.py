"""The sparsity pattern of a block: the positions where its structure has entries."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from blockjac.algebra.distinct import are_distinct
from blockjac.algebra.entries import (
    Grid,
    all_inside,
    check_countable,
    check_one,
    check_room,
    is_static,
    pieces,
    shape_of,
)
from blockjac.errors import BlockTypeError
from blockjac.sparsity.filled import every_place, is_filled
from blockjac.sparsity.listed import are_increasing, listed, sorting
from blockjac.sparsity.scipy_formats import assembled
from blockjac.sparsity.spy import Leaves, draw, in_braille, mark, new_axes
from blockjac.terms.block import Block, delta_pairs, rebuilt
from blockjac.terms.term import Term

EXACT_PLACES = 10_000_000
"""Label values that are enumerated at most to count a union exactly."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """The positions where a Jacobian can have nonzero entries, without their values.

    It follows from the operations alone: an entry that happens to be 0 at the point is included.

    Attributes:
        rows: the row of each position, int64 `(nnz,)`. Positions are sorted by row, then by
            column, and occur once. Output axes are flattened in row-major order, one output after
            the other.
        columns: the column of each position, likewise for the inputs.
        shape: the numbers of rows and columns of the whole matrix.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> block = blockjac.block_jacobian(lambda x: x[1:] - x[:-1])(jnp.ones(5))
        >>> pattern = block.pattern()
        >>> pattern.nnz, pattern.rows.tolist(), pattern.columns.tolist()
        (8, [0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 1, 2, 2, 3, 3, 4])
        >>> print(pattern)
        8 of 20 places in 4 x 5
        ⠙⢦⡀
    """

    rows: np.ndarray
    columns: np.ndarray
    shape: tuple[int, int]

    @property
    def nnz(self) -> int:
        """The number of positions."""
        return len(self.rows)

    @property
    def bandwidth(self) -> tuple[int, int]:
        """The numbers of diagonals below and above the main one with entries, as in LAPACK."""
        if not self.nnz:
            return (0, 0)
        offsets = self.columns - self.rows
        return (max(0, -int(offsets.min())), max(0, int(offsets.max())))

    def to_scipy(self, format: str = "csr") -> Any:
        """The pattern as a sparse array of `True`, in one of the formats of `Block.to_scipy`."""
        return assembled(self, np.ones(self.nnz, bool), format)

    def spy(self, ax: Any = None, leaves: Leaves = ((), ())) -> Any:
        """Draw the pattern with matplotlib; see `Block.spy`.

        Args:
            ax: the matplotlib axes to draw into; by default those of a new figure.
            leaves: names and sizes of the outputs and of the inputs, to draw lines between.

        Returns:
            The new figure; the axes where `ax` is given.
        """
        axes = new_axes(self.shape) if ax is None else ax
        draw(self, axes)
        for leaves_of_side, axis in zip(leaves, (axes.yaxis, axes.xaxis), strict=True):
            mark(leaves_of_side, axis)
        return axes.figure if ax is None else ax

    def __str__(self) -> str:
        size = self.shape[0] * self.shape[1]
        head = f"{self.nnz:,} of {size:,} places in {self.shape[0]:,} x {self.shape[1]:,}"
        return "\n".join([head, *in_braille(self)])

    def __repr__(self) -> str:
        return f"Pattern(shape={self.shape}, nnz={self.nnz})"


@dataclass(frozen=True, eq=False)
class Arrangement:
    """How the entries of a grid, listed by term, are put in the order of its pattern.

    Attributes:
        pattern: the positions.
        order: sorts the entries: the sorted values are `values[order]`.
        starts: where each position begins in the sorted values; None if every position has only
            one entry.
    """

    pattern: Pattern
    order: np.ndarray
    starts: np.ndarray | None

    @property
    def firsts(self) -> np.ndarray:
        """Where each position begins in the sorted values."""
        return np.arange(len(self.order)) if self.starts is None else self.starts

    @property
    def counts(self) -> np.ndarray:
        """How many entries each position has."""
        return np.diff(self.firsts, append=len(self.order))

    def arranged(self, values: np.ndarray) -> np.ndarray:
        """The value of each position: the sum of the values of its entries."""
        if self.starts is None:
            return values.take(self.order)
        if self._layers is None:
            return np.add.reduceat(values.take(self.order), self.starts)
        total = values.take(self.order[self.starts])
        for layer in self._layers:
            total[layer.places] += values.take(layer.entries)
        return total

    def triangle(self, name: str | None) -> Arrangement:
        """The positions on and below the diagonal ("lower"), or on and above it ("upper")."""
        if name is None:
            return self
        rows, columns = self.pattern.rows, self.pattern.columns
        return self.chosen(np.flatnonzero(rows >= columns if name == "lower" else rows <= columns))

    def chosen(self, positions: np.ndarray) -> Arrangement:
        """Some of the positions, in another order."""
        rows, columns = self.pattern.rows[positions], self.pattern.columns[positions]
        pattern = Pattern(rows, columns, self.pattern.shape)
        if self.starts is None:
            return Arrangement(pattern, self.order[positions], None)
        counts = self.counts[positions]
        starts = np.cumsum(counts) - counts
        first: np.ndarray = np.repeat(self.starts[positions] - starts, counts)
        entry = first + np.arange(len(first))
        return Arrangement(pattern, self.order[entry], starts)

    @functools.cached_property
    def _layers(self) -> tuple[Layer, ...] | None:
        """The second entries of all positions, the third ones, ...; None if there are too many.

        Adding them layer by layer takes a third of the time of one sum per position.
        """
        if self.starts is None:
            return ()
        counts = self.counts
        if LAYER * (counts.max() - 1) > len(self.order):
            return None
        deep = [np.flatnonzero(counts > depth) for depth in range(1, counts.max())]
        return tuple(
            Layer(positions, self.order[self.starts[positions] + depth])
            for depth, positions in enumerate(deep, 1)
        )


LAYER = 500
"""The number of entries that are added up in the time that another layer takes."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Entries that are added to positions, at most one to each.

    Attributes:
        places: numbers of the positions.
        entries: numbers of the entries.
    """

    places: np.ndarray
    entries: np.ndarray


def pattern(grid: Grid) -> Pattern:
    """The sparsity pattern of a grid's matrix.

    Raises:
        BlockTypeError: under `jit`, if positions depend on values of the program.
        DenseTooLargeError: if the list of positions exceeds the size limit.
    """
    return arrangement(grid).pattern


def arrangement(grid: Grid) -> Arrangement:
    """The pattern of a grid, and how its entries are put in this order.

    Raises:
        BlockTypeError: see `pattern`.
        DenseTooLargeError: see `pattern`.
    """
    if not is_static(grid):
        raise BlockTypeError(
            "the pattern of this block depends on values that are known only when the program "
            "runs (the places of a gather or a sort); call .pattern() outside jax.jit"
        )
    if any(index.lookup is not None for piece in pieces(grid) for index in piece.term.indices):
        check_one(grid, "a pattern")
    shape = shape_of(grid)
    check_countable(shape)
    count = sum(piece.count for piece in pieces(grid))
    check_room(8 * count, f"the places of the {count:,} entries of this Jacobian")
    if is_filled(grid):
        return Arrangement(Pattern(*every_place(shape), shape), np.arange(count), None)
    rows, columns, entries = listed(pieces(grid))
    if are_increasing(rows, columns, shape):
        return Arrangement(Pattern(rows, columns, shape), entries, None)
    order = sorting(rows, columns, shape)
    rows, columns, entries = rows[order], columns[order], entries[order]
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    if fresh.all():
        return Arrangement(Pattern(rows, columns, shape), entries, None)
    starts = np.flatnonzero(fresh)
    return Arrangement(Pattern(rows[starts], columns[starts], shape), entries, starts)


def nnz(block: Block) -> int:
    """The number of positions that the terms cover together; see `Block.nnz`."""
    terms = list(block.terms)
    if not terms:
        return 0
    # Deltas that all terms share only multiply the count of the other axes.
    deltas = delta_pairs(block)
    multiplicity = math.prod(block.out_shape[i] for i, _ in deltas)
    rank = len(block.out_shape)
    aside = {axis for i, j in deltas for axis in (i, rank + j)}
    rest = _without(block, aside)
    parts = pieces([[rest]])
    most = sum(piece.count for piece in parts)
    if all_inside(parts) and are_distinct([[rest]]):
        return multiplicity * most
    if most > EXACT_PLACES or block.batch_shape or not is_static([[rest]]):
        return multiplicity * min(most, rest.size)
    return multiplicity * arrangement([[rest]]).pattern.nnz


def _without(block: Block, aside: set[int]) -> Block:
    """The pattern of a block without some of its axes, as a block without factors."""
    rank = len(block.out_shape)
    out_axes = [axis for axis in range(rank) if axis not in aside]
    wrt_axes = [axis for axis in range(rank, len(block.shape)) if axis not in aside]
    return rebuilt(
        tuple(block.shape[axis] for axis in out_axes),
        tuple(block.shape[axis] for axis in wrt_axes),
        block.dtype,
        [
            Term(
                (),
                tuple(term.indices[axis] for axis in out_axes),
                tuple(term.indices[axis] for axis in wrt_axes),
            )
            for term in block.terms
        ],
    )
