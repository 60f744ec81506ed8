"""Primitives that read places known at run time only: gather and dynamic_slice. Their blocks are lookups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from blockjac.blocks import Block, Index, Label, Lookup, Term
from blockjac.rules.registry import rule


@rule("dynamic_slice")
def dynamic_slice(out: Any, operand: Any, *starts: Any, **_: Any) -> tuple[Block | None, ...]:
    """`out[l] = x[start + l]`, with the start clipped so that the slice lies inside."""
    labels = [Label(size) for size in out.shape]
    wrt = []
    for label, start, size in zip(labels, starts, operand.shape, strict=True):
        if label.size == size:
            wrt.append(Index.of(label))
            continue
        last = size - label.size
        clipped = jnp.clip(jnp.asarray(start).astype(jnp.int32), 0, last)
        lookup = Lookup(clipped, (), (0, last))
        wrt.append(Index(0, Index.of(label).strides, lookup))
    block = Block(out.shape, operand.shape, operand.dtype, [Term((), tuple(map(Index.of, labels)), tuple(wrt))])
    return (block, *(None for _ in starts))


@rule("gather")
def gather(
    out: Any, operand: Any, indices: Any, *, dimension_numbers: Any, slice_sizes: Sequence[int], mode: Any, **_: Any
) -> tuple[Block, None]:
    """`out[batch, offset] = x[start(batch) + offset]`, start by axis from the index array.

    Starts are clipped so that the slice lies inside (mode clip), promised to (promise_in_bounds), or the whole slice
    is no entry where it does not (fill).
    """
    numbers = dimension_numbers
    labels = [Label(size) for size in out.shape]
    offset_axes = list(numbers.offset_dims)
    batch_labels = [label for axis, label in enumerate(labels) if axis not in offset_axes]
    windowed = [
        axis
        for axis in range(len(operand.shape))
        if axis not in numbers.collapsed_slice_dims and axis not in numbers.operand_batching_dims
    ]
    offsets = {axis: labels[place] for axis, place in zip(windowed, offset_axes, strict=True)}
    wrt = []
    for axis, size in enumerate(operand.shape):
        base = Index.of(offsets[axis]) if axis in offsets else Index()
        if axis in numbers.operand_batching_dims:
            place = numbers.start_indices_batching_dims[numbers.operand_batching_dims.index(axis)]
            base = Index.of(batch_labels[place])
        elif axis in numbers.start_index_map and not (slice_sizes[axis] == size and _clips(mode)):
            start = indices[..., numbers.start_index_map.index(axis)]
            base = Index(0, base.strides, _start(start, batch_labels, size, slice_sizes[axis], mode))
        wrt.append(base)
    term = Term((), tuple(map(Index.of, labels)), tuple(wrt))
    return Block(out.shape, operand.shape, operand.dtype, [term]), None


def _clips(mode: Any) -> bool:
    return mode in (lax.GatherScatterMode.CLIP, lax.GatherScatterMode.PROMISE_IN_BOUNDS)


def _start(start: Any, labels: Sequence[Label], size: int, window: int, mode: Any) -> Lookup:
    last = size - window
    carried = tuple(label for label in labels if label.size != 1)
    if jnp.issubdtype(start.dtype, jnp.unsignedinteger):
        start = jnp.minimum(start, max(last, 0) + 1)
    places = jnp.reshape(start, tuple(label.size for label in carried))
    if _clips(mode):
        return Lookup(jnp.clip(places, 0, last).astype(jnp.int32), carried, (0, last))
    # A window that leaves the axis is no entry as a whole: move it out of reach.
    outside = (places < 0) | (places > last)
    return Lookup(jnp.where(outside, size, places).astype(jnp.int32), carried, None)


