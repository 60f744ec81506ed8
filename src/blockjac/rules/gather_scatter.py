"""Primitives that read or write places known at run time only: lookups, without stored zeros.

A lookup that leaves its axis means "no entry", so that each mode of JAX (clip, fill, drop, promise)
is translated before the lookup is built.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.base.promises import is_forwards
from blockjac.blocks import Block, Index, Label, Lookup, Term
from blockjac.rules.registry import labels_of, made, over, plain, rule
from blockjac.terms.known_indices import index_along, index_plus

# Windows at a run-time start


@rule("dynamic_slice")
def dynamic_slice(out: Any, operand: Any, *starts: Any, **_: Any) -> tuple[Block | None, ...]:
    """`out[l] = x[start + l]`, with the start clipped so that the slice lies inside."""
    labels = labels_of(out.shape)
    term = Term((), plain(labels), _shifted(labels, starts, operand.shape))
    return (Block(out.shape, operand.shape, operand.dtype, [term]), *(None for _ in starts))


@rule("dynamic_update_slice")
def dynamic_update_slice(
    out: Any, operand: Any, update: Any, *starts: Any, **_: Any
) -> tuple[Block | None, ...]:
    """`out[start + l] = update[l]`; every other place is the operand's."""
    labels = labels_of(update.shape)
    term = Term((), _shifted(labels, starts, out.shape), plain(labels))
    written = Block(out.shape, update.shape, update.dtype, [term])
    # Clipped here, as the function would count a negative start from the end once more.
    lasts = [size - own for size, own in zip(out.shape, update.shape, strict=True)]
    places = [_clipped(start, last) for start, last in zip(starts, lasts, strict=True)]
    constant = all(isinstance(start, int | np.ndarray | np.generic) for start in starts)
    with jax.ensure_compile_time_eval() if constant else contextlib.nullcontext():
        kept = lax.dynamic_update_slice(
            jnp.ones(out.shape, bool), jnp.zeros(update.shape, bool), places
        )
    kept = np.asarray(kept) if constant else kept
    return (_masked(kept, operand), written, *(None for _ in starts))


def _shifted(
    labels: Sequence[Label], starts: Sequence[Any], sizes: Sequence[int]
) -> tuple[Index, ...]:
    """The index `start + l` on each axis, the start clipped so that the window lies inside."""
    indices = []
    for label, start, size in zip(labels, starts, sizes, strict=True):
        last = size - label.size
        index = Index.of(label)
        if last > 0:
            index = index_plus(index, Lookup(_clipped(start, last), (), (0, last)))
        indices.append(index)
    return tuple(indices)


def _masked(kept: Any, operand: Any) -> Block:
    """The identity where `kept` holds, and nothing elsewhere."""
    if isinstance(kept, np.ndarray):
        return _kept_places(kept, operand)
    labels = labels_of(operand.shape)
    term = Term((over(kept, labels, operand.dtype),), plain(labels), plain(labels))
    return made(operand.shape, operand.shape, operand.dtype, term)


def _kept_places(kept: np.ndarray, operand: Any) -> Block:
    """The same of a constant: the places that are kept in a list, axes of equal slices apart."""
    whole = {
        axis
        for axis in range(kept.ndim)
        if (kept == np.take(kept, [0], axis) if kept.shape[axis] else kept).all()
    }
    if kept.size and not kept.any():
        return Block.zeros(operand.shape, operand.shape, operand.dtype)
    if len(whole) == kept.ndim:
        return Block.identity(operand.shape, operand.dtype)
    lines = np.nonzero(
        kept[tuple(0 if axis in whole else slice(None) for axis in range(kept.ndim))]
    )
    flat, along = Label(len(lines[0])), iter(lines)
    indices = tuple(
        Index.of(Label(size)) if axis in whole else index_along(next(along), flat)
        for axis, size in enumerate(kept.shape)
    )
    return Block(operand.shape, operand.shape, operand.dtype, [Term((), indices, indices)])


def _clipped(start: Any, last: int) -> Any:
    return _library(start).clip(_wide(start, last), 0, last).astype(np.int32)


def _library(array: Any) -> Any:
    """NumPy for places that are constants, so that they stay constants; else JAX."""
    return np if isinstance(array, np.ndarray | np.generic) else jnp


def _wide(places: Any, last: int) -> Any:
    """Places in an integer type that also holds one more than `last`; unsigned ones end there."""
    library = _library(places)
    places = library.asarray(places)
    if np.iinfo(places.dtype).max <= last:
        return places.astype(np.int32)
    if jnp.issubdtype(places.dtype, jnp.unsignedinteger):
        return library.minimum(places, last + 1).astype(np.int32)
    return places


# Gather and scatter


@rule("gather")
def gather(
    out: Any,
    operand: Any,
    indices: Any,
    *,
    dimension_numbers: Any,
    slice_sizes: Sequence[int],
    mode: Any,
    **_: Any,
) -> tuple[Block, None]:
    """`out[batch, offset] = x[start(batch) + offset]`, starts by axis from the index array.

    Starts are clipped so that the window lies inside (mode clip), or a window that does not lie
    inside is no entry as a whole (fill). Where it is promised that they all do (promise_in_bounds)
    and one does not, tangents are clipped, as the values are, and cotangents fall off.
    """
    windows = _Windows.of_gather(dimension_numbers)
    labels = labels_of(out.shape)
    promised = mode == lax.GatherScatterMode.PROMISE_IN_BOUNDS
    clips = is_forwards() if promised else mode == lax.GatherScatterMode.CLIP
    wrt = windows.places(labels, indices, operand.shape, slice_sizes, clips)
    term = Term((), plain(labels), wrt)
    return Block(out.shape, operand.shape, operand.dtype, [term]), None


@rule("scatter-add")
def scatter_add(
    out: Any,
    operand: Any,
    indices: Any,
    updates: Any,
    *,
    dimension_numbers: Any,
    mode: Any,
    **_: Any,
) -> tuple[Block, None, Block]:
    """`out[start(batch) + offset] += updates[batch, offset]`: the identity, and a lookup."""
    added = _scattered(out, indices, updates, dimension_numbers, mode)
    return Block.identity(operand.shape, operand.dtype), None, added


@rule("scatter-sub")
def scatter_sub(out: Any, operand: Any, indices: Any, updates: Any, **params: Any) -> Any:
    """As scatter-add, with the sign changed."""
    kept, _, added = scatter_add(out, operand, indices, updates, **params)
    return kept, None, -added


@rule("scatter")
def scatter(
    out: Any,
    operand: Any,
    indices: Any,
    updates: Any,
    *,
    dimension_numbers: Any,
    mode: Any,
    unique_indices: bool,
    update_jaxpr: Any,
    **_: Any,
) -> Any:
    """`out[start(batch) + offset] = updates[batch, offset]`; every other place is the operand's.

    Where several updates fall on one place, the one that is written has the derivative: each update
    has a number, and the numbers are scattered in the same way.
    """
    if update_jaxpr is not None:
        return NotImplemented
    constant = isinstance(indices, np.ndarray)
    with jax.ensure_compile_time_eval() if constant else contextlib.nullcontext():
        numbers = jnp.reshape(jnp.arange(1, math.prod(updates.shape) + 1), updates.shape)
        numbers = numbers.astype(jnp.int32)
        winners = lax.scatter(
            jnp.zeros(out.shape, jnp.int32),
            jnp.asarray(indices),
            numbers,
            dimension_numbers,
            mode=mode,
            unique_indices=unique_indices,
        )
        written = None
        if not unique_indices:
            written = _gathered(winners, indices, updates, dimension_numbers, mode) == numbers
    if constant:
        winners = np.asarray(winners)
        written = None if written is None or np.asarray(written).all() else written
    set_ = _scattered(out, indices, updates, dimension_numbers, mode, written)
    return _masked(winners == 0, operand), None, set_


@rule("scatter-min", "scatter-max")
def scatter_extremum(
    out: Any,
    operand: Any,
    indices: Any,
    updates: Any,
    *,
    dimension_numbers: Any,
    mode: Any,
    **_: Any,
) -> tuple[Block, None, Block]:
    """All that attain the extremum, entry and updates, share the derivative, as in JAX."""
    numbers = dimension_numbers
    attained = updates == _gathered(out, indices, updates, numbers, mode)
    retained = operand == out
    zeros = jnp.zeros(out.shape, operand.dtype)
    count = lax.scatter_add(zeros, indices, attained.astype(operand.dtype), numbers, mode=mode)
    share = 1 / (count + retained)
    labels = labels_of(out.shape)
    factors = (over(retained, labels, operand.dtype), over(share, labels, operand.dtype))
    kept = made(
        out.shape, operand.shape, operand.dtype, Term(factors, plain(labels), plain(labels))
    )
    weight = jnp.where(attained, _gathered(share, indices, updates, numbers, mode), 0)
    return kept, None, _scattered(out, indices, updates, numbers, mode, weight)


@rule("scatter-mul")
def scatter_multiply(
    out: Any,
    operand: Any,
    indices: Any,
    updates: Any,
    *,
    dimension_numbers: Any,
    mode: Any,
    unique_indices: bool,
    **_: Any,
) -> Any:
    """`out[start(batch) + offset] *= updates[batch, offset]`: either's derivative is the other.

    Without the promise that places differ, an update's derivative has the other updates of its
    place as factors too.
    """
    ones = jnp.ones(out.shape, operand.dtype)
    times = lax.scatter_mul(ones, indices, updates, dimension_numbers, mode=mode)
    labels = labels_of(out.shape)
    factor = over(times, labels, operand.dtype)
    scaled = Term((factor,), plain(labels), plain(labels))
    there = _gathered(operand, indices, updates, dimension_numbers, mode)
    if not unique_indices:
        there = there * _others(out.shape, indices, updates, dimension_numbers, mode)
    return (
        made(out.shape, operand.shape, operand.dtype, scaled),
        None,
        _scattered(out, indices, updates, dimension_numbers, mode, there),
    )


def _others(shape: Sequence[int], indices: Any, updates: Any, numbers: Any, mode: Any) -> Any:
    """For each update the product of the others that fall on its place: no division, as in 0/0."""
    places = jnp.reshape(jnp.arange(1, math.prod(shape) + 1, dtype=jnp.int32), tuple(shape))
    place = jnp.ravel(_gathered(places, indices, updates, numbers, mode))
    order = jnp.argsort(place)
    place, values = place[order], jnp.ravel(updates)[order]
    same = place[1:] == place[:-1]
    one, end = jnp.ones(1, values.dtype), jnp.ones(1, bool)
    before = _segment_products(
        jnp.concatenate([one, jnp.where(same, values[:-1], 1)]), jnp.concatenate([end, ~same])
    )
    after = _segment_products(
        jnp.concatenate([jnp.where(same, values[1:], 1), one]),
        jnp.concatenate([~same, end]),
        reverse=True,
    )
    return jnp.reshape(jnp.zeros_like(values).at[order].set(before * after), updates.shape)


def _segment_products(values: Any, starts: Any, reverse: bool = False) -> Any:
    """Running products that begin anew at each start."""

    def joined(left: tuple[Any, Any], right: tuple[Any, Any]) -> tuple[Any, Any]:
        return left[0] | right[0], jnp.where(right[0], right[1], left[1] * right[1])

    return lax.associative_scan(joined, (starts, values), reverse=reverse)[1]


def _scattered(
    out: Any, indices: Any, updates: Any, numbers: Any, mode: Any, values: Any = None
) -> Block:
    """The block of a scatter's updates: where each of them goes, times `values` if given."""
    labels = labels_of(updates.shape)
    sizes = window_sizes(out.shape, updates.shape, numbers)
    clips = mode == lax.GatherScatterMode.CLIP  # XLA writes nothing where a promise is not kept
    places = _Windows.of_scatter(numbers).places(labels, indices, out.shape, sizes, clips)
    factors = () if values is None else (over(values, labels, updates.dtype),)
    return Block(out.shape, updates.shape, updates.dtype, [Term(factors, places, plain(labels))])


def _gathered(array: Any, indices: Any, updates: Any, numbers: Any, mode: Any) -> Any:
    """What stands in the array where each update of a scatter goes; 0 where it goes nowhere."""
    inverse = inverse_numbers(numbers)
    sizes = window_sizes(array.shape, updates.shape, numbers)
    return lax.gather(array, indices, inverse, sizes, mode=mode, fill_value=0)


def inverse_numbers(numbers: Any) -> lax.GatherDimensionNumbers:
    """The dimension numbers of the gather from where a scatter writes."""
    return lax.GatherDimensionNumbers(
        offset_dims=numbers.update_window_dims,
        collapsed_slice_dims=numbers.inserted_window_dims,
        start_index_map=numbers.scatter_dims_to_operand_dims,
        operand_batching_dims=numbers.operand_batching_dims,
        start_indices_batching_dims=numbers.scatter_indices_batching_dims,
    )


def window_sizes(
    shape: Sequence[int], update_shape: Sequence[int], numbers: Any
) -> tuple[int, ...]:
    """The sizes of a scatter's windows along each axis of the array that it writes into.

    Args:
        shape: of the array.
        update_shape: of the updates.
        numbers: the scatter's dimension numbers.
    """
    flat = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    sizes = iter(update_shape[axis] for axis in numbers.update_window_dims)
    return tuple(1 if axis in flat else next(sizes) for axis in range(len(shape)))


@dataclass(frozen=True)
class _Windows:
    """How the windows of a gather or scatter lie in an array, in one vocabulary for both.

    Attributes:
        offset_axes: axes of the windows' array (a gather's result, a scatter's updates) that run
            inside a window.
        flat_axes: axes of the array along which a window has size 1 and no axis of its own.
        started_axes: axes of the array whose start is in the index array, in its order.
        batch_axes: axes of the array that belong to axes of the index array.
        index_batch_axes: those axes of the index array.
    """

    offset_axes: tuple[int, ...]
    flat_axes: tuple[int, ...]
    started_axes: tuple[int, ...]
    batch_axes: tuple[int, ...]
    index_batch_axes: tuple[int, ...]

    @staticmethod
    def of_gather(numbers: Any) -> _Windows:
        return _Windows(
            tuple(numbers.offset_dims),
            tuple(numbers.collapsed_slice_dims),
            tuple(numbers.start_index_map),
            tuple(numbers.operand_batching_dims),
            tuple(numbers.start_indices_batching_dims),
        )

    @staticmethod
    def of_scatter(numbers: Any) -> _Windows:
        return _Windows(
            tuple(numbers.update_window_dims),
            tuple(numbers.inserted_window_dims),
            tuple(numbers.scatter_dims_to_operand_dims),
            tuple(numbers.operand_batching_dims),
            tuple(numbers.scatter_indices_batching_dims),
        )

    def places(
        self,
        labels: Sequence[Label],
        indices: Any,
        shape: Sequence[int],
        sizes: Sequence[int],
        clips: bool,
    ) -> tuple[Index, ...]:
        """Where the entry of the windows' array at `labels` lies on each axis of the array.

        Args:
            labels: of the windows' array.
            indices: the index array, starts on its last axis.
            shape: of the array.
            sizes: of a window.
            clips: whether a window off the array stands for the nearest; otherwise it is no entry.
        """
        batch = [label for axis, label in enumerate(labels) if axis not in self.offset_axes]
        inside = iter(labels[axis] for axis in self.offset_axes)
        result = []
        for axis, size in enumerate(shape):
            if axis in self.batch_axes:
                place = self.index_batch_axes[self.batch_axes.index(axis)]
                result.append(Index.of(batch[place]))
                continue
            index = Index() if axis in self.flat_axes else Index.of(next(inside))
            if axis in self.started_axes and not (clips and size == sizes[axis]):
                start = indices[..., self.started_axes.index(axis)]
                starts = _starts(start, batch, size, sizes[axis], clips)
                index = index_plus(index, starts)
            result.append(index)
        return tuple(result)


def _starts(start: Any, labels: Sequence[Label], size: int, window: int, clips: bool) -> Lookup:
    last = size - window
    carried = tuple(label for label in labels if label.size != 1)
    library = _library(start)
    start = library.reshape(start, tuple(label.size for label in carried))
    if clips:
        return Lookup(_clipped(start, last), carried, (0, last))
    # A window that leaves the axis is no entry as a whole: move it out of reach.
    places = _wide(start, size)
    outside = (places < 0) | (places > last)
    return Lookup(library.where(outside, size, places).astype(np.int32), carried, None)


# Sorting


@rule("sort", multiple_results=True)
def sort(
    outs: Any, *operands: Any, dimension: int, is_stable: bool, num_keys: int, **_: Any
) -> tuple[tuple[Block | None, ...], ...]:
    """`out[l] = x[order(l)]` along the axis: every operand is permuted as the keys are."""
    shape = outs[0].shape
    numbers = lax.broadcasted_iota(jnp.int32, shape, dimension)
    order = lax.sort(
        (*operands, numbers), dimension=dimension, is_stable=is_stable, num_keys=num_keys
    )[-1]
    return tuple(
        tuple(
            _looked_up(out, operand, dimension, order) if place == result else None
            for place, operand in enumerate(operands)
        )
        for result, out in enumerate(outs)
    )


@rule("top_k", multiple_results=True)
def top_k(outs: Any, operand: Any, *, axis: int = -1, **_: Any) -> Any:
    """`out[l] = x[order(l)]` along the axis, with the order that the primitive itself returns."""
    values, order = outs
    return (_looked_up(values, operand, axis % len(operand.shape), order),), (None,)


@rule("approx_top_k", multiple_results=True)
def approx_top_k(outs: Any, operand: Any, *, reduction_dimension: int, **_: Any) -> Any:
    """As top_k."""
    return top_k(outs, operand, axis=reduction_dimension)


def _looked_up(out: Any, operand: Any, axis: int, order: Any) -> Block:
    labels = labels_of(out.shape)
    size = operand.shape[axis]
    carried = tuple(label for label in labels if label.size != 1)
    places = jnp.reshape(order, tuple(label.size for label in carried)).astype(jnp.int32)
    wrt = list(plain(labels))
    if size != 1:
        wrt[axis] = Index(0, (), Lookup(places, carried, (0, size - 1)))
    term = Term((), plain(labels), tuple(wrt))
    return Block(out.shape, operand.shape, operand.dtype, [term])
