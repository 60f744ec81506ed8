"""Many terms as one: a list of their entries, each place once, with lookups of the places.

Terms whose places are known while a program is traced can be joined: the entries of all of them are
one array over a single label, and a lookup on each axis gives the position of each entry. Deltas
and whole axes that all terms share stay labels of their own. Entries at the same place are added
up, so that no more numbers are stored than the Jacobian has places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.listing import Listing, renaming
from blockjac.algebra.tidy import tidy
from blockjac.terms.block import Block
from blockjac.terms.factor import Factor
from blockjac.terms.index import Label
from blockjac.terms.term import Term


def in_a_list(block: Block, listing: Listing) -> Term | None:
    """The terms of a block as one, with their entries in a list.

    Args:
        block: a block.
        listing: its `listing`.
    """
    carried = [
        label
        for label in listing.kept
        if any(label in _carried(term, listing) for term in block.terms)
    ]
    numbers, coefficient = _numbers(block, listing, carried)
    rank = len(block.out_shape)
    factors = () if numbers is None else (numbers,)
    term = Term(factors, listing.indices[:rank], listing.indices[rank:], coefficient)
    return tidy(term, block.out_shape, block.wrt_shape)


def _numbers(block: Block, listing: Listing, carried: Sequence[Label]) -> tuple[Factor | None, Any]:
    """The array of all entries (None if all are alike) and the coefficient of the term."""
    labels = (listing.label, *listing.inner, *carried)
    shape = (listing.places, *arrays.sizes(carried))
    if not any(term.factors for term in block.terms):
        return _constants(block, listing, labels)
    backend().check_fits(labels, block.dtype)
    parts = [
        _part(term, own, listing, carried, block.dtype)
        for term, own in zip(block.terms, listing.own, strict=True)
    ]
    positions = listing.positions
    repeated = len(positions) > 0 and int(np.bincount(positions).max()) > 1

    def emit() -> Any:
        """Concatenate the parts, then move or add them up where their order is not the list's."""
        entries = jnp.concatenate(parts) if len(parts) > 1 else parts[0]
        if not listing.is_permutation:
            start = jnp.zeros(shape, block.dtype).at[positions.astype(np.int32)]
            write = start.add if repeated else start.set
            entries = write(entries, mode="drop", unique_indices=not repeated)
        return jnp.reshape(entries, arrays.sizes(labels))

    added = len(positions) * arrays.numel(carried) if repeated else 0
    return backend().factor(labels, block.dtype, emit, additions=added), 1


def _constants(
    block: Block, listing: Listing, labels: Sequence[Label]
) -> tuple[Factor | None, Any]:
    """The result of `_numbers` for terms without factors, whose entries are known numbers."""
    total = np.zeros(listing.places + 1, block.dtype)
    parts = [
        np.full(arrays.numel(own), term.coefficient, block.dtype)
        for term, own in zip(block.terms, listing.own, strict=True)
    ]
    np.add.at(total, listing.positions, np.concatenate(parts))
    total = total[:-1]
    if (total == total[0]).all():
        return None, total[0].item()
    shape = arrays.sizes(labels)
    return backend().factor(labels, block.dtype, lambda: np.reshape(total, shape)), 1


def _part(
    term: Term, own: Sequence[Label], listing: Listing, carried: Sequence[Label], dtype: Any
) -> Any:
    """The entries of one term: its own labels as one axis, then the carried labels."""
    shape = (arrays.numel(own), *arrays.sizes(carried))
    if not term.factors:
        return backend().array(shape, dtype, lambda: jnp.full(shape, term.coefficient, dtype))
    mapping = renaming(term, listing)
    factors = [
        Factor(factor.array, tuple(mapping.get(label, label) for label in factor.labels))
        for factor in term.factors
    ]
    product = arrays.product(factors, term.coefficient, dtype)

    def emit() -> Any:
        order = [*own, *carried]
        array = jnp.asarray(arrays.aligned(product, order), dtype)
        return jnp.reshape(jnp.broadcast_to(array, arrays.sizes(order)), shape)

    return backend().array(shape, dtype, emit)


def _carried(term: Term, listing: Listing) -> set[Label]:
    """The labels that factors of a term carry, with those of the list for the kept axes."""
    mapping = renaming(term, listing)
    return {mapping.get(label, label) for factor in term.factors for label in factor.labels}
