"""Where a block has entries: the places of its structure, and their number."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blockjac.algebra.distinct import are_distinct
from blockjac.algebra.entries import (
    LARGEST,
    Grid,
    Piece,
    all_inside,
    check_countable,
    check_one,
    check_room,
    is_static,
    pieces,
    places,
    shape_of,
)
from blockjac.errors import BlockTypeError
from blockjac.sparsity.scipy_formats import assembled
from blockjac.sparsity.spy import draw, in_braille
from blockjac.terms.block import Block, delta_pairs, rebuilt
from blockjac.terms.term import Term

EXACT_PLACES = 10_000_000
"""Up to so many label values are enumerated to count a union exactly."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """The places where a Jacobian can have entries that are not zero, without the values.

    It follows from the operations alone: an entry that happens to be 0 at the point is a place too.

    Attributes:
        rows: of the places, sorted by row and then by column, each place once; int64 `(nnz,)`.
            Output axes are flattened in row-major order, one output after the other.
        columns: likewise for the inputs.
        shape: rows and columns of the whole matrix.

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
        """The number of places."""
        return len(self.rows)

    @property
    def bandwidth(self) -> tuple[int, int]:
        """How many diagonals below and above the main one are reached, as LAPACK counts them."""
        if not self.nnz:
            return (0, 0)
        offsets = self.columns - self.rows
        return (max(0, -int(offsets.min())), max(0, int(offsets.max())))

    def to_scipy(self, format: str = "csr") -> Any:
        """The places as a sparse array of `True`, in one of the formats of `Block.to_scipy`."""
        return assembled(self, np.ones(self.nnz, bool), format)

    def spy(self, ax: Any = None) -> Any:
        """Draw the places with matplotlib; see `Block.spy`."""
        return draw(self, ax)

    def __str__(self) -> str:
        places = self.shape[0] * self.shape[1]
        head = f"{self.nnz:,} of {places:,} places in {self.shape[0]:,} x {self.shape[1]:,}"
        return "\n".join([head, *in_braille(self)])

    def __repr__(self) -> str:
        return f"Pattern(shape={self.shape}, nnz={self.nnz})"


@dataclass(frozen=True, eq=False)
class Arrangement:
    """How the entries of a grid, term after term, come to stand in the order of its pattern.

    Attributes:
        pattern: the places.
        order: which entry stands where: the sorted values are `values[order]`.
        starts: where in the sorted values each place begins; None if no place is there twice.
    """

    pattern: Pattern
    order: np.ndarray
    starts: np.ndarray | None

    def arranged(self, values: np.ndarray) -> np.ndarray:
        """The value of each place, from the value of each entry; those of one place add up."""
        if self.starts is None:
            return values.take(self.order)
        if self._layers is None:
            return np.add.reduceat(values.take(self.order), self.starts)
        total = values.take(self.order[self.starts])
        for layer in self._layers:
            total[layer.places] += values.take(layer.entries)
        return total

    def permuted(self, places: np.ndarray) -> Arrangement:
        """The same with its places in another order, each of them once."""
        rows, columns = self.pattern.rows[places], self.pattern.columns[places]
        pattern = Pattern(rows, columns, self.pattern.shape)
        if self.starts is None:
            return Arrangement(pattern, self.order[places], None)
        counts = np.diff(self.starts, append=len(self.order))[places]
        starts = np.cumsum(counts) - counts
        entry = np.repeat(self.starts[places] - starts, counts) + np.arange(len(self.order))
        return Arrangement(pattern, self.order[entry], starts)

    @functools.cached_property
    def _layers(self) -> tuple[Layer, ...] | None:
        """The second entries of places, the third ones, ...; None where they are too many layers.

        To add them one layer after the other takes a third of the time of a sum over each place.
        """
        if self.starts is None:
            return ()
        counts = np.diff(self.starts, append=len(self.order))
        if LAYER * (counts.max() - 1) > len(self.order):
            return None
        deep = [np.flatnonzero(counts > depth) for depth in range(1, counts.max())]
        return tuple(
            Layer(places, self.order[self.starts[places] + depth])
            for depth, places in enumerate(deep, 1)
        )


LAYER = 500
"""So many entries are added up in the time that one layer more takes."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Entries that are added to places, at most one to each.

    Attributes:
        places: by number.
        entries: by number.
    """

    places: np.ndarray
    entries: np.ndarray


def pattern(grid: Grid) -> Pattern:
    """The places of a grid's matrix.

    Raises:
        BlockTypeError: under `jit`, where places depend on values of the program.
        DenseTooLargeError: if the list of places itself does not fit.
    """
    return arrangement(grid).pattern


def arrangement(grid: Grid) -> Arrangement:
    """The pattern of a grid, and how its entries come to stand in it.

    Raises:
        BlockTypeError: as `pattern`.
        DenseTooLargeError: as `pattern`.
    """
    if not is_static(grid):
        raise BlockTypeError(
            "the pattern of this block depends on values that are known only when the program "
            "runs (the places of a gather or a sort); call .pattern() outside jax.jit"
        )
    if any(index.lookup is not None for piece in pieces(grid) for index in piece.term.indices):
        check_one(grid, "a pattern")
    found = pieces(grid)
    shape = shape_of(grid)
    check_countable(shape)
    count = sum(piece.count for piece in found)
    check_room(8 * count, f"the places of the {count:,} entries of this Jacobian")
    rows, columns, entries = _listed(found)
    order = _sorting(rows, columns, shape)
    rows, columns = rows[order], columns[order]
    entries = order if entries is None else entries[order]
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    if fresh.all():
        return Arrangement(Pattern(rows, columns, shape), entries, None)
    starts = np.flatnonzero(fresh)
    return Arrangement(Pattern(rows[starts], columns[starts], shape), entries, starts)


def _listed(found: Sequence[Piece]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows, columns and numbers of all entries; no numbers where they are 0, 1, 2, ..."""
    rows, columns, kept, first, complete = [], [], [], 0, True
    for piece in found:
        where = places(piece)
        numbers = np.arange(first, first + piece.count)
        first += piece.count
        if where.inside is None:
            rows.append(where.rows)
            columns.append(where.columns)
            kept.append(numbers)
        else:
            complete = False
            rows.append(where.rows[where.inside])
            columns.append(where.columns[where.inside])
            kept.append(numbers[where.inside])
    if not found:
        none = np.zeros(0, np.int64)
        return none, none, none
    return (
        np.concatenate(rows),
        np.concatenate(columns),
        None if complete else np.concatenate(kept),
    )


def _sorting(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """What sorts places by row and then by column; each term brings long sorted runs."""
    if shape[0] * shape[1] > LARGEST:
        return np.lexsort((columns, rows))
    return np.argsort(rows * shape[1] + columns, kind="stable")


def nnz(block: Block) -> int:
    """The size of the union of the terms' index images; see `Block.nnz`."""
    terms = list(block.terms)
    if not terms:
        return 0
    # Deltas that all terms have are set aside: they multiply what the other axes hold.
    deltas = delta_pairs(block)
    multiplicity = math.prod(block.out_shape[i] for i, _ in deltas)
    rank = len(block.out_shape)
    aside = {axis for i, j in deltas for axis in (i, rank + j)}
    rest = _without(block, aside)
    found = pieces([[rest]])
    most = sum(piece.count for piece in found)
    if all_inside(found) and are_distinct([[rest]]):
        return multiplicity * most
    if most > EXACT_PLACES or block.batch_shape or not is_static([[rest]]):
        return multiplicity * min(most, rest.size)
    return multiplicity * arrangement([[rest]]).pattern.nnz


def _without(block: Block, aside: set[int]) -> Block:
    """The block without some axes and without what they alone carry."""
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
