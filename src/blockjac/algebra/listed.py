"""Many terms as one: their entries in a list, each place once, with lookups of where they stand.

Terms whose places are known while a program is traced need not stay apart: the entries of all of
them are one array over a single label, and a lookup on each axis says where each of them stands.
Deltas and whole axes that all terms share stay labels of their own. What falls on one place is
added up, so that no more numbers are stored than the Jacobian has places.
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


def in_a_list(block: Block, found: Listing) -> Term | None:
    """The terms of a block as one, with their entries in a list.

    Args:
        block: any.
        found: its `listing`.
    """
    carried = [
        label
        for label in found.kept
        if any(
            label in _moved(factor, term, found) for term in block.terms for factor in term.factors
        )
    ]
    numbers, coefficient = _numbers(block, found, carried)
    rank = len(block.out_shape)
    factors = () if numbers is None else (numbers,)
    term = Term(factors, found.indices[:rank], found.indices[rank:], coefficient)
    return tidy(term, block.out_shape, block.wrt_shape)


def _numbers(block: Block, found: Listing, carried: Sequence[Label]) -> tuple[Factor | None, Any]:
    """The array of all entries, and what it is multiplied by; no array where all are alike."""
    labels = (found.label, *found.inner, *carried)
    shape = (found.places, *arrays.sizes(carried))
    if not any(term.factors for term in block.terms):
        return _constants(block, found, labels)
    backend().check_fits(labels, block.dtype)
    parts = [
        _part(term, own, found, carried, block.dtype)
        for term, own in zip(block.terms, found.own, strict=True)
    ]
    repeated = len(found.positions) > 0 and int(np.bincount(found.positions).max()) > 1

    def emit() -> Any:
        entries = jnp.concatenate(parts) if len(parts) > 1 else parts[0]
        if not found.is_permutation:
            start = jnp.zeros(shape, block.dtype).at[found.positions.astype(np.int32)]
            write = start.add if repeated else start.set
            entries = write(entries, mode="drop", unique_indices=not repeated)
        return jnp.reshape(entries, arrays.sizes(labels))

    added = len(found.positions) * arrays.numel(carried) if repeated else 0
    return backend().factor(labels, block.dtype, emit, additions=added), 1


def _constants(block: Block, found: Listing, labels: Sequence[Label]) -> tuple[Factor | None, Any]:
    """The same of terms without factors: numbers that are known."""
    total = np.zeros(found.places + 1, block.dtype)
    given = [
        np.full(arrays.numel(own), term.coefficient, block.dtype)
        for term, own in zip(block.terms, found.own, strict=True)
    ]
    np.add.at(total, found.positions, np.concatenate(given))
    total = total[:-1]
    if (total == total[0]).all():
        return None, total[0].item()
    shape = arrays.sizes(labels)
    return backend().factor(labels, block.dtype, lambda: np.reshape(total, shape)), 1


def _part(
    term: Term, own: Sequence[Label], found: Listing, carried: Sequence[Label], dtype: Any
) -> Any:
    """The entries of one term: its own labels as one axis, then the kept ones that are carried."""
    shape = (arrays.numel(own), *arrays.sizes(carried))
    if not term.factors:
        return backend().array(shape, dtype, lambda: jnp.full(shape, term.coefficient, dtype))
    mapping = renaming(term, found)
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


def _moved(factor: Factor, term: Term, found: Listing) -> set[Label]:
    mapping = renaming(term, found)
    return {mapping.get(label, label) for label in factor.labels}
