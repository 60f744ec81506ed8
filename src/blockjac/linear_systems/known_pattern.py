"""The pattern of a matrix whose places are known, and the structure that it implies."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.entries import Grid, Places, pieces, places, values, values_of
from blockjac.exports.ordered_values import ordered_values
from blockjac.exports.prototypes import kept_for_pattern
from blockjac.linear_systems.banded import Order, Widths
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


@dataclass(frozen=True)
class Run:
    """Where the entries of a term lie that are all on one diagonal, at equal distances.

    Attributes:
        offset: row less column.
        column: the column of the first entry.
        step: from the column of an entry to that of the next.
        start: the number of the first entry that lies on its block.
        stop: one more than the number of the last.
    """

    offset: int
    column: int
    step: int
    start: int
    stop: int

    def diagonal(self, entries: jax.Array, size: int) -> jax.Array:
        """The entries at their columns, `(size,)`."""
        last = self.column + self.step * (self.stop - self.start - 1)
        padding = (self.column, size - 1 - last, self.step - 1)
        zero = jnp.zeros((), entries.dtype)
        return jax.lax.pad(entries[self.start : self.stop], zero, [padding])


@dataclass(frozen=True, eq=False)
class KnownPattern:
    """The pattern of a square matrix, and the structure derived from it on demand.

    Attributes:
        arranged: the pattern, and how the entries of the grid are put in its order.
        runs: of each term of the grid, where its entries lie on a diagonal; None unless all do.
    """

    arranged: Arrangement
    runs: list[Run] | None

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
        offsets = order.back[self.pattern.columns] - order.back[self.pattern.rows]
        widths = (max(0, -int(offsets.min())), max(0, int(offsets.max())))
        return (widths, order) if sum(widths) < sum(plain) else (plain, None)

    def diagonals(self, grid: Grid, dtype: Any) -> jax.Array:
        """The values at the places, as the diagonals that `banded.factored` takes.

        Terms along diagonals are padded and added, which the compiler fuses with whatever computes
        them; others are scattered.
        """
        (below, above), order = self.band
        if order is None and self.runs is not None:
            totals = [jnp.zeros((self.size,), dtype)] * (below + above + 1)
            for piece, run in zip(pieces(grid), self.runs, strict=True):
                diagonal = run.diagonal(values_of(piece.term, dtype), self.size)
                totals[above + run.offset] = totals[above + run.offset] + diagonal
            return jnp.stack(totals)
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
    return kept_for_pattern(
        grid, "system", lambda bare: KnownPattern(arrangement(bare), _runs(bare))
    )


def _runs(grid: Grid) -> list[Run] | None:
    """The run of each term of a grid; None if those of one term have none."""
    runs: list[Run] = []
    for piece in pieces(grid):
        run = _run(places(piece))
        if run is None:
            return None
        runs.append(run)
    return runs


def _run(positions: Places) -> Run | None:
    """The run of a term's entries, or None."""
    rows, columns = positions.rows, positions.columns
    numbers = np.arange(len(rows)) if positions.inside is None else np.flatnonzero(positions.inside)
    if not len(numbers) or numbers[-1] - numbers[0] + 1 != len(numbers):
        return None
    start, stop = int(numbers[0]), int(numbers[-1]) + 1
    rows, columns = rows[start:stop], columns[start:stop]
    offsets, steps = rows - columns, np.diff(columns)
    step = int(steps[0]) if len(steps) else 1
    if step < 1 or (steps != step).any() or (offsets != offsets[0]).any():
        return None
    return Run(int(offsets[0]), int(columns[0]), step, start, stop)
