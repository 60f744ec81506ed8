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
from blockjac.linear_systems.banded import Order, Widths
from blockjac.sparsity.bands import offsets, on_diagonal
from blockjac.sparsity.pattern import Arrangement, Pattern, arrangement

SCATTERED = 6
"""The number of entries that are gathered in the time that it takes to sort and scatter one."""


@dataclass(frozen=True, eq=False)
class Components:
    """Independent systems of the same size.

    Attributes:
        unknowns: the unknowns of each system, `(count, size)`.
        entries: the numbers of the entries of the pattern that belong to these systems.
        targets: the position of each entry in a flattened array `(count, size, size)`.
        arranged: the pattern of the whole matrix.
    """

    unknowns: np.ndarray
    entries: np.ndarray
    targets: np.ndarray
    arranged: Arrangement

    @functools.cached_property
    def sources(self) -> tuple[np.ndarray, ...] | None:
        """For each position of the flattened array the entry of the grid that it holds.

        Entries are numbered from 1, and 0 means that there is none. Further arrays hold the other
        entries of positions that are sums. None if sums of many entries would make this list the
        slower way.
        """
        order, starts = self.arranged.order, self.arranged.starts
        first = np.arange(len(order)) if starts is None else starts
        many = np.diff(first, append=len(order))[self.entries]
        depth, count = int(many.max(initial=1)), self.unknowns.size * self.unknowns.shape[1]
        if depth * count > SCATTERED * int(many.sum()) + count:
            return None
        layers: list[np.ndarray] = []
        for layer in range(depth):
            deep = many > layer
            source = np.zeros(count, np.int64)
            source[self.targets[deep]] = order[first[self.entries[deep]] + layer] + 1
            layers.append(source)
        return tuple(layers)


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
            result.append(Components(unknowns, entries, targets, self.arranged))
        return result

    def matrices(self, part: Components, grid: Grid, dtype: Any) -> jax.Array:
        """The matrices of systems of the same size, `(count, size, size)`."""
        count, size = part.unknowns.shape
        if part.sources is None:
            flat = jnp.zeros((count * size * size,), dtype)
            numbers = self.numbers(grid, dtype)[part.entries]
            flat = flat.at[part.targets].set(numbers, unique_indices=True)
        else:
            entries = jnp.pad(jnp.asarray(values(grid), dtype), (1, 0))
            flat = sum(entries[source] for source in part.sources)
        return jnp.reshape(flat, (count, size, size))

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
