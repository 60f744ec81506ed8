"""A few entries at places known at run time only, added in place to an array.

A term whose entries are in a window or at looked-up places is not written out as an array of its
own to be added: its entries are added in place, which a loop does without a pass over the array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.index_arrays import index_values
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term

WINDOW = 4
"""A window is added in place to an array with at least this many times its entries."""

SCATTERED = 16
"""Entries are scattered one by one into an array with at least this many times as many."""


def parted(
    terms: Sequence[Term], targets: Sequence[Label]
) -> tuple[list[Term], list[tuple[Term, Places]]]:
    """The terms to be written out, and those to be added in place to the sum of the others.

    Args:
        terms: the terms of a block.
        targets: for each axis of the block its label in the result.
    """
    whole: list[Term] = []
    few: list[tuple[Term, Places]] = []
    for term in terms:
        places = Places(term, targets)
        if places.are_few:
            few.append((term, places))
        else:
            whole.append(term)
    return (whole, few) if whole else (list(terms), [])


class Places:
    """Where the entries of a term go in an array.

    Attributes:
        term: the term.
        index: the index of each dimension of the array, by its label.
        dims: the labels of the dimensions.
        plain: the dimensions that are a label of the term that no other has.
        looked_up: all other dimensions.
        grid: the labels in the indices of those.
    """

    def __init__(self, term: Term, targets: Sequence[Label]) -> None:
        self.term = term
        self.index: dict[Label, Index] = {}
        for target, index in zip(targets, term.indices, strict=True):
            self.index.setdefault(target, index)
        self.dims = tuple(self.index)
        uses = [label for index in self.index.values() for label in index.labels]
        self.plain = [
            dim
            for dim, index in self.index.items()
            if index.is_plain(dim.size) and all(uses.count(label) == 1 for label in index.labels)
        ]
        self.looked_up = [dim for dim in self.dims if dim not in self.plain]
        self.grid = arrays.unique(
            [label for dim in self.looked_up for label in self.index[dim].labels]
        )

    @property
    def are_few(self) -> bool:
        """Whether it is cheaper to add the entries one by one than to pass over the array."""
        term = self.term
        labels = {label for index in self.index.values() for label in index.labels}
        if not any(index.lookup for index in self.index.values()) or not labels.issuperset(
            label for factor in term.factors for label in factor.labels
        ):
            return False
        times = WINDOW if self.is_window else SCATTERED
        return arrays.numel(tuple(labels)) * times <= arrays.numel(self.dims)

    @property
    def is_window(self) -> bool:
        """Whether the entries are a box inside the array."""
        return all(self._is_run(dim) for dim in self.looked_up) and len(self.grid) == sum(
            len(self.index[dim].labels) for dim in self.looked_up
        )

    def _is_run(self, dim: Label) -> bool:
        """Whether the index of a dimension is a start plus a label, and never leaves the array."""
        index = self.index[dim]
        if index.strides and index.single != (index.labels[0], 1):
            return self._is_started_run(index, dim)
        return index.within(dim.size) if index.lookup is None else self._is_started_run(index, dim)

    def _is_started_run(self, index: Index, dim: Label) -> bool:
        """Whether an index is a run that begins at a scalar lookup and ends within a dimension."""
        lookup = index.lookup
        steps = [stride for _, stride in index.strides]
        return (
            lookup is not None
            and not lookup.labels
            and lookup.bounds is not None
            and steps in ([], [1])
            and index.offset + lookup.bounds[0] >= 0
            and index.offset + lookup.bounds[1] + self._length(dim) <= dim.size
        )

    def _length(self, dim: Label) -> int:
        """The number of entries of a window along a dimension."""
        return arrays.numel(self.index[dim].labels)

    def added(self, base: Factor, dtype: Any) -> Factor:
        """The array with the term's entries added to it.

        Args:
            base: the array, over some of the dimensions.
            dtype: the dtype of the result.
        """
        labels = (*self.grid, *(label for dim in self.plain for label in self.index[dim].labels))
        values = self._values(labels, dtype)
        shape = arrays.sizes(self.dims)

        def emit() -> Any:
            array = jnp.broadcast_to(arrays.aligned(base, self.dims), shape).astype(dtype)
            if self.is_window:
                return self._in_window(array, values, labels)
            return self._scattered(array, values)

        entries = arrays.numel(labels)
        moved = 3 * entries * dtype.itemsize
        added = backend().array(shape, dtype, emit, additions=entries, moved=moved)
        return Factor(added, self.dims)

    def _values(self, labels: Sequence[Label], dtype: Any) -> Any:
        """The values of the term's entries over the given labels."""
        term, shape = self.term, arrays.sizes(labels)
        if not term.factors:
            return backend().array(shape, dtype, lambda: jnp.full(shape, term.coefficient, dtype))
        product = arrays.product(list(term.factors), term.coefficient, dtype, labels)

        def emit() -> Any:
            return jnp.broadcast_to(arrays.aligned(product, labels), shape).astype(dtype)

        return backend().array(shape, dtype, emit)

    def _in_window(self, array: Any, values: Any, labels: Sequence[Label]) -> Any:
        """The array with values over these labels added to a box of it."""
        order = [labels.index(label) for dim in self.dims for label in self.index[dim].labels]
        sizes = tuple(self._length(dim) for dim in self.dims)
        values = jnp.reshape(jnp.transpose(values, order), sizes)
        axes = tuple(self.dims.index(dim) for dim in self.looked_up)
        numbers = lax.ScatterDimensionNumbers(
            update_window_dims=tuple(range(len(sizes))),
            inserted_window_dims=(),
            scatter_dims_to_operand_dims=axes,
        )
        start = jnp.stack([self._start(self.index[dim]) for dim in self.looked_up])
        return lax.scatter_add(
            array,
            start,
            values,
            numbers,
            indices_are_sorted=True,
            unique_indices=True,
            mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
        )

    def _start(self, index: Index) -> jax.Array:
        start = jnp.asarray(index.offset, jnp.int32)
        return start if index.lookup is None else start + index.lookup.array.astype(jnp.int32)

    def _scattered(self, array: Any, values: Any) -> Any:
        """The array with values over the grid and the plain dimensions added one by one."""
        over = arrays.sizes(self.grid)
        positions: list[jax.Array] = []
        for dim in self.looked_up:
            index = arrays.aligned(index_values(self.index[dim]), self.grid)
            position = jnp.broadcast_to(index, over)
            positions.append(jnp.where(position < 0, dim.size, position).astype(jnp.int32))
        # An axis may have several labels, or none where its size is 1.
        values = jnp.reshape(values, over + tuple(self._length(dim) for dim in self.plain))
        axes = tuple(self.dims.index(dim) for dim in self.looked_up)
        numbers = lax.ScatterDimensionNumbers(
            update_window_dims=tuple(range(len(over), values.ndim)),
            inserted_window_dims=axes,
            scatter_dims_to_operand_dims=axes,
        )
        indices = jnp.stack(positions, axis=-1)
        return lax.scatter_add(
            array, indices, values, numbers, mode=lax.GatherScatterMode.FILL_OR_DROP
        )
