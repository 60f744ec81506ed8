"""Terms that lie side by side along one axis, such as the parts of a split: joined, not added."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


def joint_axis(terms: Sequence[Term], shape: Sequence[int], kept: Sequence[int]) -> int | None:
    """The axis along which the terms are disjoint pieces; None if there is none.

    Args:
        terms: two or more.
        shape: sizes of all axes, output first.
        kept: axes with one and the same delta in every term.
    """
    others = [axis for axis in range(len(shape)) if axis not in kept]
    apart = [
        axis
        for axis in others
        if not all(term.indices[axis].is_plain(shape[axis]) for term in terms)
    ]
    if len(apart) != 1 or len(terms) < 2:
        return None
    axis = apart[0]
    for term in terms:
        labels = [label for place in others for label in term.indices[place].labels]
        deltas = [label for place in kept for label in term.indices[place].labels]
        if len(set(labels)) != len(labels) or set(labels) & set(deltas):
            return None
    spans = sorted(
        span for span in (_span(term.indices[axis], shape[axis]) for term in terms) if span
    )
    disjoint = all(one[1] <= two[0] for one, two in itertools.pairwise(spans))
    return axis if len(spans) == len(terms) and disjoint else None


def _span(index: Index, size: int) -> tuple[int, int] | None:
    """The places from a first to a last that an index runs over one by one; None if others."""
    if index.lookup is not None or any(stride != 1 for _, stride in index.strides):
        return None
    if len(index.strides) > 1 or not index.within(size):
        return None
    length = index.strides[0][0].size if index.strides else 1
    return index.offset, index.offset + length


def joined(
    terms: Sequence[Term], axis: int, target: Sequence[Label], shape: Sequence[int], dtype: Any
) -> Factor:
    """The entries of terms that are pieces along an axis, over the target labels of all axes.

    Args:
        terms: the pieces.
        axis: along which they lie.
        target: a label for each axis; axes of one delta share theirs.
        shape: sizes of all axes.
        dtype: of the result.
    """
    labels = arrays.unique([label for label in target if label.size != 1])
    backend().check_fits(labels, dtype)
    in_order = sorted(terms, key=lambda term: term.indices[axis].offset)
    values = [
        arrays.product(term.factors, term.coefficient, dtype) if term.factors else None
        for term in in_order
    ]

    def emit() -> Any:
        along = labels.index(target[axis])
        sizes = list(arrays.sizes(labels))
        parts, reached = [], 0
        for term, value in zip(in_order, values, strict=True):
            first, last = _span(term.indices[axis], shape[axis]) or (0, 0)
            parts += _gap(sizes, along, first - reached, dtype)
            sizes[along] = last - first
            parts.append(_piece(term, value, target, labels, sizes, dtype))
            reached = last
        parts += _gap(sizes, along, shape[axis] - reached, dtype)
        return jnp.concatenate(parts, along)

    return backend().factor(labels, dtype, emit)


def _gap(sizes: Sequence[int], axis: int, length: int, dtype: Any) -> list[Any]:
    """Zeros of a length along an axis, if it is not 0."""
    shape = [*sizes[:axis], length, *sizes[axis + 1 :]]
    return [jnp.zeros(shape, dtype)] if length else []


def _piece(
    term: Term,
    value: Factor | None,
    target: Sequence[Label],
    labels: Sequence[Label],
    sizes: Sequence[int],
    dtype: Any,
) -> Any:
    """The entries of one term, as an array over labels of the given sizes.

    Args:
        term: one piece.
        value: the product of its factors; None without any.
        target: a label for each axis of the result.
        labels: of the result.
        sizes: of the piece along them.
        dtype: of the result.
    """
    if value is None:
        return jnp.full(sizes, term.coefficient, dtype)
    mapping = {
        own: label
        for index, label in zip(term.indices, target, strict=True)
        for own in index.labels
    }
    carried = [mapping[label] for label in value.labels]
    order = [carried.index(label) for label in labels if label in carried]
    array = jnp.transpose(value.array, order)
    shape = [size if label in carried else 1 for label, size in zip(labels, sizes, strict=True)]
    return jnp.broadcast_to(jnp.reshape(array, shape), sizes).astype(dtype)
