"""Square matrices cut into tiles of one size: block tridiagonal ones, which every band is.

Unknowns are put in an order and cut into m runs of b, the last filled up with unknowns that nothing
couples. Where no entry joins runs that are not neighbours, the tiles on three diagonals hold the
whole matrix. The size b is the smallest for which that is so, which may be half the width of the
band, or a multiple of it: fewer and larger tiles are fewer steps.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.devices import rates
from blockjac.linear_systems.order import Order
from blockjac.linear_systems.placement import Placement
from blockjac.linear_systems.solver import Solver
from blockjac.sparsity.pattern import Arrangement

LOWER, DIAGONAL, UPPER = range(3)
"""The three diagonals of tiles."""


@dataclass(frozen=True)
class Price:
    """What a step with tiles of b x b takes, one solution included.

    Attributes:
        operations: as multiples of b^3.
        passes: numbers that are written or read, as multiples of b^2.
        contractions: that start as slowly as one.
    """

    operations: float
    passes: float
    contractions: float

    def seconds(self, tiling: Tiling, systems: int, steps: int) -> float:
        """About how long it takes to factor a number of matrices of the same pattern at once.

        Args:
            tiling: of the matrices.
            systems: the number of matrices.
            steps: how many follow on each other.
        """
        device, b = rates(), tiling.width
        work = self.operations * b**3 / device.operations_per_second
        moved = 8 * self.passes * b**2 / device.bytes_per_second
        started = self.contractions * device.seconds_a_contraction + b * device.seconds_a_column
        return steps * started + tiling.count * systems * (work + moved)

    def seconds_again(self, tiling: Tiling, systems: int, steps: int) -> float:
        """About how long each further solution takes, which reads the tiles and multiplies them."""
        device, b = rates(), tiling.width
        moved = 8 * self.passes * b**2 / device.bytes_per_second
        started = self.contractions * device.seconds_a_contraction
        return steps * started + tiling.count * systems * moved


@dataclass(frozen=True, eq=False)
class Tiling:
    """How the unknowns of a matrix fall into tiles.

    Attributes:
        arranged: the pattern of the matrix.
        order: the order of the unknowns; None if they keep their own.
        size: the number of unknowns that are cut into tiles, the first in the order.
        width: the number b of unknowns of a tile.
    """

    arranged: Arrangement
    order: Order | None
    size: int
    width: int

    @property
    def count(self) -> int:
        """The number m of tiles on the diagonal."""
        return -(-self.size // self.width)

    @functools.cached_property
    def doubled(self) -> Tiling:
        """The same with tiles of twice the width."""
        return Tiling(self.arranged, self.order, self.size, 2 * self.width)

    @functools.cached_property
    def placement(self) -> Placement:
        """The entries of the three diagonals, as an array `(m, 3, b, b)`."""
        pattern, b, m = self.arranged.pattern, self.width, self.count
        rows, columns = pattern.rows, pattern.columns
        if self.order is not None:
            rows, columns = self.order.back[rows], self.order.back[columns]
        entries = np.flatnonzero((rows < self.size) & (columns < self.size))
        rows, columns = rows[entries], columns[entries]
        diagonal = columns // b - rows // b + DIAGONAL
        targets = ((rows // b * 3 + diagonal) * b + rows % b) * b + columns % b
        return Placement(self.arranged, entries, targets, (m, 3, b, b))

    def tiles(self, grid: Any, dtype: Any) -> jax.Array:
        """The tiles, `(m, 3, b, b)`: those of row k join it to run k - 1, k and k + 1."""
        tiles = self.placement.array(grid, dtype)
        missing = self.count * self.width - self.size
        if missing:
            units = np.diag(np.arange(self.width) >= self.width - missing)
            tiles = tiles.at[-1, DIAGONAL].add(units.astype(tiles.dtype))
        return tiles

    def cut(self, columns: jax.Array) -> jax.Array:
        """Columns of all unknowns `(n, k)`, run by run, `(m, b, k)`."""
        if self.order is not None:
            columns = columns[self.order.forth]
        missing = self.count * self.width - self.size
        if missing:
            columns = jnp.pad(columns, [(0, missing), (0, 0)])
        return jnp.reshape(columns, (self.count, self.width, -1))

    def joined(self, runs: jax.Array) -> jax.Array:
        """The inverse of `cut`."""
        columns = jnp.reshape(runs, (self.count * self.width, -1))[: self.size]
        return columns if self.order is None else columns[self.order.back]


class TiledSolver(Solver):
    """A block tridiagonal matrix, factored."""

    tiling: Tiling

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve for one column."""
        return self.solve_columns(right[:, None], transposed)[:, 0]

    def solve_columns(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve for all columns in the same steps."""
        return self.tiling.joined(self.solve_runs(self.tiling.cut(right), transposed))

    def solve_runs(self, right: jax.Array, transposed: bool) -> jax.Array:
        """Solve for columns that are cut into runs, `(m, b, k)`."""
        raise NotImplementedError

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return self.tiling.size

    def describe(self) -> str:
        """The numbers of tiles, and how they are eliminated."""
        moved = "" if self.tiling.order is None else ", reordered"
        count, width = self.tiling.count, self.tiling.width
        return f"block tridiagonal of {count} blocks of {width}{moved}, {self.elimination}"

    @property
    def elimination(self) -> str:
        """In which order runs are eliminated, in words."""
        raise NotImplementedError


def narrowest(rows: np.ndarray, columns: np.ndarray, size: int) -> int:
    """The smallest tiles for which only neighbouring runs are joined.

    Args:
        rows: the row of each entry.
        columns: the column of each entry.
        size: the number of unknowns.

    Examples:
        >>> narrowest(np.array([0, 0, 3]), np.array([1, 3, 0]), 4)
        2
    """
    numbers = np.arange(size)
    farthest = numbers.copy()
    np.maximum.at(farthest, np.minimum(rows, columns), np.maximum(rows, columns))
    distance = int((farthest - numbers).max(initial=0))
    for width in range(distance // 2 + 1, distance):
        if np.all(farthest // width - numbers // width <= 1):
            return width
    return max(distance, 1)
