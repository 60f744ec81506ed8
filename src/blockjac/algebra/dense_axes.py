"""Axes of a term written out, or replaced by one window, before it is contracted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.axis_layout import Axis
from blockjac.algebra.materialize import materialize
from blockjac.algebra.nonzeros import joint_mask
from blockjac.base.promises import is_structure_kept
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


def unpaired(wrt_shape: Sequence[int], pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The input axes that are in no pair of an output and an input axis."""
    removed = {axis for _, axis in pairs}
    return [axis for axis in range(len(wrt_shape)) if axis not in removed]


def as_dense_axes(
    term: Term, wrt_axes: Sequence[int], wrt_shape: Sequence[int], dtype: Any
) -> Term:
    """The same term with some input axes written out: each gets one plain label of its own."""
    axes = [Axis(term.wrt[axis], wrt_shape[axis], Label(wrt_shape[axis])) for axis in wrt_axes]
    rest = [index for axis, index in enumerate(term.wrt) if axis not in wrt_axes]
    kept = arrays.unique([label for index in (*term.out, *rest) for label in index.labels])
    involved = {label for axis in axes for label in axis.index.labels}
    inside = [factor for factor in term.factors if set(factor.labels) & involved]
    outside = [factor for factor in term.factors if factor not in inside]
    # A place that is known at run time only keeps all or drops all: a mask, not zeros and ones.
    is_mask = not inside and not involved and any(axis.index.lookup for axis in axes)
    written = materialize(inside, axes, kept, np.dtype(bool) if is_mask else dtype, 1)
    wrt = list(term.wrt)
    for place, axis in zip(wrt_axes, axes, strict=True):
        wrt[place] = Index.of(axis.target)
    is_one = not inside and not written.labels and all(x.index.is_plain(x.size) for x in axes)
    factors = tuple(outside) if is_one else (*outside, written)
    mask = _mask_of(inside, axes, [label for label in kept if label in involved])
    factors = factors if mask is None else (*factors, mask)
    return Term(factors, term.out, tuple(wrt), term.coefficient)


def _mask_of(
    factors: Sequence[Factor], axes: Sequence[Axis], kept: Sequence[Label]
) -> Factor | None:
    """Where axes that are written out have entries for each value of the labels that stay."""
    if not kept or not is_structure_kept():
        return None
    term = Term(tuple(factors), tuple(map(Index.of, kept)), tuple(axis.index for axis in axes), 1)
    return joint_mask([term], [*kept, *(axis.target for axis in axes)])


def window_size(term: Term, axis: int) -> int | None:
    """How many places the labels that one input axis alone carries reach, beside other labels.

    None where there are no two of them, or no other label: then there is nothing to make one.
    """
    own = _own_strides(term, axis)
    if len(own) < 2 or len(own) == len(term.wrt[axis].labels):
        return None
    reach = sum(abs(stride) * (label.size - 1) for label, stride in own)
    return reach // math.gcd(*(stride for _, stride in own)) + 1


def with_one_window(term: Term, axis: int, dtype: Any) -> Term:
    """The same term with the labels that one input axis alone carries made one label.

    Windows of windows lie at `i + j + k`: all that is known of `j` and `k` is their sum, which
    takes fewer values than they have pairs. What falls on one of them is added up.

    Args:
        term: any.
        axis: an input axis that has a `window_size`.
        dtype: of the result.
    """
    index, own = term.wrt[axis], _own_strides(term, axis)
    low = sum(min(stride * (label.size - 1), 0) for label, stride in own)
    step = math.gcd(*(stride for _, stride in own))
    others = tuple(other for place, other in enumerate(term.wrt) if place != axis)
    shared = replace(index, strides=tuple(pair for pair in index.strides if pair not in own))
    within = Index(-low // step, tuple((label, stride // step) for label, stride in own))
    apart = Term(term.factors, (*term.out, *others, shared), (within,), term.coefficient)
    size = sum(abs(stride) * (label.size - 1) for label, stride in within.strides) + 1
    written = as_dense_axes(apart, [0], (size,), dtype)
    wrt = list(term.wrt)
    strides = (*shared.strides, (written.wrt[0].labels[0], step))
    wrt[axis] = Index(index.offset + low, strides, index.lookup)
    return Term(written.factors, term.out, tuple(wrt), term.coefficient)


def labels_beside(term: Term, axis: int) -> set[Label]:
    """The labels that stand in other indices of a term than that of an input axis."""
    return {
        label
        for place, other in enumerate(term.indices)
        if place != len(term.out) + axis
        for label in other.labels
    }


def _own_strides(term: Term, axis: int) -> list[tuple[Label, int]]:
    """The labels, with strides, that stand in no other index of a term, and in no lookup."""
    index, others = term.wrt[axis], labels_beside(term, axis)
    if index.lookup is not None:
        others.update(index.lookup.labels)
    return [(label, stride) for label, stride in index.strides if label not in others]
