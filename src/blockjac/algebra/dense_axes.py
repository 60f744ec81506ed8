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
    """The input axes that no pair of an output and an input axis names."""
    removed = {axis for _, axis in pairs}
    return [axis for axis in range(len(wrt_shape)) if axis not in removed]


def as_dense_axes(
    term: Term, wrt_axes: Sequence[int], wrt_shape: Sequence[int], dtype: Any
) -> Term:
    """The same term with some input axes written out: each gets a plain label of its own."""
    axes = [Axis(term.wrt[axis], wrt_shape[axis], Label(wrt_shape[axis])) for axis in wrt_axes]
    rest = [index for axis, index in enumerate(term.wrt) if axis not in wrt_axes]
    kept = arrays.unique([label for index in (*term.out, *rest) for label in index.labels])
    involved = {label for axis in axes for label in axis.index.labels}
    inside = [factor for factor in term.factors if set(factor.labels) & involved]
    outside = [factor for factor in term.factors if factor not in inside]
    # A position known only at run time keeps all or drops all: a mask, not zeros and ones.
    is_mask = not inside and not involved and any(axis.index.lookup for axis in axes)
    written = materialize(inside, axes, kept, np.dtype(bool) if is_mask else dtype, 1)
    wrt = list(term.wrt)
    for position, axis in zip(wrt_axes, axes, strict=True):
        wrt[position] = Index.of(axis.target)
    is_one = not inside and not written.labels and all(x.index.is_plain(x.size) for x in axes)
    factors = tuple(outside) if is_one else (*outside, written)
    mask = _mask_of(inside, axes, [label for label in kept if label in involved])
    factors = factors if mask is None else (*factors, mask)
    return Term(factors, term.out, tuple(wrt), term.coefficient)


def _mask_of(
    factors: Sequence[Factor], axes: Sequence[Axis], kept: Sequence[Label]
) -> Factor | None:
    """The mask of where written-out axes have entries for each value of the kept labels."""
    if not kept or not is_structure_kept():
        return None
    term = Term(tuple(factors), tuple(map(Index.of, kept)), tuple(axis.index for axis in axes), 1)
    return joint_mask([term], [*kept, *(axis.target for axis in axes)])


def window_size(term: Term, axis: int) -> int | None:
    """The size of the window that the labels of one input axis alone span, beside other labels.

    None if there are fewer than two such labels, or no label beside them: `with_one_window` would
    gain nothing.
    """
    strides = _own_strides(term, axis)
    if len(strides) < 2 or len(strides) == len(term.wrt[axis].labels):
        return None
    reach = sum(abs(stride) * (label.size - 1) for label, stride in strides)
    return reach // math.gcd(*(stride for _, stride in strides)) + 1


def with_one_window(term: Term, axis: int, dtype: Any) -> Term:
    """The same term with the labels that occur in one input index only replaced by one label.

    A window of a window has the index `i + j + k`, in which `j` and `k` count only by their sum.
    The sum has fewer values than there are pairs; entries with the same sum are added up.

    Args:
        term: a term.
        axis: an input axis that has a `window_size`.
        dtype: the dtype of the result.
    """
    index, own = term.wrt[axis], _own_strides(term, axis)
    low = sum(min(stride * (label.size - 1), 0) for label, stride in own)
    step = math.gcd(*(stride for _, stride in own))
    others = (*term.wrt[:axis], *term.wrt[axis + 1 :])
    shared = replace(index, strides=tuple(pair for pair in index.strides if pair not in own))
    window = Index(-low // step, tuple((label, stride // step) for label, stride in own))
    separated = Term(term.factors, (*term.out, *others, shared), (window,), term.coefficient)
    size = sum(abs(stride) * (label.size - 1) for label, stride in window.strides) + 1
    written = as_dense_axes(separated, [0], (size,), dtype)
    wrt = list(term.wrt)
    strides = (*shared.strides, (written.wrt[0].labels[0], step))
    wrt[axis] = Index(index.offset + low, strides, index.lookup)
    return Term(written.factors, term.out, tuple(wrt), term.coefficient)


def labels_beside(term: Term, axis: int) -> set[Label]:
    """The labels in all indices of a term but that of one input axis."""
    return {
        label
        for position, index in enumerate(term.indices)
        if position != len(term.out) + axis
        for label in index.labels
    }


def _own_strides(term: Term, axis: int) -> list[tuple[Label, int]]:
    """The strides of an input index over labels that neither a lookup nor another index has."""
    index, others = term.wrt[axis], labels_beside(term, axis)
    if index.lookup is not None:
        others.update(index.lookup.labels)
    return [(label, stride) for label, stride in index.strides if label not in others]
