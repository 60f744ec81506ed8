"""Factors read through index expressions: slices, digits of a reshape, and gathers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.index_arrays import are_known, index_values
from blockjac.algebra.stored_once import storing_pays
from blockjac.terms.factor import Factor, numel, unique
from blockjac.terms.index import Index, Label, radix
from blockjac.terms.known_indices import mask_at


@dataclass(frozen=True, eq=False)
class View:
    """An array read through an index expression on each axis; no data is moved until `read`.

    Substituting labels in the expressions composes slices, reshapes and gathers into one of each.
    A value of an expression off its axis reads 0.
    """

    array: Any
    axes: tuple[Index, ...]
    name: str = ""

    @staticmethod
    def of(factor: Factor) -> View:
        """A factor as a view: each axis is its label."""
        return View(factor.array, tuple(map(Index.of, factor.labels)), factor.name)

    @property
    def labels(self) -> tuple[Label, ...]:
        """Every label once."""
        return unique([label for axis in self.axes for label in axis.labels])

    def guards(self, label: Label) -> bool:
        """Whether an axis is exactly this label, so that values outside its range read 0."""
        return any(
            axis.is_plain(size) and axis.labels == (label,)
            for axis, size in zip(self.axes, self.array.shape, strict=True)
        )

    def read(self) -> Factor:
        """The array over the labels: sliced, split into digits, and gathered for the rest."""
        labels = self.labels
        if len(labels) == len(self.axes) and all(
            axis.is_plain(size) for axis, size in zip(self.axes, self.array.shape, strict=True)
        ):
            return Factor(self.array, labels, self.name)
        positions = tuple(Label(size) for size in self.array.shape)
        factor = Factor(self.array, positions, self.name)
        gathered: dict[Label, Index] = {}
        for position, axis in zip(positions, self.axes, strict=True):
            digits = radix(axis)
            if axis.constant and axis.within(position.size):
                factor = arrays.pick(factor, position, axis.offset)
            elif axis.single is not None and axis.within(position.size):
                label, stride = axis.single
                factor = arrays.restrict(factor, position, label, axis.offset, stride)
            elif digits is not None and numel(digits) == position.size and self._only_here(axis):
                factor = arrays.split(factor, position, digits)
            else:
                gathered[position] = axis
        for group in _connected(gathered):
            factor = gather(factor, group)
        return factor

    def _only_here(self, axis: Index) -> bool:
        rest = {label for index in self.axes if index is not axis for label in index.labels}
        return rest.isdisjoint(axis.labels)


def _connected(indices: Mapping[Label, Index]) -> list[dict[Label, Index]]:
    """The indices in groups that share no label: each is gathered with index arrays of its own."""
    groups: list[dict[Label, Index]] = []
    for position, index in indices.items():
        joint = {position: index}
        separate: list[dict[Label, Index]] = []
        for group in groups:
            if _labels_of(joint).isdisjoint(_labels_of(group)):
                separate.append(group)
            else:
                joint = {**group, **joint}
        groups = [*separate, joint]
    return groups


def _labels_of(indices: Mapping[Label, Index]) -> set[Label]:
    return {*indices, *(label for index in indices.values() for label in index.labels)}


def gather(factor: Factor, indices: Mapping[Label, Index]) -> Factor:
    """Replace labels by expressions of other labels: `result[m, ...] = factor[index(m), ..., ...]`.

    An index outside of its label's range gives 0. Axes whose labels are in no index are slices.
    """
    kept = [label for label in factor.labels if label not in indices]
    over = unique([label for index in indices.values() for label in index.labels])
    tied = [label for label in kept if label in over]
    dims = (*(label for label in over if label not in kept), *tied)
    labels = (*dims, *(label for label in kept if label not in tied))
    if arrays.is_known_mask(factor) and are_known(indices.values(), labels):
        axes = [indices.get(label) or Index.of(label) for label in factor.labels]
        return Factor(mask_at(factor.array, axes, labels), labels)
    backend().check_fits(labels, factor.array.dtype)
    return backend().factor(
        labels,
        factor.array.dtype,
        lambda: _gathered(factor, indices, dims, tied),
        [Factor(None, labels)],
    )


def _gathered(
    factor: Factor, indices: Mapping[Label, Index], dims: Sequence[Label], tied: Sequence[Label]
) -> Any:
    """The array of `gather`: the dimensions of the indices first, then the axes that stay.

    Args:
        factor: the factor to read.
        indices: the indices of the axes that are looked up.
        dims: the labels of the indices.
        tied: the labels of the factor that occur in an index, too.
    """
    safe = all(index.within(label.size) for label, index in indices.items())
    mode, fill = ("promise_in_bounds", None) if safe else ("fill", 0)
    selectors: list[jax.Array] = []
    for label, index in indices.items():
        values = arrays.aligned(index_values(index), dims)
        selectors.append(values if safe else jnp.where(values < 0, label.size, values))
    selectors += [_along(label, dims) for label in tied]
    first = [factor.labels.index(label) for label in (*indices, *tied)]
    array = jnp.moveaxis(jnp.asarray(factor.array), first, range(len(first)))
    if storing_pays(factor, numel(dims) * math.prod(array.shape[len(first) :])):
        array = lax.optimization_barrier(array)
    return array.at[tuple(selectors)].get(mode=mode, fill_value=fill)


def _along(label: Label, dims: Sequence[Label]) -> jax.Array:
    """The values of a label, shaped to broadcast over the dimensions."""
    shape = tuple(label.size if dim is label else 1 for dim in dims)
    return jnp.reshape(jnp.arange(label.size), shape)
