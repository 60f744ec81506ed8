"""Kronecker deltas of a dense Jacobian: how to find them, leave them out and put them back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from blockjac.checking.compare import same

Pair = tuple[int, int]
"""An output axis and an input axis of one size, both counted over all axes."""

MAX_PAIRS = 4
"""How many deltas are left out together, at most."""


def pairs(shape: Sequence[int], out_ndim: int) -> list[Pair]:
    """The pairs of an output and an input axis of one size, at least 2."""
    return [
        (i, j)
        for i in range(out_ndim)
        for j in range(out_ndim, len(shape))
        if shape[i] == shape[j] > 1
    ]


def is_delta(array: np.ndarray, pair: Pair, limit: float = 0.0) -> bool:
    """Whether an array is 0, up to a limit, off the diagonal of two axes."""
    moved = np.moveaxis(array, pair, (-2, -1))
    return bool((np.abs(moved[..., ~np.eye(moved.shape[-1], dtype=bool)]) <= limit).all())


def subsets(axis_pairs: Sequence[Pair]) -> Iterator[tuple[Pair, ...]]:
    """All choices of pairs that share no axis, the largest first."""
    for count in range(min(len(axis_pairs), MAX_PAIRS), 0, -1):
        for chosen in itertools.combinations(axis_pairs, count):
            axes = [axis for pair in chosen for axis in pair]
            if len(set(axes)) == len(axes):
                yield chosen


def compressed(array: np.ndarray, chosen: Sequence[Pair], kept_side: int) -> np.ndarray:
    """The entries where the axes of each pair are equal, along one axis in place of the two.

    Args:
        array: a dense Jacobian.
        chosen: pairs of axes.
        kept_side: which axis of each pair stays: 0 for the output's, 1 for the input's.
    """
    labels, kept_labels = _labels(array.ndim, chosen, kept_side)
    return np.einsum(array, labels, kept_labels)


def expanded(
    values: np.ndarray, chosen: Sequence[Pair], kept_side: int, shape: Sequence[int]
) -> np.ndarray:
    """The inverse of `compressed`: the values with their deltas, 0 elsewhere."""
    full = np.zeros(tuple(shape), values.dtype)
    labels, kept_labels = _labels(len(shape), chosen, kept_side)
    np.einsum(full, labels, kept_labels)[...] = values  # a view: nothing is summed
    return full


def spread(
    values: np.ndarray, chosen: Sequence[Pair], kept_side: int, shape: Sequence[int]
) -> np.ndarray:
    """The values along the axes that `compressed` keeps, repeated along those that it drops."""
    dropped = tuple(pair[1 - kept_side] for pair in chosen)
    return np.broadcast_to(np.expand_dims(values, dropped), tuple(shape))


def off_diagonal(array: np.ndarray, pair: Pair, varying_side: int) -> np.ndarray:
    """The first entry off the diagonal of two axes, repeated along one of them; 0 on the diagonal.

    Args:
        array: a dense array whose two axes have a size of at least 2.
        pair: the two axes.
        varying_side: which of the two the entry may change along: 0 or 1.
    """
    order = pair if varying_side == 0 else pair[::-1]
    moved = np.moveaxis(array, order, (-2, -1))
    size = moved.shape[-1]
    positions = cast("np.ndarray", np.arange(size))
    first = moved[..., positions, (positions + 1) % size]
    entries = np.where(np.eye(size, dtype=bool), 0, first[..., None])
    return np.moveaxis(entries, (-2, -1), order)


def outer_for_dot(error: np.ndarray, pair: Pair, limit: float) -> np.ndarray | None:
    """The product `u[i] v[j]` over two axes, if an error is `u[i] v[j] - sum_k u[k] v[k]`.

    Over axes of size n the trace of such an error is `(1 - n) sum_k u[k] v[k]`, and once the sum is
    added back, the error has rank one.

    Args:
        error: the given array minus the exact one.
        pair: the two axes.
        limit: how far equal numbers may differ.
    """
    moved = np.moveaxis(error, pair, (-2, -1))
    size = moved.shape[-1]
    if not np.isfinite(moved).all():
        return None
    dot = -np.trace(moved, axis1=-2, axis2=-1)[..., None, None] / (size - 1)
    outer = moved + dot
    flat = outer.reshape(*outer.shape[:-2], size * size)
    most = np.abs(flat).argmax(-1)[..., None]
    pivot = np.take_along_axis(flat, most, -1)[..., None]
    row = np.take_along_axis(outer, (most // size)[..., None], -2)
    column = np.take_along_axis(outer, (most % size)[..., None], -1)
    product = column * row / np.where(pivot == 0, 1, pivot)
    again = product - np.trace(product, axis1=-2, axis2=-1)[..., None, None]
    return np.moveaxis(product, (-2, -1), pair) if same(again, moved, limit) else None


def _labels(ndim: int, chosen: Sequence[Pair], kept_side: int) -> tuple[list[int], list[int]]:
    """The labels of all axes, where both of a pair share one, and those of the axes that stay."""
    labels = list(range(ndim))
    for i, j in chosen:
        labels[j] = labels[i]
    dropped = {pair[1 - kept_side] for pair in chosen}
    return labels, [label for axis, label in enumerate(labels) if axis not in dropped]
