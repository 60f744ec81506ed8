"""From structure to entries: a block, or some axes of a term, written out as an array."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.index_arrays import index_values
from blockjac.algebra.nonzeros import joint_mask
from blockjac.base.promises import is_structure_kept
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label, radix
from blockjac.terms.term import Term

LARGEST_POSITION = 2**31 - 1
"""The last place that an index of 32 bits can name, which JAX has without x64."""


@dataclass(frozen=True)
class Axis:
    """An axis to be written out: the index of its entries, its size, and the label it gets."""

    index: Index
    size: int
    target: Label


def unpaired(wrt_shape: Sequence[int], pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The input axes that are in no pair of an output and an input axis."""
    removed = {axis for _, axis in pairs}
    return [axis for axis in range(len(wrt_shape)) if axis not in removed]


def as_dense_axes(
    term: Term, wrt_axes: Sequence[int], wrt_shape: Sequence[int], dtype: Any
) -> Term:
    """The same term with some input axes written out: each gets one plain label of its own."""
    axes = [Axis(term.wrt[axis], wrt_shape[axis], Label(wrt_shape[axis])) for axis in wrt_axes]
    rest = [index for axis, index in enumerate(term.wrt) if axis not in wrt_axes]
    kept = arrays.unique([label for index in (*term.out, *rest) for label in index.labels])
    involved = {label for axis in axes for label in axis.index.labels}
    inside = [factor for factor in term.factors if set(factor.labels) & involved]
    outside = [factor for factor in term.factors if factor not in inside]
    # A place that is known at run time only keeps all or drops all: a mask, not zeros and ones.
    is_mask = not inside and not involved and any(axis.index.lookup for axis in axes)
    written = materialize(inside, axes, kept, np.dtype(bool) if is_mask else dtype, 1)
    wrt = list(term.wrt)
    for place, axis in zip(wrt_axes, axes, strict=True):
        wrt[place] = Index.of(axis.target)
    is_one = not inside and not written.labels and all(x.index.is_plain(x.size) for x in axes)
    factors = tuple(outside) if is_one else (*outside, written)
    mask = _mask_of(inside, axes, [label for label in kept if label in involved])
    factors = factors if mask is None else (*factors, mask)
    return Term(factors, term.out, tuple(wrt), term.coefficient)


def _mask_of(
    factors: Sequence[Factor], axes: Sequence[Axis], kept: Sequence[Label]
) -> Factor | None:
    """Where axes that are written out have entries for each value of the labels that stay."""
    if not kept or not is_structure_kept():
        return None
    term = Term(tuple(factors), tuple(map(Index.of, kept)), tuple(axis.index for axis in axes), 1)
    return joint_mask([term], [*kept, *(axis.target for axis in axes)])


def window_size(term: Term, axis: int) -> int | None:
    """How many places the labels that one input axis alone carries reach, beside other labels.

    None where there are no two of them, or no other label: then there is nothing to make one.
    """
    own = _own_strides(term, axis)
    if len(own) < 2 or len(own) == len(term.wrt[axis].labels):
        return None
    reach = sum(abs(stride) * (label.size - 1) for label, stride in own)
    return reach // math.gcd(*(stride for _, stride in own)) + 1


def with_one_window(term: Term, axis: int, dtype: Any) -> Term:
    """The same term with the labels that one input axis alone carries made one label.

    Windows of windows lie at `i + j + k`: all that is known of `j` and `k` is their sum, which
    takes fewer values than they have pairs. What falls on one of them is added up.

    Args:
        term: any.
        axis: an input axis that has a `window_size`.
        dtype: of the result.
    """
    index, own = term.wrt[axis], _own_strides(term, axis)
    low = sum(min(stride * (label.size - 1), 0) for label, stride in own)
    step = math.gcd(*(stride for _, stride in own))
    others = tuple(other for place, other in enumerate(term.wrt) if place != axis)
    shared = replace(index, strides=tuple(pair for pair in index.strides if pair not in own))
    within = Index(-low // step, tuple((label, stride // step) for label, stride in own))
    apart = Term(term.factors, (*term.out, *others, shared), (within,), term.coefficient)
    size = sum(abs(stride) * (label.size - 1) for label, stride in within.strides) + 1
    written = as_dense_axes(apart, [0], (size,), dtype)
    wrt = list(term.wrt)
    strides = (*shared.strides, (written.wrt[0].labels[0], step))
    wrt[axis] = Index(index.offset + low, strides, index.lookup)
    return Term(written.factors, term.out, tuple(wrt), term.coefficient)


def labels_beside(term: Term, axis: int) -> set[Label]:
    """The labels that stand in other indices of a term than that of an input axis."""
    return {
        label
        for place, other in enumerate(term.indices)
        if place != len(term.out) + axis
        for label in other.labels
    }


def _own_strides(term: Term, axis: int) -> list[tuple[Label, int]]:
    """The labels, with strides, that stand in no other index of a term, and in no lookup."""
    index, others = term.wrt[axis], labels_beside(term, axis)
    if index.lookup is not None:
        others.update(index.lookup.labels)
    return [(label, stride) for label, stride in index.strides if label not in others]


def materialize(
    factors: Sequence[Factor],
    axes: Sequence[Axis],
    kept: Sequence[Label],
    dtype: Any,
    coefficient: Any,
) -> Factor:
    """Write out axes: `sum over labels  coefficient * prod factors * prod [axis == index]`.

    Args:
        factors: all factors that carry labels of the axes.
        axes: the axes to write out.
        kept: labels that stay labels of the result; all others are summed.
        dtype: of the result.
        coefficient: a static scalar.

    Returns:
        A factor over kept labels and the axes' targets; a label along which it is constant is left
        out.
    """
    involved = {label for axis in axes for label in axis.index.labels}
    backend().check_fits(
        [*(label for label in kept if label in involved), *(x.target for x in axes)], dtype
    )
    factors, axes = _scatter_hard_axes(list(factors), list(axes), kept, dtype)
    write = backend().select(_emitted, _priced)
    return write(factors, axes, kept, dtype, coefficient)


def _emitted(
    factors: Sequence[Factor],
    axes: Sequence[Axis],
    kept: Sequence[Label],
    dtype: Any,
    coefficient: Any,
) -> Factor:
    """The entries, written by one loop: the product of the factors where the indices agree."""
    layout = _Layout(axes, kept)
    value, padded = layout.value(factors, coefficient, dtype)
    condition = layout.condition(padded)
    if condition is not None:
        value = arrays.where(condition, value, dtype)
    return layout.finish(value)


def _priced(
    factors: Sequence[Factor],
    axes: Sequence[Axis],
    kept: Sequence[Label],
    dtype: Any,
    coefficient: Any,
) -> Factor:
    """What stands for them in a plan, which need not know where each label lives."""
    carried = {label for factor in factors for label in factor.labels}
    constant = [axis for axis in axes if _is_constant(axis, axes, carried | set(kept))]
    involved = {label for axis in axes for label in axis.index.labels} | carried
    targets = [axis.target for axis in axes if axis.size != 1 and axis not in constant]
    labels = (*(label for label in kept if label in involved), *targets)
    if len(factors) == 1 and coefficient == 1 and _is_written(factors[0], axes, kept):
        return Factor(factors[0].array, labels)
    # Multiplied while the result is written: what is read counts, and no product between.
    work = arrays.work_of_product(factors, coefficient) if factors else {}
    backend().charge(0, sum(factor.numel * factor.array.dtype.itemsize for factor in factors))
    return backend().factor(labels, dtype, lambda: None, reads=(), **work)


def _is_constant(axis: Axis, axes: Sequence[Axis], carried: Set[Label]) -> bool:
    """Whether entries along an axis are alike: its labels run over all of it, and there alone."""
    digits = radix(axis.index)
    whole = digits is not None and arrays.numel(digits) == axis.size
    if axis.size == 1 or not (whole or axis.index.is_plain(axis.size)):
        return axis.index.is_plain(axis.size) and not set(axis.index.labels) & carried
    return not any(
        label in carried or sum(label in other.index.labels for other in axes) > 1
        for label in axis.index.labels
    )


def _is_written(factor: Factor, axes: Sequence[Axis], kept: Sequence[Label]) -> bool:
    """Whether a factor is what is asked for already."""
    own = [label for axis in axes for label in axis.index.labels]
    plain = all(axis.index.is_plain(axis.size) for axis in axes)
    return plain and not kept and list(factor.labels) == own


class _Layout:
    """Where each label lives once the axes are written out.

    Every label is either kept, or has a *pivot*: an axis from which its value is read off. Where
    the other labels of the pivot's index are known already, as in a window, the value is what
    remains: the label is *derived*. The other axes become conditions, so that a delta is one fused
    comparison and not a second pass over the result.
    """

    def __init__(self, axes: Sequence[Axis], kept: Sequence[Label]) -> None:
        self.axes = axes
        self.kept = list(kept)
        self.pivots = _pivots(axes, kept)
        self.derived = _derived(axes, self.pivots, kept)
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
                own = [axis.target]
            elif digits and order is not None:
                for label in order:
                    self.home[label] = (label, 0, 1)
                own = list(order)
            else:
                own = [axis.target] if axis.size != 1 else []
            self.groups.append((axis, own))
            self.dims += own

    def value(
        self, factors: Sequence[Factor], coefficient: Any, dtype: Any
    ) -> tuple[Any, set[Label]]:
        """The product of the factors over the dimensions, and what it is 0 outside of.

        These are labels, and targets of axes with one place.
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
        labels = []
        if looked_up:
            labels = [dim for dim in self.dims if dim in reach]
            others = [place for place, dim in enumerate(self.dims) if dim not in reach]
            places = tuple(jnp.squeeze(self._label(label), others) for label in looked_up)
            array = array.at[places].get(mode="clip")
        for label in padded:
            dim, offset, stride = self.home[label]
            array = _padded(array, len(labels), offset, stride, label.size, dim.size)
            labels.append(dim)
        array = arrays.aligned(Factor(array, tuple(labels)), self.dims)
        for axis in self._single_places():
            place = self.dims.index(axis.target)
            array = _padded(array, place, axis.index.offset, 1, 1, axis.size)
        return array, {*padded, *(axis.target for axis in self._single_places())}

    def _single_places(self) -> list[Axis]:
        """Axes on which all entries are at one known place."""
        return [
            axis
            for axis in self.axes
            if axis.size != 1 and axis.index.constant and 0 <= axis.index.offset < axis.size
        ]

    def _position(self, label: Label) -> int:
        """Where a label stands among the dimensions; derived ones, which are looked up, first."""
        return -1 if label in self.derived else self.dims.index(self.home[label][0])

    def condition(self, padded: set[Label]) -> Any:
        """Where entries are: axes that are no pivots equal their index, labels are in their range.

        Args:
            padded: labels that need no range, and targets of axes that need no place, because
                the value is 0 outside.
        """
        clauses = []
        for label, (dim, offset, stride) in self.home.items():
            if not self._identical(label) and label not in padded:
                place, last = self._iota(dim), offset + stride * (label.size - 1)
                clauses.append((place >= min(offset, last)) & (place <= max(offset, last)))
                if abs(stride) != 1:
                    clauses.append((place - offset) % stride == 0)
        for label, (axis, rest, stride) in self.derived.items():
            value = self._label(label)
            clauses.append((value >= 0) & (value < label.size))
            if abs(stride) != 1:
                clauses.append((self._place(axis) - self._index(rest)) % stride == 0)
        pivots = {
            *map(id, self.pivots.values()),
            *(id(axis) for axis, _, _ in self.derived.values()),
        }
        for axis in self.axes:
            settled = axis.target in padded or (axis.size == 1 and axis.index == Index())
            if id(axis) not in pivots and not settled:
                clauses.append(self._place(axis) == self._index(axis.index))
        return functools.reduce(operator.and_, clauses) if clauses else None

    def _place(self, axis: Axis) -> Any:
        """The place on an axis, over the dimensions."""
        if axis.size == 1:
            return jnp.zeros((1,) * len(self.dims), jnp.int32)
        return self._iota(axis.target)

    def _iota(self, dim: Label) -> Any:
        shape = tuple(label.size if label is dim else 1 for label in self.dims)
        return lax.broadcasted_iota(jnp.int32, shape, self.dims.index(dim))

    def _index(self, index: Index) -> Any:
        parts = []
        for label, step in index.strides:
            value = self._label(label)
            parts.append(value if step == 1 else step * value)
        if index.lookup is not None:
            lookup = index.lookup
            places = [self._label(label) for label in lookup.labels]
            if all(map(self._identical, lookup.labels)):
                dims = [self.home[label][0] for label in lookup.labels]
                values = arrays.aligned(Factor(jnp.asarray(lookup.array), tuple(dims)), self.dims)
            else:
                values = jnp.asarray(lookup.array).at[tuple(places)].get(mode="clip")
            parts.append(values)
        if index.offset or not parts:
            parts.append(jnp.full((1,) * len(self.dims), index.offset, jnp.int32))
        return functools.reduce(operator.add, parts)

    def _identical(self, label: Label) -> bool:
        if label in self.derived:
            return False
        dim, offset, stride = self.home[label]
        return (offset, stride) == (0, 1) and dim.size == label.size

    def _label(self, label: Label) -> Any:
        """The value of a label over the dimensions; out of its range where it has none."""
        if label in self.derived:
            axis, rest, stride = self.derived[label]
            remainder = self._place(axis) - self._index(rest)
            return remainder if stride == 1 else remainder // stride
        dim, offset, stride = self.home[label]
        place = self._iota(dim)
        return place if (offset, stride) == (0, 1) else (place - offset) // stride

    def _dims_of(self, label: Label) -> set[Label]:
        """The dimensions that the value of a label depends on."""
        if label not in self.derived:
            return {self.home[label][0]}
        axis, rest, _ = self.derived[label]
        own = {axis.target} if axis.size != 1 else set()
        return own.union(*(self._dims_of(other) for other in rest.labels))

    def finish(self, array: Any) -> Factor:
        """Merge the digits of radix axes and drop dimensions along which the array is constant."""
        dims = [dim for place, dim in enumerate(self.dims) if array.shape[place] != 1]
        labels: list[Label] = [label for label in self.kept if label in dims]
        shape = [label.size for label in labels]
        wanted = list(labels)
        for axis, own in self.groups:
            if not any(dim in dims for dim in own):
                continue
            wanted += own
            shape.append(axis.size)
            labels.append(axis.target)
        sizes = tuple(dim.size if dim in wanted else 1 for dim in self.dims)
        return Factor(jnp.reshape(jnp.broadcast_to(array, sizes), shape), tuple(labels))


def _pivots(axes: Sequence[Axis], kept: Sequence[Label]) -> dict[Label, Axis]:
    """An axis for each label that is not kept; plain axes first, for the least padding."""
    found: dict[Label, Axis] = {}

    def rank(axis: Axis) -> int:
        if axis.index.is_plain(axis.size):
            return 0
        if axis.index.single is not None:
            return 2 if abs(axis.index.single[1]) == 1 else 3
        return 1

    for axis in sorted(axes, key=rank):
        labels = axis.index.labels
        if any(label in found or label in kept for label in labels):
            continue
        complete = radix(axis.index)
        if (axis.index.single is not None and axis.index.within(axis.size)) or (
            complete is not None and arrays.numel(complete) == axis.size
        ):
            for label in labels:
                found[label] = axis
    return found


def _derived(
    axes: Sequence[Axis], pivots: Mapping[Label, Axis], kept: Sequence[Label]
) -> dict[Label, tuple[Axis, Index, int]]:
    """Labels that are what remains of a place on an axis: `label = (place - rest) / stride`."""
    known = {*pivots, *kept}
    used = set(map(id, pivots.values()))
    found: dict[Label, tuple[Axis, Index, int]] = {}
    grew = True
    while grew:
        grew = False
        for axis in axes:
            unknown = [label for label in axis.index.labels if label not in known]
            if id(axis) in used or len(unknown) != 1 or not axis.index.stride(unknown[0]):
                continue
            label, lookup = unknown[0], axis.index.lookup
            if lookup is None or label not in lookup.labels:
                found[label] = (axis, axis.index.without(label), axis.index.stride(label))
                known.add(label)
                used.add(id(axis))
                grew = True
    return found


def _padded(array: Any, place: int, offset: int, stride: int, count: int, size: int) -> Any:
    """Entry `l` of `count` along one dimension moved to `offset + stride * l`, 0 elsewhere."""
    if (offset, stride) == (0, 1) and count == size:
        return array
    if stride < 0:
        array = lax.rev(array, (place,))
        offset, stride = offset + stride * (count - 1), -stride
    padding = [(0, 0, 0)] * array.ndim
    padding[place] = (offset, size - 1 - offset - stride * (count - 1), stride - 1)
    return lax.pad(array, jnp.zeros((), array.dtype), padding)


def _scatter_hard_axes(
    factors: list[Factor], axes: list[Axis], kept: Sequence[Label], dtype: Any
) -> tuple[list[Factor], list[Axis]]:
    """Write out, by a scatter-add, the axes whose labels cannot be read off any axis."""
    pivots = _pivots(axes, kept)
    known = {*pivots, *_derived(axes, pivots, kept), *kept}
    hard = [axis for axis in axes if any(label not in known for label in axis.index.labels)]
    if not hard:
        return factors, axes
    grid = {label for axis in hard for label in axis.index.labels}
    while True:
        joining = [axis for axis in axes if axis not in hard and set(axis.index.labels) & grid]
        if not joining:
            break
        hard += joining
        grid |= {label for axis in joining for label in axis.index.labels}
    batch = [Axis(Index.of(label), label.size, label) for label in kept if label in grid]
    places = [*batch, *hard]
    inside = [factor for factor in factors if set(factor.labels) & grid]
    over = list(arrays.unique([label for axis in places for label in axis.index.labels]))
    rest = [label for label in arrays.union(inside) if label not in grid]
    done = [
        Axis(Index.of(axis.target), axis.size, axis.target) if axis in hard else axis
        for axis in axes
    ]
    value = arrays.product(inside) if inside else None

    def emit() -> Any:
        factor = value or Factor(jnp.ones((), dtype), ())
        full = arrays.sizes([*over, *rest])
        values = jnp.broadcast_to(arrays.aligned(factor, [*over, *rest]), full)
        where = []
        for axis in places:
            indices = arrays.aligned(index_values(axis.index), over)
            index = jnp.broadcast_to(indices, arrays.sizes(over))
            where.append(jnp.where(index < 0, axis.size, index))
        buffer = jnp.zeros((*(axis.size for axis in places), *arrays.sizes(rest)), dtype)
        array = buffer.at[tuple(where)].add(values.astype(dtype), mode="drop")
        return jnp.reshape(array, arrays.sizes(labels))

    targets = [axis.target for axis in places]
    labels = tuple(label for label in (*targets, *rest) if label.size != 1)
    additions = arrays.numel(over) * arrays.numel(rest)
    scattered = backend().factor(labels, dtype, emit, additions=additions)
    return [*(factor for factor in factors if factor not in inside), scattered], done
