"""Normalize terms: no labels of size 1, and no terms without an entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from blockjac.algebra.arrays import is_mask, product, reshaped
from blockjac.algebra.index_equations import Contradiction, IndexEquations
from blockjac.base.arrays import Shape
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.factor import Factor, sizes
from blockjac.terms.index import Index, Lookup, collect
from blockjac.terms.known_indices import is_known
from blockjac.terms.term import Term


def tidy(term: Term, out_shape: Shape, wrt_shape: Shape) -> Term | None:
    """A term without labels of size 1, or None if it has no entry at all."""
    if isinstance(term.coefficient, int | float | complex) and term.coefficient == 0:
        return None
    labels = term.labels
    if any(label.size == 0 for label in labels):
        return None
    lookups: dict[int, Lookup] = {}
    indices = tuple(_tidy_index(index, lookups) for index in term.indices)
    for index, size in zip(indices, out_shape + wrt_shape, strict=True):
        bounds = index.bounds()
        if size == 0 or (bounds is not None and (bounds[1] < 0 or bounds[0] >= size)):
            return None
    out, wrt = indices[: len(out_shape)], indices[len(out_shape) :]
    factors = term.factors
    if any(
        index.single is not None and not index.within(size)
        for index, size in zip(indices, out_shape + wrt_shape, strict=True)
    ):
        return trimmed(Term(factors, out, wrt, term.coefficient), out_shape, wrt_shape)
    if any(label.size == 1 for factor in factors for label in factor.labels):
        factors = tuple(map(tidy_factor, factors))
    return Term(factors, out, wrt, term.coefficient)


def trimmed(term: Term, out_shape: Sequence[int], wrt_shape: Sequence[int]) -> Term | None:
    """A term with each single-label index trimmed to its axis; None if it has no entry."""
    equations = IndexEquations(
        term.factors, term.indices, (*out_shape, *wrt_shape), term.labels, term.coefficient
    )
    for axis, size in enumerate((*out_shape, *wrt_shape)):
        index = equations.indices[axis]
        if index.single is not None and not index.within(size):
            try:
                equations.trim(index, size)
            except Contradiction:
                return None
    return tidy(equations.term(len(term.out)), tuple(out_shape), tuple(wrt_shape))


def _tidy_index(index: Index, lookups: dict[int, Lookup]) -> Index:
    """An index without labels of size 1; equal lookups stay one object through `lookups`."""
    if all(label.size != 1 for label in index.labels):
        return index
    lookup = index.lookup
    if lookup is not None and any(label.size == 1 for label in lookup.labels):
        if id(lookup) not in lookups:
            labels = tuple(label for label in lookup.labels if label.size != 1)
            array = lookup.array
            array = np.reshape(array, sizes(labels)) if is_known(index) else reshaped(array, labels)
            lookups[id(lookup)] = replace(lookup, array=array, labels=labels)
        lookup = lookups[id(lookup)]
        if not lookup.labels and is_known(index):
            return Index(index.offset + int(lookup.array), collect(index.strides))
    return Index(index.offset, collect(index.strides), lookup)


def tidy_factor(factor: Factor) -> Factor:
    """A factor without labels of size 1, which no index has."""
    labels = tuple(label for label in factor.labels if label.size != 1)
    if len(labels) == len(factor.labels):
        return factor
    return Factor(reshaped(factor.array, labels), labels, factor.name)


def multiplied_out(block: Block) -> Block:
    """The block with each term's factors multiplied into its largest one where that has the labels.

    It stores no more numbers, and a product that many contractions read is computed only once.
    """
    terms = [_multiplied_out(term) for term in block.terms]
    if all(new is old for new, old in zip(terms, block.terms, strict=True)):
        return block
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)


def _multiplied_out(term: Term) -> Term:
    """The term with its numbers over labels of the largest factor multiplied into that factor."""
    numbers = [factor for factor in term.factors if not is_mask(factor)]
    if len(numbers) < 2:
        return term
    largest = max(numbers, key=lambda factor: factor.numel)
    within = [factor for factor in numbers if set(factor.labels) <= set(largest.labels)]
    if len(within) < 2:
        return term
    joint = product(within, order=largest.labels)
    others = [factor for factor in term.factors if all(factor is not part for part in within)]
    return replace(term, factors=(joint, *others))
