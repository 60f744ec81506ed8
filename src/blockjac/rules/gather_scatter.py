"""Gathers and scatters: windows at starts from an index array, without stored zeros."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.base.promises import is_forwards
from blockjac.blocks import Block, Term
from blockjac.rules.building import labels_of, made, over, plain
from blockjac.rules.lookups import Windows, masked_identity
from blockjac.rules.registry import rule


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
    """`out[batch, offset] = x[start[batch] + offset]`, with starts from the index array.

        d out[batch, offset] / d x[i'] = δ[start[batch] + offset, i']

    `dimension_numbers` says which axes are which, and `slice_sizes` is the shape of a window. By
    `mode`, starts are clipped so that the window lies inside (clip), or a window that does not lie
    inside has no entries at all (fill). If all are promised to lie inside (promise_in_bounds) but
    one does not, its tangents are clipped, as the values are, and its cotangents are dropped.
    """
    windows = Windows.of_gather(dimension_numbers)
    labels = labels_of(out.shape)
    promised = mode == lax.GatherScatterMode.PROMISE_IN_BOUNDS
    clips = is_forwards() if promised else mode == lax.GatherScatterMode.CLIP
    wrt = windows.indices(labels, indices, operand.shape, slice_sizes, clips)
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
    """`out[start[batch] + offset] += updates[batch, offset]`: the identity, and a lookup.

    d out[i] / d x[i'] = δ[i, i']
    d out[i] / d updates[batch', offset'] = δ[i, start[batch'] + offset']
    """
    added = _scattered(out, indices, updates, dimension_numbers, mode)
    return Block.identity(operand.shape, operand.dtype), None, added


@rule("scatter-sub")
def scatter_sub(out: Any, operand: Any, indices: Any, updates: Any, **params: Any) -> Any:
    """`out[start[batch] + offset] -= updates[batch, offset]`: scatter-add with a minus sign."""
    by_operand, _, by_updates = scatter_add(out, operand, indices, updates, **params)
    return by_operand, None, -by_updates


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
    """`out[start[batch] + offset] = updates[batch, offset]`; the rest is the operand's.

        d out[i] / d x[i'] = δ[i, i'] where no update reaches i
        d out[i] / d updates[batch', offset'] = δ[i, start[batch'] + offset']

    If several updates reach the same entry, the derivative is that of the one that is written. To
    learn which one that is, the updates are numbered and the numbers are scattered the same way.
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
    return masked_identity(winners == 0, operand), None, set_


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
    """`out[i]` is the extremum of `x[i]` and of the updates that reach it; ties share equally.

        d out[i] / d x[i'] = δ[i, i'] [x[i] == out[i]] / count[i]
        d out[i] / d updates[batch', offset'] = δ[i, i''] [updates == out[i'']] / count[i'']

    with `i'' = start[batch'] + offset'`. `count[i]` says how many attain the extremum, the entry of
    `x` included, as in JAX.
    """
    numbers = dimension_numbers
    attained = updates == _gathered(out, indices, updates, numbers, mode)
    retained = operand == out
    zeros = jnp.zeros(out.shape, operand.dtype)
    count = lax.scatter_add(zeros, indices, attained.astype(operand.dtype), numbers, mode=mode)
    share = 1 / (count + retained)
    labels = labels_of(out.shape)
    factors = (over(retained, labels, operand.dtype), over(share, labels, operand.dtype))
    by_operand = made(
        out.shape, operand.shape, operand.dtype, Term(factors, plain(labels), plain(labels))
    )
    weight = jnp.where(attained, _gathered(share, indices, updates, numbers, mode), 0)
    return by_operand, None, _scattered(out, indices, updates, numbers, mode, weight)


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
    """`out[start[batch] + offset] *= updates[batch, offset]`.

        d out[i] / d x[i'] = δ[i, i'] (product of the updates that reach i)
        d out[i] / d updates[batch', offset'] = δ[i, i''] x[i''] (product of the others that do)

    with `i'' = start[batch'] + offset'`. With `unique_indices` no further updates exist.
    """
    ones = jnp.ones(out.shape, operand.dtype)
    products = lax.scatter_mul(ones, indices, updates, dimension_numbers, mode=mode)
    labels = labels_of(out.shape)
    factor = over(products, labels, operand.dtype)
    scaled = Term((factor,), plain(labels), plain(labels))
    weight = _gathered(operand, indices, updates, dimension_numbers, mode)
    if not unique_indices:
        weight = weight * _products_of_others(out.shape, indices, updates, dimension_numbers, mode)
    return (
        made(out.shape, operand.shape, operand.dtype, scaled),
        None,
        _scattered(out, indices, updates, dimension_numbers, mode, weight),
    )


def _products_of_others(
    shape: Sequence[int], indices: Any, updates: Any, numbers: Any, mode: Any
) -> Any:
    """For each update the product of the others that reach the same entry.

    Computed from running products on both sides: a division would be 0/0 where an update is 0.
    """
    entries = jnp.reshape(jnp.arange(1, math.prod(shape) + 1, dtype=jnp.int32), tuple(shape))
    target = jnp.ravel(_gathered(entries, indices, updates, numbers, mode))
    order = jnp.argsort(target)
    target, values = target[order], jnp.ravel(updates)[order]
    same = target[1:] == target[:-1]
    unit, end = jnp.ones(1, values.dtype), jnp.ones(1, bool)
    before = _segment_products(
        jnp.concatenate([unit, jnp.where(same, values[:-1], 1)]), jnp.concatenate([end, ~same])
    )
    after = _segment_products(
        jnp.concatenate([jnp.where(same, values[1:], 1), unit]),
        jnp.concatenate([~same, end]),
        reverse=True,
    )
    return jnp.reshape(jnp.zeros_like(values).at[order].set(before * after), updates.shape)


def _segment_products(values: Any, starts: Any, reverse: bool = False) -> Any:
    """Running products along a vector that restart wherever `starts` is true."""

    def combined(left: tuple[Any, Any], right: tuple[Any, Any]) -> tuple[Any, Any]:
        return left[0] | right[0], jnp.where(right[0], right[1], left[1] * right[1])

    return lax.associative_scan(combined, (starts, values), reverse=reverse)[1]


def _scattered(
    out: Any, indices: Any, updates: Any, numbers: Any, mode: Any, values: Any = None
) -> Block:
    """`δ[i, start[batch'] + offset'] values[batch', offset']`: where each update is written."""
    labels = labels_of(updates.shape)
    sizes = window_sizes(out.shape, updates.shape, numbers)
    clips = mode == lax.GatherScatterMode.CLIP  # XLA writes nothing where a promise is broken
    reached = Windows.of_scatter(numbers).indices(labels, indices, out.shape, sizes, clips)
    factors = () if values is None else (over(values, labels, updates.dtype),)
    return Block(out.shape, updates.shape, updates.dtype, [Term(factors, reached, plain(labels))])


def _gathered(array: Any, indices: Any, updates: Any, numbers: Any, mode: Any) -> Any:
    """The array's entry that each update of a scatter reaches; 0 for updates that reach none."""
    inverse = inverse_numbers(numbers)
    sizes = window_sizes(array.shape, updates.shape, numbers)
    return lax.gather(array, indices, inverse, sizes, mode=mode, fill_value=0)


def inverse_numbers(numbers: Any) -> lax.GatherDimensionNumbers:
    """The dimension numbers of the gather that reads where a scatter writes."""
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
    """The size of a scatter's windows along each axis of the array that it writes into.

    Args:
        shape: of that array.
        update_shape: of the updates.
        numbers: the scatter's dimension numbers.
    """
    flat = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    sizes = iter(update_shape[axis] for axis in numbers.update_window_dims)
    return tuple(1 if axis in flat else next(sizes) for axis in range(len(shape)))
