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
"""How many times the places of its parts a result may be stored over without a loss."""

MOST_COUNTED = 2**20
"""Up to this many entries are counted one by one, where terms may share places."""


def places_of(block: Block | None) -> int:
    """How many entries a block has at most, by its index maps alone.

    Places that are known now and that terms share count once.
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
    """How many entries a term has at most."""
    return arrays.numel(arrays.unique([one for index in term.indices for one in index.labels]))


def is_full(block: Block) -> bool:
    """Whether a block has so many places that no structure of it can be lost."""
    return block.size <= TOLERANCE * places_of(block)


def several(shape: Sequence[int]) -> bool:
    """Whether an array of a shape has several numbers."""
    return any(size != 1 for size in shape) and 0 not in shape
