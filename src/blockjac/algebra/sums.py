"""Sums of blocks: like terms are added up, and many terms become few if that costs less."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

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

Key = TypeVar("Key")

MAX_TERMS = 16
"""Terms beyond this number each count with the cost of contracting them."""

NUMBERS_A_TERM = 256
"""The cost of a further term, in stored numbers: it is contracted by equations of its own with each
term of the blocks that it meets."""

FEW_ENTRIES = 1000
"""Dense arrays of at most this many entries are not searched for zeros."""

FEWER = 4 / 3
"""A dense array with less than this many times the numbers of a list is preferred to it."""


def add(left: Block, right: Block) -> Block:
    """The sum of two blocks of the same shapes, with like terms merged.

    Raises:
        BlockShapeError: if the shapes differ; names both.
    """
    if (left.out_shape, left.wrt_shape) != (right.out_shape, right.wrt_shape):
        raise BlockShapeError(
            f"blocks add up only with equal shapes, but found one of {left.out_shape} with "
            f"respect to {left.wrt_shape} and one of {right.out_shape} with respect to "
            f"{right.wrt_shape}"
        )
    return over_batches(_add_blocks, left, right)


def add_at(blocks: dict[Key, Block], key: Key, block: Block) -> None:
    """Add a block to the one that a key has, if it has one."""
    before = blocks.get(key)
    blocks[key] = block if before is None else add(before, block)


def _add_blocks(left: Block, right: Block) -> Block:
    return worked_out_once(_joined, left, right)


def _joined(left: Block, right: Block) -> Block:
    dtype = np.dtype(arrays.joint_dtype([left.dtype, right.dtype]))
    return summed(left.out_shape, left.wrt_shape, dtype, [*left.terms, *right.terms])


def summed(
    out_shape: tuple[int, ...], wrt_shape: tuple[int, ...], dtype: Any, terms: Sequence[Term]
) -> Block:
    """A block of terms, merged where that stores no more than separate terms do."""
    kept: list[Term] = []
    for term in terms:
        for position, earlier in enumerate(kept):
            joint = merged_pair(earlier, term, dtype)
            if joint is not None:
                kept[position] = joint
                break
        else:
            kept.append(term)
    kept = [term for term in kept if term.coefficient != 0]
    block = rebuilt(out_shape, wrt_shape, dtype, kept)
    if not kept:
        return block
    rewritten = _in_fewer(block)
    if is_recording():
        note_sum(terms, rewritten.terms, block.size, (MERGED, APART))
    return rewritten


MERGED = "terms of different index maps are added up there and written as one dense array"


APART = (
    "add fewer terms, let index arrays be constants of NumPy, or write the sum as one operation "
    "(a product with a matrix, a convolution, a segment sum)"
)


def _in_fewer(block: Block) -> Block:
    """A block with its terms written as one, dense or in a list, if that costs less.

    The cost is the numbers stored, those written on the way, and for many terms that of contracting
    each of them.
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
    separate = _numbers(block) + NUMBERS_A_TERM * further * (1 + count / MAX_TERMS)
    listed = count_listed(block)
    if listed is None:
        return _of_unknown_places(block, deltas, separate, entries) if further else block
    places = listing(block) if listed <= separate else None
    if places is None:
        lists = _in_lists(block)
        is_dense = entries < (separate if lists is block else FEWER * _numbers(lists))
        return _rewritten(block, in_one(block, deltas, masked=True)) if is_dense else lists
    if entries <= places.numbers * arrays.numel(places.kept):
        return _rewritten(block, in_one(block, deltas, masked=True))
    written = 0 if count == 1 or any(map(_is_listed, block.terms)) else listed
    if places.numbers + written < separate:
        return _rewritten(block, in_a_list(block, places))
    return block


def _far_fewer(block: Block, entries: float) -> Listing | None:
    """The list of a block's places if a dense array of `entries` would be far larger; else None."""
    if entries <= FEW_ENTRIES:
        return None
    places = listing(block, most=entries / FEWER)
    if places is None or FEWER * places.numbers * arrays.numel(places.kept) > entries:
        return None
    return places


def _in_lists(block: Block) -> Block:
    """A block with too many known places for one list, its terms listed group by group.

    Entries of a group at the same place are added up; this repeats while it leaves fewer terms.
    """
    if count_listed(block) is None or is_listable(block):
        return block
    terms: list[Term] = []
    for group in parts_to_list(block):
        part = _part_of(block, group)
        places = listing(part) if len(group) > 1 else None
        if places is None or places.numbers * arrays.numel(places.kept) >= _numbers(part):
            terms.extend(group)
        else:
            terms.extend(_rewritten(part, in_a_list(part, places)).terms)
    return _in_fewer(_part_of(block, terms)) if len(terms) < len(block.terms) else block


def _numbers(block: Block) -> int:
    """The numbers that a block holds, lookups included; known masks do not count."""
    masks = {
        id(factor.array): factor.numel
        for term in block.terms
        for factor in term.factors
        if is_known_mask(factor)
    }
    return _held(block) - sum(masks.values())


def _held(block: Block) -> int:
    """The numbers that a block holds, including lookups and masks."""
    return sum(math.prod(array.shape) for array, _ in leaves(block))


def compact(block: Block) -> Block:
    """A block for an answer: overlapping terms become one list if that costs less.

    The cost is the numbers stored and the places that masks leave empty. If those are more than a
    tenth of the others, a list may take up to `NUMBERS_A_PLACE` times the numbers.
    """
    held = _held(block)
    if not held or block.batch_shape or are_distinct([[block]]):
        return block
    places = listing(block)
    if places is None:
        return _in_lists(block)
    listed = places.numbers * arrays.numel(places.kept)
    if listed < held:
        return _rewritten(block, in_a_list(block, places))
    empty = _empty_places(block, places)
    filled = places.places * arrays.numel(places.kept)
    is_far_emptier = empty > filled // 10 and listed < NUMBERS_A_PLACE * held
    if is_far_emptier or listed < held + NUMBERS_A_PLACE * empty:
        return _rewritten(block, in_a_list(block, places))
    return _in_lists(block)


def _empty_places(block: Block, places: Listing) -> int:
    """The number of a block's places that its list leaves out, since all masks are False there."""
    if not any(is_known_mask(factor) for term in block.terms for factor in term.factors):
        return 0
    return block.nnz - places.places * arrays.numel(places.kept)


def _is_listed(term: Term) -> bool:
    """Whether a term looks up its places on both sides, all in constants."""
    return all(is_known(index) for index in term.indices) and all(
        any(index.lookup is not None for index in side) for side in (term.out, term.wrt)
    )


def _of_unknown_places(
    block: Block, deltas: Sequence[tuple[int, int]], separate: float, entries: float
) -> Block:
    """A block in fewer terms, of which some are at places that only the running program knows."""
    known = [term for term in block.terms if all(is_known(index) for index in term.indices)]
    unknown = [term for term in block.terms if term not in known]
    if len(unknown) <= MAX_TERMS and len(known) > 1:
        return _part_of(block, [*_in_fewer(_part_of(block, known)).terms, *unknown])
    rest = _part_of(block, unknown)
    places = running_listing(rest)
    listed = places.numbers * arrays.numel(places.kept)
    if entries <= min(separate, listed + (_numbers(_part_of(block, known)) if known else 0)):
        return _rewritten(block, in_one(block, deltas, masked=True))
    if listed >= separate:
        return block
    list_of_unknown = in_a_list(rest, places)
    terms = _in_fewer(_part_of(block, known)).terms if known else ()
    return _part_of(block, terms if list_of_unknown is None else (*terms, list_of_unknown))


def _part_of(block: Block, terms: Sequence[Term]) -> Block:
    """A block of the same shapes with other terms."""
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)


def _rewritten(block: Block, term: Term | None) -> Block:
    return _part_of(block, () if term is None else (term,))
