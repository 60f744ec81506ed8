"""Where each label lives once the axes of a term are written out as an array."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.arithmetic import all_of
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label, radix


@dataclass(frozen=True)
class Axis:
    """An axis to be written out: the index of its entries, its size, and its new label."""

    index: Index
    size: int
    target: Label


class AxisLayout:
    """Where each label lives once the axes are written out.

    Every label is either kept, or has a *pivot*: an axis from which its value is read off. Where
    the other labels of an axis are known already, as in a window, the value is what remains of the
    position: the label is *derived*. All other axes become conditions, so that a delta is one fused
    comparison and not a second pass over the result.
    """

    def __init__(self, axes: Sequence[Axis], kept: Sequence[Label]) -> None:
        self.axes = axes
        self.kept = list(kept)
        self.pivots = pivots_of(axes, kept)
        self.derived = derived_of(axes, self.pivots, kept)
        # The dimensions of the array being built: kept labels, then each axis (a radix: digits).
        self.dims: list[Label] = list(kept)
        self.groups: list[tuple[Axis, list[Label]]] = []
        self.home: dict[Label, tuple[Label, int, int]] = {label: (label, 0, 1) for label in kept}
        for axis in axes:
            digits = [label for label, owner in self.pivots.items() if owner is axis]
            order = radix(axis.index)
            if digits and axis.index.single is not None:
                label, stride = axis.index.single
                self.home[label] = (axis.target, axis.index.offset, stride)
                dims = [axis.target]
            elif digits and order is not None:
                for label in order:
                    self.home[label] = (label, 0, 1)
                dims = list(order)
            else:
                dims = [axis.target] if axis.size != 1 else []
            self.groups.append((axis, dims))
            self.dims += dims

    def value(
        self, factors: Sequence[Factor], coefficient: Any, dtype: Any
    ) -> tuple[Any, set[Label]]:
        """The product of the factors over the dimensions, already 0 off some labels and axes.

        Returns:
            The array, and the labels and the targets of single-position axes outside of which it
            is 0.
        """
        if not factors:
            return jnp.reshape(jnp.asarray(coefficient, dtype), (1,) * len(self.dims)), set()
        # In the order of the result, so that no transpose of the whole comes after the product.
        order = sorted(arrays.union(factors), key=self._position)
        total = arrays.product(list(factors), coefficient, dtype, order)
        total = Factor(jnp.asarray(total.array, dtype), total.labels)
        looked_up = [label for label in total.labels if label in self.derived]
        reach = {dim for label in looked_up for dim in self._dims_of(label)}
        looked_up += [
            label
            for label in total.labels
            if label not in self.derived and self.home[label][0] in reach
        ]
        padded = [label for label in total.labels if label not in looked_up]
        array = jnp.transpose(total.array, [total.labels.index(x) for x in (*looked_up, *padded)])
        labels: list[Label] = []
        if looked_up:
            labels = [dim for dim in self.dims if dim in reach]
            others = [axis for axis, dim in enumerate(self.dims) if dim not in reach]
            positions = tuple(jnp.squeeze(self._label(label), others) for label in looked_up)
            array = array.at[positions].get(mode="clip")
        for label in padded:
            dim, offset, stride = self.home[label]
            array = _padded(array, len(labels), offset, stride, label.size, dim.size)
            labels.append(dim)
        array = arrays.aligned(Factor(array, tuple(labels)), self.dims)
        single = self._single_positions()
        for axis in single:
            dim = self.dims.index(axis.target)
            array = _padded(array, dim, axis.index.offset, 1, 1, axis.size)
        return array, {*padded, *(axis.target for axis in single)}

    def _single_positions(self) -> list[Axis]:
        """Axes on which all entries are at one known position."""
        return [
            axis
            for axis in self.axes
            if axis.size != 1 and axis.index.constant and 0 <= axis.index.offset < axis.size
        ]

    def _position(self, label: Label) -> int:
        """The number of a label's dimension; -1 for a derived label, which is looked up first."""
        return -1 if label in self.derived else self.dims.index(self.home[label][0])

    def condition(self, padded: set[Label]) -> Any:
        """Where entries are: other axes than pivots equal their index, and labels are in range.

        Args:
            padded: labels whose range, and targets of axes whose position, need no check, because
                the value is 0 outside.
        """
        clauses: list[Any] = []
        for label, (dim, offset, stride) in self.home.items():
            if not self._identical(label) and label not in padded:
                position, last = self._iota(dim), offset + stride * (label.size - 1)
                clauses.append((position >= min(offset, last)) & (position <= max(offset, last)))
                if abs(stride) != 1:
                    clauses.append((position - offset) % stride == 0)
        for label, (axis, rest, stride) in self.derived.items():
            value = self._label(label)
            clauses.append((value >= 0) & (value < label.size))
            if abs(stride) != 1:
                clauses.append((self._position_on(axis) - self._index(rest)) % stride == 0)
        pivots = {
            *map(id, self.pivots.values()),
            *(id(axis) for axis, _, _ in self.derived.values()),
        }
        for axis in self.axes:
            settled = axis.target in padded or (axis.size == 1 and axis.index == Index())
            if id(axis) not in pivots and not settled:
                clauses.append(self._position_on(axis) == self._index(axis.index))
        return all_of(clauses) if clauses else None

    def _position_on(self, axis: Axis) -> Any:
        """The position on an axis, over the dimensions."""
        if axis.size == 1:
            return jnp.zeros((1,) * len(self.dims), jnp.int32)
        return self._iota(axis.target)

    def _iota(self, dim: Label) -> jax.Array:
        shape = tuple(label.size if label is dim else 1 for label in self.dims)
        return lax.broadcasted_iota(jnp.int32, shape, self.dims.index(dim))

    def _index(self, index: Index) -> Any:
        """The values of an index over the dimensions, as the sum of its parts."""
        parts: list[Any] = []
        for label, step in index.strides:
            value = self._label(label)
            parts.append(value if step == 1 else step * value)
        if index.lookup is not None:
            lookup = index.lookup
            positions = [self._label(label) for label in lookup.labels]
            if all(map(self._identical, lookup.labels)):
                dims = [self.home[label][0] for label in lookup.labels]
                values = arrays.aligned(Factor(jnp.asarray(lookup.array), tuple(dims)), self.dims)
            else:
                values = jnp.asarray(lookup.array).at[tuple(positions)].get(mode="clip")
            parts.append(values)
        if index.offset or not parts:
            parts.append(jnp.full((1,) * len(self.dims), index.offset, jnp.int32))
        return functools.reduce(lambda total, part: total + part, parts)

    def _identical(self, label: Label) -> bool:
        """Whether the value of a label is the position along one dimension."""
        if label in self.derived:
            return False
        dim, offset, stride = self.home[label]
        return (offset, stride) == (0, 1) and dim.size == label.size

    def _label(self, label: Label) -> Any:
        """The value of a label over the dimensions; out of its range where it has none."""
        if label in self.derived:
            axis, rest, stride = self.derived[label]
            remainder = self._position_on(axis) - self._index(rest)
            return remainder if stride == 1 else remainder // stride
        dim, offset, stride = self.home[label]
        position = self._iota(dim)
        return position if (offset, stride) == (0, 1) else (position - offset) // stride

    def _dims_of(self, label: Label) -> set[Label]:
        """The dimensions that the value of a label depends on."""
        if label not in self.derived:
            return {self.home[label][0]}
        axis, rest, _ = self.derived[label]
        dims: set[Label] = {axis.target} if axis.size != 1 else set()
        return dims.union(*map(self._dims_of, rest.labels))

    def finish(self, array: Any) -> Factor:
        """Merge the digits of radix axes and drop dimensions along which the array is constant."""
        dims = [dim for dim, size in zip(self.dims, array.shape, strict=True) if size != 1]
        labels: list[Label] = [label for label in self.kept if label in dims]
        shape = [label.size for label in labels]
        wanted = list(labels)
        for axis, digits in self.groups:
            if not any(dim in dims for dim in digits):
                continue
            wanted += digits
            shape.append(axis.size)
            labels.append(axis.target)
        sizes = tuple(dim.size if dim in wanted else 1 for dim in self.dims)
        return Factor(jnp.reshape(jnp.broadcast_to(array, sizes), shape), tuple(labels))


def pivots_of(axes: Sequence[Axis], kept: Sequence[Label]) -> dict[Label, Axis]:
    """Choose an axis for each label that is not kept; plain axes first, for the least padding."""
    pivots: dict[Label, Axis] = {}

    def rank(axis: Axis) -> int:
        if axis.index.is_plain(axis.size):
            return 0
        if axis.index.single is not None:
            return 2 if abs(axis.index.single[1]) == 1 else 3
        return 1

    for axis in sorted(axes, key=rank):
        labels = axis.index.labels
        if any(label in pivots or label in kept for label in labels):
            continue
        complete = radix(axis.index)
        if (axis.index.single is not None and axis.index.within(axis.size)) or (
            complete is not None and arrays.numel(complete) == axis.size
        ):
            for label in labels:
                pivots[label] = axis
    return pivots


def derived_of(
    axes: Sequence[Axis], pivots: Mapping[Label, Axis], kept: Sequence[Label]
) -> dict[Label, tuple[Axis, Index, int]]:
    """Labels read off what remains of a position: `label = (position - rest) / stride`."""
    known = {*pivots, *kept}
    used = set(map(id, pivots.values()))
    derived: dict[Label, tuple[Axis, Index, int]] = {}
    grew = True
    while grew:
        grew = False
        for axis in axes:
            unknown = [label for label in axis.index.labels if label not in known]
            if id(axis) in used or len(unknown) != 1 or not axis.index.stride(unknown[0]):
                continue
            label, lookup = unknown[0], axis.index.lookup
            if lookup is None or label not in lookup.labels:
                derived[label] = (axis, axis.index.without(label), axis.index.stride(label))
                known.add(label)
                used.add(id(axis))
                grew = True
    return derived


def _padded(array: Any, axis: int, offset: int, stride: int, count: int, size: int) -> Any:
    """The array with entry `l` of `count` along an axis at `offset + stride * l`, else 0."""
    if (offset, stride) == (0, 1) and count == size:
        return array
    if stride < 0:
        array = lax.rev(array, (axis,))
        offset, stride = offset + stride * (count - 1), -stride
    padding = [(0, 0, 0)] * array.ndim
    padding[axis] = (offset, size - 1 - offset - stride * (count - 1), stride - 1)
    return lax.pad(array, jnp.zeros((), array.dtype), padding)
