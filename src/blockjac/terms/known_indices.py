"""Indices whose values are known while a program is traced: those without lookups, and constants.

A lookup that holds a NumPy array is a constant of the program. Lookups that are derived from such
arrays are computed immediately, by NumPy, so that they are constants too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.base.caches import remembering
from blockjac.terms.index import Index, Label, Lookup, collect, interned

SMALLEST = (np.uint8, np.int8, np.uint16, np.int16, np.int32)
"""Dtypes of constant lookups, in order of preference: the first that holds all values is used."""


def is_known(index: Index) -> bool:
    """Whether the values of an index are known while the program is traced."""
    lookup = index.lookup
    return lookup is None or (lookup.constant and isinstance(lookup.array, np.ndarray))


def known_values(index: Index, labels: Sequence[Label]) -> np.ndarray:
    """The values of a known index, shaped to broadcast over the labels."""
    total = np.full((1,) * len(labels), index.offset, np.int64)
    for label, stride in index.strides:
        shape = tuple(label.size if axis is label else 1 for axis in labels)
        total = total + np.reshape(stride * np.arange(label.size, dtype=np.int64), shape)
    if index.lookup is not None:
        entries = known_entries(index.lookup.array, index.lookup.labels, labels)
        total = total + entries.astype(np.int64)
    return total


def known_entries(array: Any, own: Sequence[Label], labels: Sequence[Label]) -> np.ndarray:
    """A NumPy array over its own labels, shaped to broadcast over the requested `labels`."""
    order = [own.index(label) for label in labels if label in own]
    shape = tuple(label.size if label in own else 1 for label in labels)
    return np.reshape(np.transpose(array, order), shape)


def mask_at(mask: np.ndarray, axes: Sequence[Index], labels: Sequence[Label]) -> np.ndarray:
    """A mask read through a known index on each axis, over labels; False outside of its axes."""
    shape = tuple(label.size for label in labels)
    positions = [known_values(index, labels) for index in axes]
    inside = np.ones(shape, bool)
    for values, size in zip(positions, mask.shape, strict=True):
        inside &= (values >= 0) & (values < size)
    clipped = [
        np.clip(values, 0, size - 1) for values, size in zip(positions, mask.shape, strict=True)
    ]
    return inside & mask[tuple(clipped)]


def known_lookup(values: np.ndarray, labels: Sequence[Label]) -> Lookup:
    """The constant lookup of these values, with their bounds and their greatest common divisor."""
    bounds = (int(values.min()), int(values.max())) if values.size else None
    multiple = int(np.gcd.reduce(np.abs(values), axis=None)) if values.size else 1
    return Lookup(compactly(values, bounds), tuple(labels), bounds, multiple or 1, constant=True)


def compactly(values: np.ndarray, bounds: tuple[int, int] | None) -> np.ndarray:
    """Cast integers to the smallest dtype that holds them; users cast them back before they add.

    Args:
        values: integers.
        bounds: their minimum and maximum.
    """
    low, high = bounds or (0, 0)
    for dtype in SMALLEST:
        info = np.iinfo(dtype)
        if info.min <= low and high <= info.max:
            return values.astype(dtype)
    return values


@remembering("digits of numbers", 256)
def digit_values(count: int, weight: int, base: int) -> np.ndarray:
    """`flat // weight % base` for all numbers below a count: one digit of each."""
    digits = np.arange(count, dtype=np.int64) // weight % base
    return interned(compactly(digits, (0, base - 1)))


def digit(flat: Label, weight: int, base: int) -> Index:
    """The digit of a label with a weight and a base, as an index: a constant lookup."""
    if base == 1:
        return Index()
    if flat.size <= weight * base and weight == 1:
        return Index.of(flat)
    values = digit_values(flat.size, weight, base)
    return Index(0, (), Lookup(values, (flat,), (0, base - 1), constant=True))


def index_along(values: np.ndarray, label: Label) -> Index:
    """The index with these values over one label: affine where they are, else a lookup."""
    if len(values) == 0:
        return Index(0, ((label, 1),))  # it has no values; the label of size 0 says so
    if len(values) == 1:
        return Index(int(values[0]))
    step = int(values[1]) - int(values[0])
    if (np.diff(values) == step).all():
        return Index(int(values[0]), ((label, step),) if step else ())
    return Index(0, (), known_lookup(values, (label,)))


def index_plus(index: Index, lookup: Lookup) -> Index:
    """The sum of an index without a lookup and a lookup; affine if the lookup's values are."""
    array: Any = lookup.array
    if not isinstance(array, np.ndarray | np.generic):
        return Index(index.offset, index.strides, lookup)
    values: np.ndarray = np.asarray(lookup.array).astype(np.int64)
    if not lookup.labels:
        return index.shifted(int(values))
    if len(lookup.labels) == 1:
        along = index_along(values, lookup.labels[0])
        strides = collect([*index.strides, *along.strides])
        return Index(index.offset + along.offset, strides, along.lookup)
    return Index(index.offset, index.strides, known_lookup(values, lookup.labels))


def composed(lookup: Lookup, label: Label, value: Index) -> Lookup:
    """A constant lookup with a label replaced by a known index."""
    axes = [value if own is label else Index.of(own) for own in lookup.labels]
    labels = _labels_of(axes)
    positions = [
        np.clip(known_values(axis, labels), 0, size - 1)
        for axis, size in zip(axes, lookup.array.shape, strict=True)
    ]
    shape = tuple(label.size for label in labels)
    return known_lookup(np.broadcast_to(lookup.array[tuple(positions)], shape), labels)


def meetings(
    left: Sequence[Index], right: Sequence[Index], sizes: Sequence[int]
) -> tuple[int, dict[Label, np.ndarray]]:
    """All values of the labels at which pairs of known indices agree on a position of their axis.

    Args:
        left: known indices.
        right: known indices, one for each of `left`.
        sizes: the sizes of the axes.

    Returns:
        The number of solutions (0 or 1 for indices without labels), and for each label of either
        side its values, one for each solution.
    """
    left_labels, right_labels = _labels_of(left), _labels_of(right)
    if set(left_labels) & set(right_labels):
        return _agreeing(left, right, sizes, tuple(dict.fromkeys((*left_labels, *right_labels))))
    lhs, rhs = _flat(left, sizes, left_labels), _flat(right, sizes, right_labels)
    order = np.argsort(rhs, kind="stable")
    ordered = rhs[order]
    starts = np.searchsorted(ordered, lhs, "left")
    counts = np.where(lhs >= 0, np.searchsorted(ordered, lhs, "right") - starts, 0)
    chosen = np.repeat(np.arange(len(lhs)), counts)
    nth = np.arange(len(chosen)) - np.repeat(np.cumsum(counts) - counts, counts)
    partner = order[np.repeat(starts, counts) + nth]
    return len(chosen), {**_digits(chosen, left_labels), **_digits(partner, right_labels)}


def _agreeing(
    left: Sequence[Index], right: Sequence[Index], sizes: Sequence[int], labels: Sequence[Label]
) -> tuple[int, dict[Label, np.ndarray]]:
    """`meetings` of indices that share labels: every value of all labels is tried."""
    lhs, rhs = _flat(left, sizes, labels), _flat(right, sizes, labels)
    agreed = np.flatnonzero((lhs == rhs) & (lhs >= 0))
    return len(agreed), _digits(agreed, labels)


def _labels_of(indices: Sequence[Index]) -> tuple[Label, ...]:
    """The labels of indices, each once."""
    return tuple(dict.fromkeys(label for index in indices for label in index.labels))


def _flat(indices: Sequence[Index], sizes: Sequence[int], labels: Sequence[Label]) -> np.ndarray:
    """The joint position on all axes as one number, for all label values; -1 outside of an axis."""
    total = np.zeros((1,) * len(labels), np.int64)
    inside = np.ones((1,) * len(labels), bool)
    for index, size in zip(indices, sizes, strict=True):
        values = known_values(index, labels)
        inside = inside & (values >= 0) & (values < size)
        total = total * size + values
    shape = tuple(label.size for label in labels)
    return np.broadcast_to(np.where(inside, total, -1), shape).ravel()


def _digits(flat: np.ndarray, labels: Sequence[Label]) -> dict[Label, np.ndarray]:
    """The value of each label in flat numbers over all of them."""
    shape = tuple(label.size for label in labels)
    return dict(zip(labels, np.unravel_index(flat, shape), strict=True)) if labels else {}
