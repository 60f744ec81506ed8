"""Where a block has entries: the number of places, overlaps counted once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jax.core import Tracer

from blockjac.blocks.block import Block, Term, delta_pairs
from blockjac.blocks.index import Index, Label

EXACT_PLACES = 10_000_000
"""Up to so many label values are enumerated to count a union exactly."""


def nnz(block: Block) -> int:
    """The size of the union of the terms' index images; see `Block.nnz`."""
    terms = list(block.terms)
    if not terms:
        return 0
    if len(terms) == 1 and _injective(terms[0]):
        return math.prod(label.size for label in terms[0].labels)
    # Deltas that all terms have are set aside: they multiply what the other axes hold.
    deltas = delta_pairs(block)
    multiplicity = math.prod(block.out_shape[i] for i, _ in deltas)
    rank = len(block.out_shape)
    axes = set(range(len(block.shape))).difference(*((i, rank + j) for i, j in deltas))
    counts = [_places(term, axes) for term in terms]
    rest = math.prod(size for axis, size in enumerate(block.shape) if axis in axes)
    bound = multiplicity * min(sum(counts), rest)
    if (
        sum(counts) > EXACT_PLACES
        or block.batch_shape
        or any(_is_traced(index) for term in terms for index in term.indices)
    ):
        return bound
    return multiplicity * len(
        np.unique(np.concatenate([_flat_places(block, term, sorted(axes)) for term in terms]))
    )


def _injective(term: Term) -> bool:
    """Whether each label can be read off an axis of its own and every index stays on its axis."""
    singles = {index.single[0] for index in term.indices if index.single is not None}
    return all(
        index.single is not None or index.constant for index in term.indices
    ) and singles == set(term.labels)


def _labels(term: Term, axes: Any) -> list[Label]:
    return list(dict.fromkeys(label for axis in axes for label in term.indices[axis].labels))


def _places(term: Term, axes: set[int]) -> int:
    return math.prod(label.size for label in _labels(term, axes))


def _is_traced(index: Index) -> bool:
    return index.lookup is not None and isinstance(index.lookup.array, Tracer)


def _flat_places(block: Block, term: Term, axes: list[int]) -> np.ndarray:
    """The flat positions, over the given axes, of a term's entries; those off an axis left out."""
    labels = _labels(term, axes)
    shape = tuple(label.size for label in labels)
    flat = np.zeros(shape, np.int64)
    valid = np.ones(shape, bool)
    for axis in axes:
        values = np.broadcast_to(_values(term.indices[axis], labels), shape)
        valid &= (values >= 0) & (values < block.shape[axis])
        flat = flat * block.shape[axis] + values
    return flat[valid]


def _values(index: Index, labels: list[Label]) -> np.ndarray:
    total = np.full((1,) * len(labels), index.offset, np.int64)
    for label, stride in index.strides:
        shape = tuple(label.size if other is label else 1 for other in labels)
        total = total + stride * np.arange(label.size).reshape(shape)
    if index.lookup is not None:
        lookup = index.lookup
        order = [lookup.labels.index(label) for label in labels if label in lookup.labels]
        array = np.transpose(np.asarray(lookup.array), order)
        total = total + array.reshape(
            tuple(label.size if label in lookup.labels else 1 for label in labels)
        )
    return total
