"""Terms whose factors are known to be zero in places: what is left of them, in the cheapest form.

Where the zeros of a factor are constants of the program, a term need not run over them. It becomes
one or more terms over the other places: runs of diagonals, which need no lookup, and a list with a
lookup on each axis for the rest; a factor whose labels are joint digits, as in a Kronecker product
with an identity, is split into them first. Where writing it dense stores fewer numbers, the term
stays dense, with a mask of the places, which the answer may still make a list of.
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
"""Patterns of more entries than this are not put together from those of terms."""


def without_zeros(block: Block, place: int, may: np.ndarray) -> Block:
    """A block of one term without the places where one of its factors is known to be zero.

    Args:
        block: of one term.
        place: of the factor.
        may: where the factor may hold another number than zero, over its labels.
    """
    return only_at(block, Factor(may, block.terms[0].factors[place].labels))


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
    """A block whose terms run over the places that their known masks leave, where that is best.

    Args:
        block: any.
        numbers_a_place: what a place costs beside the numbers that are stored; `NUMBERS_A_PLACE`
            where the block becomes a sparse matrix.
    """
    terms: list[Term] = []
    for term in block.terms:
        masks = [factor for factor in term.factors if is_known_mask(factor)]
        if not masks:
            terms.append(term)
            continue
        labels = arrays.unique([label for mask in masks for label in mask.labels])
        may = np.ones(arrays.sizes(labels), bool)
        for mask in masks:
            may = may & known_entries(mask.array, mask.labels, labels)
        times = max(arrays.numel(term.labels) // max(may.size, 1), 1)
        chosen = layout(may, is_answer=True, times=times)
        kept = replace(term, factors=tuple(one for one in term.factors if one not in masks))
        if not _is_worth(chosen, kept, Factor(may, labels), numbers_a_place):
            terms.append(term)
            continue
        terms.extend(_written(block, kept, Factor(may, labels), chosen))
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)


def _is_worth(chosen: Layout, term: Term, mask: Factor, numbers_a_place: float) -> bool:
    """Whether a term costs less over the places of a layout than masked.

    A factor that shares labels with the mask is stored once for each place, which may be far more
    numbers: those of a vector become those of a triangle.
    """
    if chosen.pieces is None:
        return False
    count, told = int(np.sum(mask.array)), set(mask.labels)
    places = arrays.numel(term.labels)
    masked = mask.numel + numbers_a_place * places
    listed = numbers_a_place * places * count / max(mask.numel, 1) + chosen.lookups
    for factor in term.factors:
        masked += factor.numel
        others = arrays.numel([label for label in factor.labels if label not in told])
        listed += factor.numel if told.isdisjoint(factor.labels) else count * others
    return listed <= masked


def _tells_places(term: Term) -> bool:
    """Whether a term has been cut to places that are known: by a mask, or in a list."""
    return any(map(is_known_mask, term.factors)) or all(
        any(index.lookup is not None for index in side) for side in (term.out, term.wrt)
    )


def entry_places(term: Term, sizes: Sequence[int]) -> list[np.ndarray] | None:
    """Where a term has entries, as far as masks and the ends of the axes tell.

    Args:
        term: any.
        sizes: of its axes.

    Returns:
        For each axis the place of each entry; None where places are not known, or too many.
    """
    labels = term.labels
    shape = arrays.sizes(labels)
    if math.prod(shape) > LARGEST or not all(map(is_known, term.indices)):
        return None
    inside = np.ones(shape, bool)
    for factor in term.factors:
        if is_known_mask(factor):
            inside &= known_entries(factor.array, factor.labels, labels)
    found = [np.broadcast_to(known_values(index, labels), shape) for index in term.indices]
    for values, size in zip(found, sizes, strict=True):
        inside &= (values >= 0) & (values < size)
    return [values[inside] for values in found]


def joint_mask(terms: Sequence[Term], target: Sequence[Label]) -> Factor | None:
    """Where terms have entries that are added up in one dense array, if that is known.

    Args:
        terms: with equally many indices.
        target: the label of the array that each of their axes is.

    Returns:
        A mask over the labels of the target; None where it is not known or not worth to know.
    """
    labels = arrays.unique(target)
    is_told = is_structure_kept() or any(map(_tells_places, terms))
    if not backend().knows_places or not is_told or arrays.numel(labels) > LARGEST:
        return None
    may = np.zeros(arrays.sizes(labels), bool)
    for term in terms:
        found = entry_places(term, arrays.sizes(target))
        if found is None:
            return None
        places: dict[Label, np.ndarray] = {}
        for label, values in zip(target, found, strict=True):
            places.setdefault(label, values)
        may[tuple(places[label] for label in labels)] = True
    chosen = tuple(label for label in labels if label.size != 1)
    may = may.reshape(arrays.sizes(chosen))
    return Factor(may, chosen) if layout(may, is_answer=True).pieces is not None else None


def _written(block: Block, term: Term, factor: Factor, chosen: Layout) -> list[Term]:
    """The terms of a layout, of a term with the labels of a factor."""
    rank = len(block.out_shape)
    digits: list[Label] = []
    numbers: dict[Label, Index] = {}
    for label, sizes in zip(factor.labels, chosen.split, strict=True):
        own = [label] if len(sizes) == 1 else [Label(size) for size in sizes]
        digits.extend(own)
        if len(own) > 1:
            numbers[label] = Index(
                0, tuple((one, _weight(own, one)) for one in own if one.size > 1)
            )
    found: list[Term] = []
    for piece in chosen.pieces or ():
        along = Label(piece.shape[1])
        system = IndexEquations(
            term.factors, term.indices, block.shape, [*term.labels], term.coefficient
        )
        for label, number in numbers.items():
            system.substitute(label, number)
        for axis, values in zip(chosen.axes, piece, strict=True):
            system.substitute(digits[axis], index_along(values, along))
        made = tidy(system.term(rank), block.out_shape, block.wrt_shape)
        if made is not None:
            found.append(made.relabelled())
    return found


def _weight(digits: Sequence[Label], digit: Label) -> int:
    after = itertools.dropwhile(lambda one: one is not digit, digits)
    return math.prod(one.size for one in list(after)[1:])


def pattern_over(may: Any, factor: Factor) -> np.ndarray | None:
    """A pattern with the axes of a factor, which leaves out those of size 1."""
    sizes = arrays.sizes(factor.labels)
    squeezed = tuple(size for size in np.shape(may) if size != 1)
    return np.reshape(may, sizes) if squeezed == sizes else None
