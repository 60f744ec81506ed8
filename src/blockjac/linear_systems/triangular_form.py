"""Known places as those of a block triangular matrix, once rows and columns are put in order."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from blockjac.exports.prototypes import kept_for_pattern
from blockjac.sparsity.pattern import arrangement


@dataclass(frozen=True, eq=False)
class TriangularForm:
    """The diagonal blocks of a square matrix in block triangular form.

    Attributes:
        nnz: how many places there are.
        is_bare: whether all rows are in the order of their columns.
        row_block: the block of each row; empty if the matrix is singular whatever its values.
        column_block: the block of each column.
        row_local: the number of each row within its block.
        column_local: the number of each column within its block.
    """

    nnz: int
    is_bare: bool
    row_block: np.ndarray
    column_block: np.ndarray
    row_local: np.ndarray
    column_local: np.ndarray

    @property
    def nbytes(self) -> int:
        """The memory of its arrays."""
        return 4 * self.row_block.nbytes + 64

    @property
    def is_singular(self) -> bool:
        """Whether the rows cannot be matched with the columns."""
        return not len(self.row_block)

    @functools.cached_property
    def sizes(self) -> dict[int, np.ndarray]:
        """The blocks of each size."""
        widths = np.bincount(self.row_block)
        return {int(width): np.flatnonzero(widths == width) for width in np.unique(widths)}

    @property
    def is_diagonal(self) -> bool:
        """Whether each row and each column has one place."""
        return not self.is_singular and self.nnz == len(self.row_block)

    @property
    def is_of_use(self) -> bool:
        """Whether it is anything but one block."""
        return self.is_singular or len(self.row_block) not in self.sizes

    @property
    def method(self) -> str:
        """What it is, in a few words."""
        size = len(self.row_block)
        if self.is_singular:
            return "singular, whatever its values"
        if list(self.sizes) == [1]:
            kind = "diagonal" if self.is_diagonal else "triangular"
            return f"{kind} of {size}" + ("" if self.is_bare else ", reordered")
        parts = [f"{len(blocks)} of {width}" for width, blocks in self.sizes.items()]
        return f"block triangular of {size}: {', '.join(parts)}"

    def targets(
        self, rows: np.ndarray, columns: np.ndarray, inside: np.ndarray, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which entries are in diagonal blocks of a width, and where in an array of all of them.

        Args:
            rows: of the entries.
            columns: of the entries.
            inside: whether they are entries of the matrix.
            width: of the blocks.

        Returns:
            The numbers of the entries, and for each its place in `(count, width, width)`, flat.
        """
        number = np.full(int(self.row_block.max()) + 1, -1)
        number[self.sizes[width]] = np.arange(len(self.sizes[width]))
        rows, columns = np.where(inside, rows, 0), np.where(inside, columns, 0)
        block = self.row_block[rows]
        entries = np.flatnonzero(
            inside & (block == self.column_block[columns]) & (number[block] >= 0)
        )
        rows, columns, block = rows[entries], columns[entries], number[block[entries]]
        return entries, (block * width + self.row_local[rows]) * width + self.column_local[columns]


def triangular_form(grid: Sequence[Sequence[Any]]) -> TriangularForm:
    """The block triangular form of a square grid whose places are known; cached."""
    return kept_for_pattern(grid, "triangular form", _form)


def _form(bare: Any) -> TriangularForm:
    """A matching of rows and columns, and the strongly connected components of the pairs.

    Source:
        Duff, "On permutations to block triangular form", IMA J. Appl. Math. 19, 1977.
    """
    from scipy.sparse import csgraph, csr_array

    pattern = arrangement(bare).pattern
    rows, columns, size = pattern.rows, pattern.columns, pattern.shape[0]
    match = np.arange(size)
    if np.count_nonzero(rows == columns) < size:
        matrix = csr_array((np.ones(len(rows)), (rows, columns)), shape=pattern.shape)
        match = cast("Any", csgraph.maximum_bipartite_matching)(matrix, perm_type="column")
    empty = np.zeros(0, np.int64)
    if np.any(match < 0):
        return TriangularForm(len(rows), True, empty, empty, empty, empty)
    pair = np.empty(size, np.int64)
    pair[match] = np.arange(size)
    joined = csr_array((np.ones(len(rows)), (rows, pair[columns])), shape=pattern.shape)
    _, block = cast("Any", csgraph.connected_components)(joined, connection="strong")
    order = np.argsort(block, kind="stable")
    widths = np.bincount(block)
    local = np.empty(size, np.int64)
    local[order] = np.arange(size) - np.repeat(np.cumsum(widths) - widths, widths)
    is_bare = bool(np.all(match == np.arange(size)))
    return TriangularForm(len(rows), is_bare, block, block[pair], local, local[pair])
