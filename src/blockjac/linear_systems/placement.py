"""Entries of a grid put into an array: by a list of which goes where, made once per pattern."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.entries import values
from blockjac.base.arrays import Shape
from blockjac.exports.ordered_values import ordered_values
from blockjac.sparsity.pattern import Arrangement

SCATTERED = 6
"""The number of entries that are gathered in the time that it takes to sort and scatter one."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Where entries of a pattern stand in an array whose other positions are zero.

    Attributes:
        arranged: the pattern, and how the entries of the grid are put in its order.
        entries: the numbers of the entries of the pattern that are taken.
        targets: the position of each in the flattened array.
        shape: the shape of the array.
    """

    arranged: Arrangement
    entries: np.ndarray
    targets: np.ndarray
    shape: Shape

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
        depth, count = int(many.max(initial=1)), math.prod(self.shape)
        if depth * count > SCATTERED * int(many.sum()) + count:
            return None
        layers: list[np.ndarray] = []
        for layer in range(depth):
            deep = many > layer
            source = np.zeros(count, np.int64)
            source[self.targets[deep]] = order[first[self.entries[deep]] + layer] + 1
            layers.append(source)
        return tuple(layers)

    def array(self, grid: Any, dtype: Any) -> jax.Array:
        """The array, from the values of a grid of this pattern."""
        numbers = values(grid)
        if self.sources is None:
            ordered = jnp.asarray(ordered_values(numbers, self.arranged), dtype)[self.entries]
            flat = jnp.zeros((math.prod(self.shape),), dtype)
            flat = flat.at[self.targets].set(ordered, unique_indices=True)
        else:
            entries = jnp.pad(jnp.asarray(numbers, dtype), (1, 0))
            return cast("Any", sum(self._taken(entries, *layer) for layer in self._layers))
        return jnp.reshape(flat, self.shape)

    def _taken(
        self, entries: jax.Array, source: np.ndarray, slices: list[slice] | None
    ) -> jax.Array:
        """The entries of a list, as the array."""
        if slices is None:
            return jnp.reshape(entries[source], self.shape)
        columns = [
            entries[part] if part.step else jnp.broadcast_to(entries[part.start], self.shape[:1])
            for part in slices
        ]
        for size in reversed(self.shape[1:]):
            columns = [
                jnp.stack(columns[start : start + size], axis=1)
                for start in range(0, len(columns), size)
            ]
        return columns[0]

    @functools.cached_property
    def _layers(self) -> list[tuple[np.ndarray, list[slice] | None]]:
        """The lists of `sources`, each as slices too if it consists of these."""
        return [(source, _slices(source, self.shape)) for source in self.sources or ()]


COLUMNS = 36
"""At most as many columns of a list are looked at: a program has a slice for each."""


def _slices(source: np.ndarray, shape: Shape) -> list[slice] | None:
    """The columns of a list, as long as the first axis, as slices; None if they are not all that.

    So is an array of small systems whose entries stand in the same order in each: it is put
    together without a lookup of each number.
    """
    if len(shape) < 2 or shape[0] < 2 or not 0 < math.prod(shape[1:]) <= COLUMNS:
        return None
    columns = source.reshape(shape[0], -1)
    steps = columns[1] - columns[0]
    if np.any(np.diff(columns, axis=0) != steps) or np.any(steps < 0):
        return None
    return [
        slice(int(first), int(last) + 1, int(step))
        for first, last, step in zip(columns[0], columns[-1], steps, strict=True)
    ]
