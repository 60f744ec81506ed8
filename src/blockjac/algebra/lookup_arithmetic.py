"""Lookups multiplied, divided and added: the arithmetic of indices that are read from arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.cost import Abstract, is_planning
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Lookup
from blockjac.terms.known_indices import (
    is_known,
    known_lookup,
    known_values,
)


def scaled_lookup(lookup: Lookup, stride: int) -> Lookup:
    """The lookup of values times a stride."""
    if stride == 1:
        return lookup
    if is_known(Index(0, (), lookup)):
        return known_lookup(lookup.array.astype(np.int64) * stride, lookup.labels)
    bounds = (
        None if lookup.bounds is None else tuple(sorted(stride * bound for bound in lookup.bounds))
    )
    array = integers(lookup.array)
    array = array if is_planning() else array * stride
    multiple = lookup.multiple * abs(stride)
    return Lookup(array, lookup.labels, bounds, multiple)  # pyright: ignore[reportArgumentType]


def integers(array: Any) -> Any:
    """A lookup's numbers in a dtype that can be computed in: constants come in smaller ones."""
    dtype = np.result_type(array.dtype, np.int32)
    if is_planning():
        return Abstract(array.shape, dtype)
    return array if array.dtype == dtype else array.astype(dtype)


def divided_lookup(lookup: Lookup, divisor: int) -> Lookup:
    """The lookup over a number that divides all its values."""
    if is_known(Index(0, (), lookup)):
        return known_lookup(lookup.array.astype(np.int64) // divisor, lookup.labels)
    low, high = lookup.bounds or (0, 0)
    return Lookup(
        integers(lookup.array) if is_planning() else integers(lookup.array) // divisor,
        lookup.labels,
        None if lookup.bounds is None else (low // divisor, high // divisor),
        lookup.multiple // divisor,
    )


def summed_lookups(one: Lookup, other: Lookup) -> Lookup:
    """The lookup of the sums of two, over the labels of both."""
    joint = Index(0, (), one), Index(0, (), other)
    if all(map(is_known, joint)):
        labels = arrays.unique([*one.labels, *other.labels])
        return known_lookup(known_values(joint[0], labels) + known_values(joint[1], labels), labels)
    total = arrays.add(Factor(one.array, one.labels), Factor(other.array, other.labels))
    bounds = None
    if one.bounds is not None and other.bounds is not None:
        bounds = (one.bounds[0] + other.bounds[0], one.bounds[1] + other.bounds[1])
    return Lookup(total.array, total.labels, bounds, math.gcd(one.multiple, other.multiple))
