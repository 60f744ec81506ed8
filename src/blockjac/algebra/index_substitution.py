"""Indices in which a label is replaced by an expression."""

from __future__ import annotations

from dataclasses import replace

from blockjac.algebra.index_arrays import (
    scaled_lookup,
    summed_lookups,
)
from blockjac.algebra.views import View
from blockjac.terms.index import Index, Label, Lookup, collect
from blockjac.terms.known_indices import (
    composed,
    is_known,
)


def values_within(offset: int, stride: int, count: int, size: int) -> tuple[int, int]:
    """First and last label value for which `offset + stride * value` lies in `0 .. size - 1`."""
    if stride > 0:
        first, last = -(offset // stride), (size - 1 - offset) // stride
    else:
        first, last = -((size - 1 - offset) // -stride), offset // -stride
    return max(first, 0), min(last, count - 1)


def index_substituted(
    index: Index, label: Label, value: Index, lookups: dict[int, Lookup]
) -> Index:
    """An index with a label replaced; equal lookups stay one object through `lookups`."""
    if label not in index.labels:
        return index
    lookup = index.lookup
    if lookup is not None and label in lookup.labels:
        if id(lookup) not in lookups and is_known(index) and is_known(value):
            lookups[id(lookup)] = composed(lookup, label, value)
        if id(lookup) not in lookups:
            axes = tuple(value if axis is label else Index.of(axis) for axis in lookup.labels)
            factor = View(lookup.array, axes).read()
            lookups[id(lookup)] = replace(
                lookup,
                array=factor.array,
                labels=factor.labels,
                bounds=lookup.bounds if value.within(label.size) else None,
            )
        lookup = lookups[id(lookup)]
    stride = index.stride(label)
    if not stride:
        return _plus(Index(index.offset, index.strides), lookup)
    kept = index.without(label).strides
    strides = collect([*kept, *((new, stride * step) for new, step in value.strides)])
    affine = Index(index.offset + stride * value.offset, strides)
    if value.lookup is None:
        return _plus(affine, lookup)
    scaled = scaled_lookup(value.lookup, stride)
    return _plus(affine, scaled if lookup is None else summed_lookups(lookup, scaled))


def _plus(index: Index, lookup: Lookup | None) -> Index:
    """An affine index plus a lookup, which is added to the offset if it is a known scalar."""
    if lookup is None:
        return index
    if not lookup.labels and is_known(Index(0, (), lookup)):
        return index.shifted(int(lookup.array))
    return Index(index.offset, index.strides, lookup)
