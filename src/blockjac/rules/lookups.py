"""Lookups at positions that may be known at run time only: what gathers and scatters share.

A lookup that leaves its axis means "no entry". Each mode of JAX (clip, fill, drop, promise) is
translated into that before the lookup is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.blocks import Block, Index, Label, Lookup, Term
from blockjac.rules.building import labels_of, made, over, plain
from blockjac.terms.known_indices import index_along, index_plus

# Starts of windows


def clipped(start: Any, last: int) -> Any:
    """A start moved into the range from 0 to `last`, as an int32."""
    return library_of(start).clip(widened(start, last), 0, last).astype(np.int32)


def library_of(array: Any) -> Any:
    """NumPy for constants, so that what is computed from them stays constant; JAX otherwise."""
    return np if isinstance(array, np.ndarray | np.generic) else jnp


def widened(positions: Any, last: int) -> Any:
    """Positions in a signed integer type that can also hold `last + 1`.

    Unsigned positions beyond that are lowered to it, as they might not fit into an int32.
    """
    library = library_of(positions)
    positions = library.asarray(positions)
    if np.iinfo(positions.dtype).max <= last:
        return positions.astype(np.int32)
    if jnp.issubdtype(positions.dtype, jnp.unsignedinteger):
        return library.minimum(positions, last + 1).astype(np.int32)
    return positions


def shifted(
    labels: Sequence[Label], starts: Sequence[Any], sizes: Sequence[int]
) -> tuple[Index, ...]:
    """The index `start + l` on each axis, with starts clipped so that the window lies inside.

    Args:
        labels: of the window's axes.
        starts: of the window, one for each axis of the array.
        sizes: of the array's axes.
    """
    indices = []
    for label, start, size in zip(labels, starts, sizes, strict=True):
        last = size - label.size
        index = Index.of(label)
        if last > 0:
            index = index_plus(index, Lookup(clipped(start, last), (), (0, last)))
        indices.append(index)
    return tuple(indices)


# Windows of gathers and scatters


@dataclass(frozen=True)
class Windows:
    """How the windows of a gather or a scatter lie in an array, in the same words for both.

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
    def of_gather(numbers: Any) -> Windows:
        """The windows that a gather with these dimension numbers reads."""
        return Windows(
            tuple(numbers.offset_dims),
            tuple(numbers.collapsed_slice_dims),
            tuple(numbers.start_index_map),
            tuple(numbers.operand_batching_dims),
            tuple(numbers.start_indices_batching_dims),
        )

    @staticmethod
    def of_scatter(numbers: Any) -> Windows:
        """The windows that a scatter with these dimension numbers writes."""
        return Windows(
            tuple(numbers.update_window_dims),
            tuple(numbers.inserted_window_dims),
            tuple(numbers.scatter_dims_to_operand_dims),
            tuple(numbers.operand_batching_dims),
            tuple(numbers.scatter_indices_batching_dims),
        )

    def indices(
        self,
        labels: Sequence[Label],
        starts: Any,
        shape: Sequence[int],
        sizes: Sequence[int],
        clips: bool,
    ) -> tuple[Index, ...]:
        """The index, on each axis of the array, of the windows' entry at `labels`.

        Args:
            labels: of the windows' array.
            starts: the index array; its last axis holds the start of a window by axis.
            shape: of the array.
            sizes: of a window.
            clips: whether a window that leaves the array is moved inside; otherwise it is empty.
        """
        batch = [label for axis, label in enumerate(labels) if axis not in self.offset_axes]
        inside = iter(labels[axis] for axis in self.offset_axes)
        indices = []
        for axis, size in enumerate(shape):
            if axis in self.batch_axes:
                batch_axis = self.index_batch_axes[self.batch_axes.index(axis)]
                indices.append(Index.of(batch[batch_axis]))
                continue
            index = Index() if axis in self.flat_axes else Index.of(next(inside))
            if axis in self.started_axes and not (clips and size == sizes[axis]):
                start = starts[..., self.started_axes.index(axis)]
                lookup = _start_lookup(start, batch, size, sizes[axis], clips)
                index = index_plus(index, lookup)
            indices.append(index)
        return tuple(indices)


def _start_lookup(
    start: Any, labels: Sequence[Label], size: int, window: int, clips: bool
) -> Lookup:
    """The lookup `start[batch]` on an axis, off the axis where a window is empty.

    Args:
        start: of the windows on this axis.
        labels: of the start's axes.
        size: of the axis.
        window: size of a window along the axis.
        clips: whether a window that leaves the axis is moved inside.
    """
    last = size - window
    carried = tuple(label for label in labels if label.size != 1)
    library = library_of(start)
    start = library.reshape(start, tuple(label.size for label in carried))
    if clips:
        return Lookup(clipped(start, last), carried, (0, last))
    # A window that leaves the axis has no entries at all: move it off the axis as a whole.
    positions = widened(start, size)
    outside = (positions < 0) | (positions > last)
    return Lookup(library.where(outside, size, positions).astype(np.int32), carried, None)


# What is not overwritten


def masked_identity(mask: Any, operand: Any) -> Block:
    """`δ[i, i'] mask[i]`: the identity where `mask` is true, and zero elsewhere."""
    if isinstance(mask, np.ndarray):
        return _listed_identity(mask, operand)
    labels = labels_of(operand.shape)
    term = Term((over(mask, labels, operand.dtype),), plain(labels), plain(labels))
    return made(operand.shape, operand.shape, operand.dtype, term)


def _listed_identity(mask: np.ndarray, operand: Any) -> Block:
    """The masked identity of a constant mask, with the positions that it keeps in a list.

    An axis along which the mask does not vary keeps a delta of its own.
    """
    constant_axes = {
        axis
        for axis in range(mask.ndim)
        if (mask == np.take(mask, [0], axis) if mask.shape[axis] else mask).all()
    }
    if mask.size and not mask.any():
        return Block.zeros(operand.shape, operand.shape, operand.dtype)
    if len(constant_axes) == mask.ndim:
        return Block.identity(operand.shape, operand.dtype)
    kept_positions = np.nonzero(
        mask[tuple(0 if axis in constant_axes else slice(None) for axis in range(mask.ndim))]
    )
    flat, coordinates = Label(len(kept_positions[0])), iter(kept_positions)
    indices = tuple(
        Index.of(Label(size)) if axis in constant_axes else index_along(next(coordinates), flat)
        for axis, size in enumerate(mask.shape)
    )
    return Block(operand.shape, operand.shape, operand.dtype, [Term((), indices, indices)])
