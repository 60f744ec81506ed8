"""From structure to entries: some or all axes of a term, written out as an array."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra import arrays
from blockjac.algebra.arithmetic import where
from blockjac.algebra.axis_layout import Axis, AxisLayout, derived_of, pivots_of
from blockjac.algebra.backend import backend
from blockjac.algebra.index_arrays import index_values
from blockjac.algebra.stored_once import stored_once
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label, radix

LARGEST_POSITION = 2**31 - 1
"""The largest index of 32 bits, which is what JAX has without x64."""


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
        dtype: the dtype of the result.
        coefficient: a static scalar.

    Returns:
        A factor over kept labels and the axes' targets, without labels along which it is constant.
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
    layout = AxisLayout(axes, kept)
    size = arrays.numel(kept) * math.prod(axis.size for axis in axes)
    value, padded = layout.value(stored_once(factors, size), coefficient, dtype)
    condition = layout.condition(padded)
    if condition is not None:
        value = where(condition, value, dtype)
    return layout.finish(value)


def _priced(
    factors: Sequence[Factor],
    axes: Sequence[Axis],
    kept: Sequence[Label],
    dtype: Any,
    coefficient: Any,
) -> Factor:
    """The abstract result and its price, for which no layout of labels is needed."""
    carried = {label for factor in factors for label in factor.labels}
    constant = [axis for axis in axes if _is_constant(axis, axes, carried | set(kept))]
    involved = {label for axis in axes for label in axis.index.labels} | carried
    targets = [axis.target for axis in axes if axis.size != 1 and axis not in constant]
    labels = (*(label for label in kept if label in involved), *targets)
    if len(factors) == 1 and coefficient == 1 and _is_written(factors[0], axes, kept):
        return Factor(factors[0].array, labels)
    # The factors are multiplied while the result is written: no product in between is stored.
    work = arrays.work_of_product(factors, coefficient) if factors else {}
    backend().charge(0, sum(factor.numel * factor.array.dtype.itemsize for factor in factors))
    return backend().factor(labels, dtype, lambda: None, reads=(), **work)


def _is_constant(axis: Axis, axes: Sequence[Axis], carried: Set[Label]) -> bool:
    """Whether entries along an axis are alike: its labels fill it and occur nowhere else."""
    digits = radix(axis.index)
    whole = digits is not None and arrays.numel(digits) == axis.size
    if axis.size == 1 or not (whole or axis.index.is_plain(axis.size)):
        return axis.index.is_plain(axis.size) and not set(axis.index.labels) & carried
    return not any(
        label in carried or sum(label in other.index.labels for other in axes) > 1
        for label in axis.index.labels
    )


def _is_written(factor: Factor, axes: Sequence[Axis], kept: Sequence[Label]) -> bool:
    """Whether a factor already is the result."""
    labels = [label for axis in axes for label in axis.index.labels]
    plain = all(axis.index.is_plain(axis.size) for axis in axes)
    return plain and not kept and list(factor.labels) == labels


def _scatter_hard_axes(
    factors: list[Factor], axes: list[Axis], kept: Sequence[Label], dtype: Any
) -> tuple[list[Factor], list[Axis]]:
    """Write out, by a scatter-add, the axes whose labels cannot be read off any axis."""
    pivots = pivots_of(axes, kept)
    known = {*pivots, *derived_of(axes, pivots, kept), *kept}
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
    scattered_axes = [*batch, *hard]
    inside = [factor for factor in factors if set(factor.labels) & grid]
    over = list(arrays.unique([label for axis in scattered_axes for label in axis.index.labels]))
    rest = [label for label in arrays.union(inside) if label not in grid]
    done = [
        Axis(Index.of(axis.target), axis.size, axis.target) if axis in hard else axis
        for axis in axes
    ]
    value = arrays.product(inside) if inside else None

    def emit() -> jax.Array:
        """Scatter the values over all labels of the grid to the positions of their indices."""
        factor = value or Factor(jnp.ones((), dtype), ())
        full = arrays.sizes([*over, *rest])
        values = jnp.broadcast_to(arrays.aligned(factor, [*over, *rest]), full)
        positions: list[jax.Array] = []
        for axis in scattered_axes:
            indices = arrays.aligned(index_values(axis.index), over)
            index = jnp.broadcast_to(indices, arrays.sizes(over))
            positions.append(jnp.where(index < 0, axis.size, index))
        buffer = jnp.zeros((*(axis.size for axis in scattered_axes), *arrays.sizes(rest)), dtype)
        array = buffer.at[tuple(positions)].add(values.astype(dtype), mode="drop")
        return jnp.reshape(array, arrays.sizes(labels))

    targets = [axis.target for axis in scattered_axes]
    labels = tuple(label for label in (*targets, *rest) if label.size != 1)
    additions = arrays.numel(over) * arrays.numel(rest)
    scattered = backend().factor(labels, dtype, emit, additions=additions)
    return [*(factor for factor in factors if factor not in inside), scattered], done
