"""The pattern of a matrix whose places are known, and the structure that it implies."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.entries import Grid, values
from blockjac.exports.ordered_values import ordered_values
from blockjac.exports.prototypes import kept_for_pattern
from blockjac.linear_systems import bordered, tiles
from blockjac.linear_systems.banded import Widths
from blockjac.linear_systems.order import Order, folded
from blockjac.linear_systems.placement import Placement
from blockjac.sparsity.bands import offsets, on_diagonal
from blockjac.sparsity.pattern import Arrangement, Pattern, arrangement


@dataclass(frozen=True, eq=False)
class Components:
    """Independent systems of the same size.

    Attributes:
        unknowns: the unknowns of each system, `(count, size)`.
        placement: where the entries of their matrices stand in an array `(count, size, size)`.
    """

    unknowns: np.ndarray
    placement: Placement

    @functools.cached_property
    def is_numbered(self) -> tuple[bool, bool]:
        """Whether these are the first unknowns, system after system; or side by side."""
        count, size = self.unknowns.shape
        numbers: Any = np.arange(self.unknowns.size)
        return (
            bool(np.array_equal(self.unknowns, numbers.reshape(count, size))),
            bool(np.array_equal(self.unknowns, numbers.reshape(size, count).T)),
        )

    def taken(self, vector: jax.Array) -> jax.Array:
        """The entries of a vector of all unknowns, one row for each system."""
        count, size = self.unknowns.shape
        after, beside = self.is_numbered
        if after:
            return jnp.reshape(vector[: count * size], (count, size))
        if beside:
            return jnp.reshape(vector[: count * size], (size, count)).T
        return vector[self.unknowns]

    def put_back(self, rows: jax.Array) -> jax.Array:
        """The vector of all unknowns, if all of them are here, from a row for each system."""
        after, beside = self.is_numbered
        if after or beside:
            return jnp.ravel(rows if after else rows.T)
        return jnp.ravel(rows)[np.argsort(self.unknowns, axis=None)]


@dataclass(frozen=True, eq=False)
class KnownPattern:
    """The pattern of a square matrix, and the structure derived from it on demand.

    Attributes:
        arranged: the pattern, and how the entries of the grid are put in its order.
    """

    arranged: Arrangement

    @property
    def pattern(self) -> Pattern:
        """The places of the entries."""
        return self.arranged.pattern

    @property
    def size(self) -> int:
        """The number of unknowns."""
        return self.pattern.shape[0]

    @property
    def nbytes(self) -> int:
        """About how many bytes the pattern and all derived structure take."""
        return 64 * self.pattern.nnz + 64 * self.size

    def numbers(self, grid: Grid, dtype: Any) -> jax.Array:
        """The value at each place."""
        return jnp.asarray(ordered_values(values(grid), self.arranged), dtype)

    @functools.cached_property
    def graph(self) -> Any:
        """The pattern as a SciPy matrix."""
        return self.pattern.to_scipy()

    @functools.cached_property
    def components(self) -> list[Components]:
        """The independent systems, by size."""
        from scipy.sparse import csgraph

        count, label = cast("Any", csgraph.connected_components)(self.graph, directed=False)
        sizes = np.bincount(label, minlength=count)
        order = np.argsort(label, kind="stable")
        first = np.cumsum(sizes) - sizes
        local = np.empty(self.size, np.int64)
        local[order] = np.arange(self.size) - first[label[order]]
        component = label[self.pattern.rows]
        result: list[Components] = []
        for size in np.unique(sizes).tolist():
            chosen = np.flatnonzero(sizes == size)
            number = np.full(count, -1)
            number[chosen] = np.arange(len(chosen))
            unknowns = order[first[chosen][:, None] + np.arange(size)]
            entries = np.flatnonzero(sizes[component] == size)
            rows, columns = self.pattern.rows[entries], self.pattern.columns[entries]
            targets = (number[component[entries]] * size + local[rows]) * size + local[columns]
            placement = Placement(self.arranged, entries, targets, (*unknowns.shape, size))
            result.append(Components(unknowns, placement))
        return result

    @functools.cached_property
    def band(self) -> tuple[Widths, Order | None]:
        """The narrower band: in the original order, or in that of reverse Cuthill-McKee."""
        from scipy.sparse import csgraph

        plain = self.pattern.bandwidth
        if max(plain) <= 1:
            return plain, None
        graph = self.graph
        symmetric = ((graph + graph.T) != 0).tocsr()
        forth = cast("Any", csgraph.reverse_cuthill_mckee)(symmetric, symmetric_mode=True)
        order = Order.of(forth.astype(np.int64))
        distances = order.back[self.pattern.columns] - order.back[self.pattern.rows]
        widths = (max(0, -int(distances.min())), max(0, int(distances.max())))
        return (widths, order) if sum(widths) < sum(plain) else (plain, None)

    @functools.cached_property
    def tilings(self) -> list[tiles.Tiling]:
        """The matrix as a block tridiagonal one: in the orders of `band`, and as a folded ring."""
        orders: list[Order | None] = [None] if self.band[1] is not None else []
        if self.ring is not None:
            orders.append(folded(self.size, self.ring.width))
        return [self.band_tiling, *(self._tiling(order, self.size) for order in orders)]

    @functools.cached_property
    def band_tiling(self) -> tiles.Tiling:
        """The matrix as a block tridiagonal one, in the order of its band."""
        return self._tiling(self.band[1], self.size)

    @functools.cached_property
    def ring(self) -> bordered.Border | None:
        """The unknowns that cut a ring open; None if its ends are not joined."""
        rows, columns = self.pattern.rows, self.pattern.columns
        width = bordered.ring_width(rows, columns, self.size)
        if width == max(self.pattern.bandwidth) or 2 * width >= self.size:
            return None
        return bordered.Border.of(self.arranged, width)

    @functools.cached_property
    def open_ring(self) -> tiles.Tiling | None:
        """A ring without the unknowns that cut it open, as a block tridiagonal matrix."""
        return None if self.ring is None else self._tiling(None, self.ring.size)

    def _tiling(self, order: Order | None, size: int) -> tiles.Tiling:
        """The first unknowns in an order, cut into the smallest tiles."""
        rows, columns = self.pattern.rows, self.pattern.columns
        if order is not None:
            rows, columns = order.back[rows], order.back[columns]
        inside = (rows < size) & (columns < size)
        width = tiles.narrowest(rows[inside], columns[inside], size)
        return tiles.Tiling(self.arranged, order, size, width)

    def diagonals(self, grid: Grid, dtype: Any) -> jax.Array:
        """The values at the places, as the diagonals that `banded.factored` takes."""
        (below, above), order = self.band
        if order is None and offsets(grid) is not None:
            diagonals = [
                jnp.pad(on_diagonal(grid, offset), (max(0, offset), max(0, -offset)))
                for offset in range(above, -below - 1, -1)
            ]
            return jnp.asarray(jnp.stack(diagonals), dtype)
        numbers = self.numbers(grid, dtype)
        rows, columns = self.pattern.rows, self.pattern.columns
        if order is not None:
            rows, columns = order.back[rows], order.back[columns]
        band = jnp.zeros((below + above + 1, self.size), numbers.dtype)
        return band.at[above + rows - columns, columns].set(numbers, unique_indices=True)

    @functools.cached_property
    def by_column(self) -> Any:
        """The matrix in compressed columns whose values are the numbers of the places."""
        from scipy.sparse import csc_array

        places = (self.pattern.rows, self.pattern.columns)
        return csc_array((np.arange(self.pattern.nnz), places), shape=self.pattern.shape)


def known_pattern(grid: Sequence[Sequence[Any]]) -> KnownPattern:
    """The pattern of a grid whose places are known; cached."""
    return kept_for_pattern(grid, "system", lambda bare: KnownPattern(arrangement(bare)))
