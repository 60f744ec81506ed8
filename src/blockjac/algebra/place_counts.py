"""How many places a block has: the entries that its index maps reach, at most."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.distinct import are_distinct
from blockjac.algebra.entries import pieces, places
from blockjac.terms.block import Block
from blockjac.terms.known_indices import is_known
from blockjac.terms.term import Term

TOLERANCE = 2
"""A result may store this many times the places of its parts before that counts as a loss."""

MOST_COUNTED = 2**20
"""Up to this many entries are counted one by one, in case terms share places."""


def places_of(block: Block | None) -> int:
    """The entries that a block has at most, by its index maps alone.

    Known places that several terms share count once.
    """
    if block is None:
        return 0
    counted = sum(map(term_places, block.terms))
    known = all(is_known(index) for term in block.terms for index in term.indices)
    if not known or counted > MOST_COUNTED or are_distinct([[block]]):
        return min(counted, block.size)
    columns = math.prod(block.wrt_shape)
    flat = [
        where.rows * columns + where.columns
        if where.inside is None
        else (where.rows * columns + where.columns)[where.inside]
        for where in map(places, pieces([[block]]))
    ]
    return len(np.unique(np.concatenate(flat))) if flat else 0


def term_places(term: Term) -> int:
    """The entries that a term has at most."""
    labels = arrays.unique([label for index in term.indices for label in index.labels])
    return arrays.numel(labels)


def is_full(block: Block) -> bool:
    """Whether a block has so large a part of all places that it has no structure to lose."""
    return block.size <= TOLERANCE * places_of(block)


def several(shape: Sequence[int]) -> bool:
    """Whether an array of this shape holds more than one number."""
    return any(size != 1 for size in shape) and 0 not in shape
