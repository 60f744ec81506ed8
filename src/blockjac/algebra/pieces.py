"""Terms side by side along one axis, such as the parts of a split, joined instead of added."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


def joint_axis(terms: Sequence[Term], shape: Sequence[int], kept: Sequence[int]) -> int | None:
    """The axis along which the terms are disjoint pieces, or None.

    Args:
        terms: the terms of a block.
        shape: the sizes of all axes, output first.
        kept: the axes with the same delta in every term.
    """
    others = [axis for axis in range(len(shape)) if axis not in kept]
    differing = [
        axis
        for axis in others
        if not all(term.indices[axis].is_plain(shape[axis]) for term in terms)
    ]
    if len(differing) != 1 or len(terms) < 2:
        return None
    axis = differing[0]
    for term in terms:
        labels = [label for free in others for label in term.indices[free].labels]
        deltas = [label for tied in kept for label in term.indices[tied].labels]
        if len(set(labels)) != len(labels) or set(labels) & set(deltas):
            return None
    spans = sorted(
        span for span in (_span(term.indices[axis], shape[axis]) for term in terms) if span
    )
    disjoint = all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    return axis if len(spans) == len(terms) and disjoint else None


def _span(index: Index, size: int) -> tuple[int, int] | None:
    """The range `(start, end)` that an index runs over one by one, or None."""
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
        axis: the axis along which they lie.
        target: a label for each axis; the axes of a delta share theirs.
        shape: the sizes of all axes.
        dtype: the dtype of the result.
    """
    labels = arrays.unique([label for label in target if label.size != 1])
    backend().check_fits(labels, dtype)
    in_order = sorted(terms, key=lambda term: term.indices[axis].offset)
    values = [
        arrays.product(term.factors, term.coefficient, dtype) if term.factors else None
        for term in in_order
    ]

    def emit() -> jax.Array:
        """Concatenate the pieces, with zeros in the gaps."""
        along = labels.index(target[axis])
        sizes = list(arrays.sizes(labels))
        parts: list[jax.Array] = []
        reached = 0
        for term, value in zip(in_order, values, strict=True):
            start, end = _span(term.indices[axis], shape[axis]) or (0, 0)
            parts += _gap(sizes, along, start - reached, dtype)
            sizes[along] = end - start
            parts.append(_piece(term, value, target, labels, sizes, dtype))
            reached = end
        parts += _gap(sizes, along, shape[axis] - reached, dtype)
        return jnp.concatenate(parts, along)

    return backend().factor(labels, dtype, emit)


def _gap(sizes: Sequence[int], axis: int, length: int, dtype: Any) -> list[jax.Array]:
    """An array of zeros of some length along an axis; none of length 0."""
    shape = [*sizes[:axis], length, *sizes[axis + 1 :]]
    return [jnp.zeros(shape, dtype)] if length else []


def _piece(
    term: Term,
    value: Factor | None,
    target: Sequence[Label],
    labels: Sequence[Label],
    sizes: Sequence[int],
    dtype: Any,
) -> jax.Array:
    """The entries of one term as an array over labels, with the sizes of the piece.

    Args:
        term: a piece.
        value: the product of its factors; None without factors.
        target: a label for each axis of the result.
        labels: the labels of the result.
        sizes: the sizes of the piece along these labels.
        dtype: the dtype of the result.
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
