"""Sums of blocks: terms of one kind are added up; many become few where that costs less."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.arrays import is_known_mask
from blockjac.algebra.distinct import are_distinct
from blockjac.algebra.in_one import in_one
from blockjac.algebra.listed import in_a_list
from blockjac.algebra.listing import (
    Listing,
    count_listed,
    is_listable,
    listing,
    parts_to_list,
    running_listing,
)
from blockjac.algebra.losses import is_recording, note_sum
from blockjac.algebra.mask_layout import NUMBERS_A_PLACE
from blockjac.algebra.merging import merged_pair
from blockjac.algebra.two_blocks import over_batches, worked_out_once
from blockjac.errors import BlockShapeError
from blockjac.terms.block import Block, delta_pairs, leaves, rebuilt
from blockjac.terms.known_indices import is_known
from blockjac.terms.term import Term

MAX_TERMS = 16
"""From this number of terms on, each further one is counted as what it takes to contract it."""


NUMBERS_A_TERM = 256
"""What a further term of a block costs, in numbers stored: it is contracted by equations of its
own, with each term of the blocks that it meets."""


FEW_ENTRIES = 1000
"""A dense array of so many entries is not worth looking for zeros in it."""


FEWER = 4 / 3
"""By so much a dense array must exceed a list, which holds two places with each number."""


def add(left: Block, right: Block) -> Block:
    """The sum of two blocks of the same shapes, with the terms that fit each other merged.

    Raises:
        BlockShapeError: if the shapes differ; both are named.
    """
    if (left.out_shape, left.wrt_shape) != (right.out_shape, right.wrt_shape):
        raise BlockShapeError(
            f"blocks add up only with equal shapes, but found one of {left.out_shape} with "
            f"respect to {left.wrt_shape} and one of {right.out_shape} with respect to "
            f"{right.wrt_shape}"
        )
    return over_batches(_add_blocks, left, right)


def _add_blocks(left: Block, right: Block) -> Block:
    return worked_out_once(_joined, left, right)


def _joined(left: Block, right: Block) -> Block:
    dtype = np.dtype(arrays.joint_dtype([left.dtype, right.dtype]))
    return summed(left.out_shape, left.wrt_shape, dtype, [*left.terms, *right.terms])


def summed(
    out_shape: tuple[int, ...], wrt_shape: tuple[int, ...], dtype: Any, terms: Sequence[Term]
) -> Block:
    """A block of terms, merged where that stores no more than keeping them apart."""
    kept: list[Term] = []
    for term in terms:
        for place, other in enumerate(kept):
            joint = merged_pair(other, term, dtype)
            if joint is not None:
                kept[place] = joint
                break
        else:
            kept.append(term)
    kept = [term for term in kept if term.coefficient != 0]
    block = rebuilt(out_shape, wrt_shape, dtype, kept)
    if not kept:
        return block
    found = _in_fewer(block)
    if is_recording():
        note_sum(terms, found.terms, block.size, (MERGED, APART))
    return found


MERGED = "terms of different index maps are added up there and written as one dense array"


APART = (
    "add fewer terms, let index arrays be constants of NumPy, or write the sum as one operation "
    "(a product with a matrix, a convolution, a segment sum)"
)


def _in_fewer(block: Block) -> Block:
    """A block with its terms written as one, dense or in a list, where that costs less.

    What counts is the numbers stored, those that are written to get there, and for many terms what
    it takes to contract each of them.
    """
    count = len(block.terms)
    entries = math.inf
    deltas: list[tuple[int, int]] = []
    if count > 1:
        deltas = delta_pairs(block)
        entries = block.size // math.prod(block.wrt_shape[j] for _, j in deltas)
        if entries <= _numbers(block):
            places = _far_fewer(block, entries)
            if places is not None:
                return _rewritten(block, in_a_list(block, places))
            lists = _in_lists(block)
            if FEWER * _numbers(lists) <= entries:
                return lists
            return _rewritten(block, in_one(block, deltas, masked=True))
    elif not _is_listed(block.terms[0]):
        return block
    further = max(count - MAX_TERMS, 0)
    if not further and not any(map(_is_listed, block.terms)):
        return block
    apart = _numbers(block) + NUMBERS_A_TERM * further * (1 + count / MAX_TERMS)
    listed = count_listed(block)
    if listed is None:
        return _of_unknown_places(block, deltas, apart, entries) if further else block
    found = listing(block) if listed <= apart else None
    if found is None:
        lists = _in_lists(block)
        is_dense = entries < (apart if lists is block else FEWER * _numbers(lists))
        return _rewritten(block, in_one(block, deltas, masked=True)) if is_dense else lists
    multiple = arrays.numel(found.kept)
    if entries <= found.numbers * multiple:
        return _rewritten(block, in_one(block, deltas, masked=True))
    written = 0 if count == 1 or any(map(_is_listed, block.terms)) else listed
    if found.numbers + written < apart:
        return _rewritten(block, in_a_list(block, found))
    return block


def _far_fewer(block: Block, entries: float) -> Listing | None:
    """The list of the places of terms that overlap, where a dense array is not a quarter full."""
    if entries <= FEW_ENTRIES:
        return None
    found = listing(block)
    if found is None or FEWER * found.numbers * arrays.numel(found.kept) > entries:
        return None
    return found


def _in_lists(block: Block) -> Block:
    """A block of too many known places for one list with its terms listed group by group.

    What falls on one place in a group is added up, and so on while there are fewer terms by it.
    """
    if count_listed(block) is None or is_listable(block):
        return block
    terms: list[Term] = []
    for group in parts_to_list(block):
        part = _part_of(block, group)
        found = listing(part) if len(group) > 1 else None
        if found is None or found.numbers * arrays.numel(found.kept) >= _numbers(part):
            terms.extend(group)
        else:
            terms.extend(_rewritten(part, in_a_list(part, found)).terms)
    made = _part_of(block, terms)
    return _in_fewer(made) if len(terms) < len(block.terms) else block


def _numbers(block: Block) -> int:
    """How many numbers a block takes, lookups included; a mask that is known is none."""
    masks = {
        id(factor.array): factor.numel
        for term in block.terms
        for factor in term.factors
        if is_known_mask(factor)
    }
    return _held(block) - sum(masks.values())


def _held(block: Block) -> int:
    """How many numbers a block takes, those of all its lookups included."""
    return sum(math.prod(array.shape) for array, _ in leaves(block))


def compact(block: Block) -> Block:
    """A block for an answer: terms that overlap in one list, where that costs less.

    What counts is the numbers stored, and the places that masks leave empty: where these are more
    than a tenth of the others, a list is worth as many times the numbers as a place of it is.
    """
    held = _held(block)
    if not held or block.batch_shape or are_distinct([[block]]):
        return block
    found = listing(block)
    if found is None:
        return _in_lists(block)
    listed = found.numbers * arrays.numel(found.kept)
    if listed < held:
        return _rewritten(block, in_a_list(block, found))
    empty = _empty_places(block, found)
    places = found.places * arrays.numel(found.kept)
    is_far_emptier = empty > places // 10 and listed < NUMBERS_A_PLACE * held
    if is_far_emptier or listed < held + NUMBERS_A_PLACE * empty:
        return _rewritten(block, in_a_list(block, found))
    return _in_lists(block)


def _empty_places(block: Block, found: Listing) -> int:
    """How many places a block has beside those of its list: those at which all masks are False."""
    if not any(is_known_mask(factor) for term in block.terms for factor in term.factors):
        return 0
    return block.nnz - found.places * arrays.numel(found.kept)


def _is_listed(term: Term) -> bool:
    """Whether places on both sides of a term are looked up, in constants."""
    return all(is_known(index) for index in term.indices) and all(
        any(index.lookup is not None for index in side) for side in (term.out, term.wrt)
    )


def _of_unknown_places(
    block: Block, deltas: Sequence[tuple[int, int]], apart: float, entries: float
) -> Block:
    """Many terms of which some are at places that only the running program knows."""
    known = [term for term in block.terms if all(is_known(index) for index in term.indices)]
    unknown = [term for term in block.terms if term not in known]
    if len(unknown) <= MAX_TERMS and len(known) > 1:
        return _joined_parts(block, _in_fewer(_part_of(block, known)).terms, unknown)
    rest = _part_of(block, unknown)
    found = running_listing(rest)
    listed = found.numbers * arrays.numel(found.kept)
    if entries <= min(apart, listed + (_numbers(_part_of(block, known)) if known else 0)):
        return _rewritten(block, in_one(block, deltas, masked=True))
    if listed >= apart:
        return block
    list_of_unknown = in_a_list(rest, found)
    terms = _in_fewer(_part_of(block, known)).terms if known else ()
    return _joined_parts(block, terms, () if list_of_unknown is None else (list_of_unknown,))


def _part_of(block: Block, terms: Sequence[Term]) -> Block:
    """Some of the terms of a block as a block of their own."""
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)


def _joined_parts(block: Block, known: Sequence[Term], unknown: Sequence[Term]) -> Block:
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, [*known, *unknown])


def _rewritten(block: Block, term: Term | None) -> Block:
    terms = () if term is None else (term,)
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)
