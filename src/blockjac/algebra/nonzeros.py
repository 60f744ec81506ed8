"""Terms whose factors are known to be zero in places, written over the other places.

If the zeros of a factor are constants of the program, a term need not run over them. It becomes one
or more terms over the other places: runs of diagonals, which need no lookup, and a list with a
lookup on each axis for the rest; a factor whose labels are joint digits, as in a Kronecker product
with an identity, is split into them first. If a dense array stores fewer numbers, the term stays
dense, with a mask of the places, from which the answer may still make a list.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.arrays import is_known_mask
from blockjac.algebra.backend import backend
from blockjac.algebra.index_equations import IndexEquations
from blockjac.algebra.mask_layout import Layout, layout
from blockjac.algebra.tidy import tidy
from blockjac.base.promises import is_structure_kept
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.known_indices import index_along, is_known, known_entries, known_values
from blockjac.terms.term import Term

LARGEST = 2**20
"""Patterns of more entries than this are not computed from those of terms."""


def without_zeros(block: Block, position: int, may: np.ndarray) -> Block:
    """A block of one term without the places where one of its factors is known to be zero.

    Args:
        block: a block of one term.
        position: the position of the factor in the term.
        may: where the factor may be nonzero, over its labels.
    """
    return only_at(block, Factor(may, block.terms[0].factors[position].labels))


def only_at(block: Block, mask: Factor) -> Block:
    """A block of one term without the places where a mask over some of its labels is False."""
    (term,) = block.terms
    may = mask.array
    chosen = layout(may)
    if chosen.pieces is not None:
        return rebuilt(
            block.out_shape, block.wrt_shape, block.dtype, _written(block, term, mask, chosen)
        )
    times = max(arrays.numel(term.labels) // max(may.size, 1), 1)
    if layout(may, is_answer=True, times=times).pieces is None:
        return block
    return rebuilt(
        block.out_shape,
        block.wrt_shape,
        block.dtype,
        [replace(term, factors=(*term.factors, mask))],
    )


def without_masks(block: Block, numbers_a_place: float = 1) -> Block:
    """A block whose terms run over the places that their known masks leave, if that is cheaper.

    Args:
        block: a block.
        numbers_a_place: the cost of a place besides the numbers stored; `NUMBERS_A_PLACE` if the
            block becomes a sparse matrix.
    """
    terms: list[Term] = []
    for term in block.terms:
        masks = [factor for factor in term.factors if is_known_mask(factor)]
        if not masks:
            terms.append(term)
            continue
        labels = arrays.unique([label for mask in masks for label in mask.labels])
        mask = arrays.known_product(masks, labels)
        times = max(arrays.numel(term.labels) // max(mask.numel, 1), 1)
        chosen = layout(mask.array, is_answer=True, times=times)
        unmasked = tuple(factor for factor in term.factors if factor not in masks)
        kept = replace(term, factors=unmasked)
        if _is_worth(chosen, kept, mask, numbers_a_place):
            terms.extend(_written(block, kept, mask, chosen))
        else:
            terms.append(term)
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)


def _is_worth(chosen: Layout, term: Term, mask: Factor, numbers_a_place: float) -> bool:
    """Whether a term costs less over the places of a layout than with its mask.

    A factor that shares labels with the mask is stored once for each place, which may take far more
    numbers: a vector may become a triangle.
    """
    if chosen.pieces is None:
        return False
    count, masked_labels = int(np.sum(mask.array)), set(mask.labels)
    places = arrays.numel(term.labels)
    masked = mask.numel + numbers_a_place * places
    listed = numbers_a_place * places * count / max(mask.numel, 1) + chosen.lookups
    for factor in term.factors:
        masked += factor.numel
        rest = arrays.numel([label for label in factor.labels if label not in masked_labels])
        listed += factor.numel if masked_labels.isdisjoint(factor.labels) else count * rest
    return listed <= masked


def _tells_places(term: Term) -> bool:
    """Whether a term is restricted to known places: by a mask, or as a list."""
    return any(map(is_known_mask, term.factors)) or all(
        any(index.lookup is not None for index in side) for side in (term.out, term.wrt)
    )


def entry_places(term: Term, sizes: Sequence[int]) -> list[np.ndarray] | None:
    """Where a term has entries, as far as masks and the ends of the axes determine.

    Args:
        term: a term.
        sizes: the sizes of its axes.

    Returns:
        For each axis the position of each entry; None if places are not known, or too many.
    """
    labels = term.labels
    shape = arrays.sizes(labels)
    if math.prod(shape) > LARGEST or not all(map(is_known, term.indices)):
        return None
    inside = np.ones(shape, bool)
    for factor in term.factors:
        if is_known_mask(factor):
            inside &= known_entries(factor.array, factor.labels, labels)
    positions = [np.broadcast_to(known_values(index, labels), shape) for index in term.indices]
    for values, size in zip(positions, sizes, strict=True):
        inside &= (values >= 0) & (values < size)
    return [values[inside] for values in positions]


def joint_mask(terms: Sequence[Term], target: Sequence[Label]) -> Factor | None:
    """Where terms that are added up in one dense array have entries, if that is known.

    Args:
        terms: terms with the same number of indices.
        target: for each axis of the terms its label in the array.

    Returns:
        A mask over the labels of the target; None if it is unknown or not worthwhile.
    """
    labels = arrays.unique(target)
    is_wanted = is_structure_kept() or any(map(_tells_places, terms))
    if not backend().knows_places or not is_wanted or arrays.numel(labels) > LARGEST:
        return None
    may = np.zeros(arrays.sizes(labels), bool)
    for term in terms:
        positions = entry_places(term, arrays.sizes(target))
        if positions is None:
            return None
        values_of: dict[Label, np.ndarray] = {}
        for label, values in zip(target, positions, strict=True):
            values_of.setdefault(label, values)
        may[tuple(values_of[label] for label in labels)] = True
    chosen = tuple(label for label in labels if label.size != 1)
    may = may.reshape(arrays.sizes(chosen))
    return Factor(may, chosen) if layout(may, is_answer=True).pieces is not None else None


def _written(block: Block, term: Term, factor: Factor, chosen: Layout) -> list[Term]:
    """The terms of a layout: a term restricted to each piece, over the labels of a factor."""
    rank = len(block.out_shape)
    digits: list[Label] = []
    numbers: dict[Label, Index] = {}
    for label, sizes in zip(factor.labels, chosen.split, strict=True):
        parts = [label] if len(sizes) == 1 else [Label(size) for size in sizes]
        digits.extend(parts)
        if len(parts) > 1:
            strides = ((digit, _weight(parts, digit)) for digit in parts if digit.size > 1)
            numbers[label] = Index(0, tuple(strides))
    terms: list[Term] = []
    for piece in chosen.pieces or ():
        along = Label(piece.shape[1])
        system = IndexEquations(
            term.factors, term.indices, block.shape, [*term.labels], term.coefficient
        )
        for label, number in numbers.items():
            system.substitute(label, number)
        for axis, values in zip(chosen.axes, piece, strict=True):
            system.substitute(digits[axis], index_along(values, along))
        restricted = tidy(system.term(rank), block.out_shape, block.wrt_shape)
        if restricted is not None:
            terms.append(restricted.relabelled())
    return terms


def _weight(digits: Sequence[Label], digit: Label) -> int:
    lower = itertools.islice(itertools.dropwhile(lambda label: label is not digit, digits), 1, None)
    return math.prod(label.size for label in lower)


def pattern_over(may: Any, factor: Factor) -> np.ndarray | None:
    """A pattern with the axes of a factor, which has none of size 1; None if it does not fit."""
    sizes = arrays.sizes(factor.labels)
    squeezed = tuple(size for size in np.shape(may) if size != 1)
    return np.reshape(may, sizes) if squeezed == sizes else None
