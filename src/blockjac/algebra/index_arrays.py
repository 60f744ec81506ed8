"""Indices as integer arrays: their values, masks made from them, and arithmetic of lookups."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.terms.factor import Factor, numel, sizes, unique
from blockjac.terms.index import Index, Label, Lookup
from blockjac.terms.known_indices import is_known, known_lookup, known_values

LARGEST_KNOWN = 2**20
"""A mask of at most this many entries is computed while tracing if its indices are constants."""


def are_known(indices: Iterable[Index], labels: Sequence[Label]) -> bool:
    """Whether indices over labels are known, with few enough joint values to compute now."""
    return numel(tuple(labels)) <= LARGEST_KNOWN and all(map(is_known, indices))


def index_values(index: Index) -> Factor:
    """The values of an index expression as an integer factor over its labels."""
    labels, dtype = index.labels, _index_dtype(index)
    shape = sizes(labels)
    return Factor(backend().array(shape, dtype, lambda: _index_array(index, dtype)), labels)


def _index_array(index: Index, dtype: Any) -> Any:
    """The values of an index expression as an array over its labels."""
    labels = index.labels
    if index.lookup is not None and is_known(index):
        return np.broadcast_to(known_values(index, labels).astype(dtype), sizes(labels))
    total: Any = jnp.asarray(index.offset, dtype)
    if index.lookup is not None:
        total = total + arrays.aligned(
            Factor(jnp.asarray(index.lookup.array, dtype), index.lookup.labels), labels
        )
    for label, stride in index.strides:
        shape = tuple(label.size if axis is label else 1 for axis in labels)
        total = total + jnp.reshape(stride * lax.iota(dtype, label.size), shape)
    return jnp.broadcast_to(total, sizes(labels))


def _index_dtype(index: Index) -> Any:
    """The integer dtype that holds all values of an index: of 32 bits where these fit."""
    bounds = index.bounds()
    if index.lookup is not None:
        return jnp.result_type(index.lookup.array.dtype, np.int32)
    if bounds is not None and max(map(abs, bounds)) >= 2**31:
        return np.dtype(np.int64)
    return np.dtype(np.int32)


def in_range(index: Index, size: int, divisor: int = 1, known: bool = False) -> Factor:
    """The mask of where `divisor` divides the expression and the quotient is in `0 .. size - 1`.

    Args:
        index: the expression.
        size: the size of the axis that the quotient indexes.
        divisor: a number other than 0.
        known: whether to compute the mask now, if possible, even without a lookup. A mask of labels
            alone costs nothing to emit, and need be known only where it is structure.
    """
    labels = index.labels
    if (known and are_known([index], labels)) or _is_made_known(labels, index):
        values = np.broadcast_to(known_values(index, labels), sizes(labels))
        return Factor(_is_in_range(values, size, divisor), labels)
    return backend().factor(
        labels, np.dtype(bool), lambda: _is_in_range(index_values(index).array, size, divisor)
    )


def _is_in_range(values: Any, size: int, divisor: int) -> Any:
    """Where the divisor divides the values with a quotient in `0 .. size - 1`."""
    allowed = (
        (values >= 0) & (values < size * abs(divisor))
        if divisor > 0
        else (values <= 0) & (values > size * divisor)
    )
    return allowed if abs(divisor) == 1 else allowed & (values % divisor == 0)


def _is_made_known(labels: Sequence[Label], *indices: Index) -> bool:
    """Whether to compute a mask now: a lookup is in it, and all of it is constant."""
    return any(index.lookup is not None for index in indices) and are_known(indices, labels)


def equal(left: Index, right: Index, size: int) -> Factor:
    """The mask of where two expressions agree on a position in `0 .. size - 1`."""
    labels = unique([*left.labels, *right.labels])
    if _is_made_known(labels, left, right):
        lhs, rhs = known_values(left, labels), known_values(right, labels)
        agree = (lhs == rhs) & (lhs >= 0) & (lhs < size)
        return Factor(np.ascontiguousarray(np.broadcast_to(agree, sizes(labels))), labels)

    def emit() -> Any:
        lhs, rhs = (arrays.aligned(index_values(index), labels) for index in (left, right))
        return (lhs == rhs) & (lhs >= 0) & (lhs < size)

    return backend().factor(labels, np.dtype(bool), emit)


def quotient(index: Index, divisor: int, bounds: tuple[int, int] | None) -> Lookup:
    """The lookup `index // divisor`, over the labels of the index."""
    if index.lookup is not None and is_known(index):
        return known_lookup(known_values(index, index.labels) // divisor, index.labels)
    return Lookup(floor_divided(index_values(index).array, divisor), index.labels, bounds)


def scaled_lookup(lookup: Lookup, stride: int) -> Lookup:
    """The lookup of values times a stride."""
    if stride == 1:
        return lookup
    if is_known(Index(0, (), lookup)):
        return known_lookup(lookup.array.astype(np.int64) * stride, lookup.labels)
    bounds = lookup.bounds
    if bounds is not None:
        ends = stride * bounds[0], stride * bounds[1]
        bounds = min(ends), max(ends)
    values = integers(lookup.array)
    array = backend().array(values.shape, values.dtype, lambda: values * stride)
    multiple = lookup.multiple * abs(stride)
    return Lookup(array, lookup.labels, bounds, multiple)


def integers(array: Any) -> Any:
    """A lookup's numbers with at least 32 bits to compute in; constants are stored in fewer."""
    dtype = np.result_type(array.dtype, np.int32)
    if array.dtype == dtype:
        return array
    return backend().array(array.shape, dtype, lambda: array.astype(dtype))


def floor_divided(array: Any, divisor: int) -> Any:
    """Integers divided by a number, rounded down."""
    return backend().array(array.shape, array.dtype, lambda: array // divisor)


def divided_lookup(lookup: Lookup, divisor: int) -> Lookup:
    """The lookup divided by a number that divides all its values."""
    if is_known(Index(0, (), lookup)):
        return known_lookup(lookup.array.astype(np.int64) // divisor, lookup.labels)
    low, high = lookup.bounds or (0, 0)
    return Lookup(
        floor_divided(integers(lookup.array), divisor),
        lookup.labels,
        None if lookup.bounds is None else (low // divisor, high // divisor),
        lookup.multiple // divisor,
    )


def summed_lookups(left: Lookup, right: Lookup) -> Lookup:
    """The sum of two lookups, over the labels of both."""
    joint = Index(0, (), left), Index(0, (), right)
    if all(map(is_known, joint)):
        labels = arrays.unique([*left.labels, *right.labels])
        return known_lookup(known_values(joint[0], labels) + known_values(joint[1], labels), labels)
    total = arrays.add(Factor(left.array, left.labels), Factor(right.array, right.labels))
    bounds = None
    if left.bounds is not None and right.bounds is not None:
        bounds = (left.bounds[0] + right.bounds[0], left.bounds[1] + right.bounds[1])
    return Lookup(total.array, total.labels, bounds, math.gcd(left.multiple, right.multiple))
