"""Sums of blocks: terms of one kind are added up; many become few where that costs less."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.arrays import is_known_mask
from blockjac.algebra.backend import backend
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
from blockjac.algebra.masks import either
from blockjac.algebra.two_blocks import over_batches, worked_out_once
from blockjac.errors import BlockShapeError
from blockjac.terms.block import Block, delta_pairs, leaves, rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
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
            joint = _merged_pair(other, term, dtype)
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


def _merged_pair(one: Term, other: Term, dtype: Any) -> Term | None:
    """Two terms over the same indices as one, or None where that stores more.

    Factors that both share are pulled out.
    """
    mapping = correspondence(one.indices, other.indices)
    if mapping is None:
        return None
    renamed = [
        Factor(factor.array, tuple(mapping[label] for label in factor.labels), factor.name)
        for factor in other.factors
    ]
    rest_one, rest_other, shared = list(one.factors), list(renamed), []
    for factor in one.factors:
        twin = next(
            (
                twin
                for twin in rest_other
                if twin.array is factor.array and twin.labels == factor.labels
            ),
            None,
        )
        if twin is not None:
            shared.append(factor)
            rest_one.remove(factor)
            rest_other.remove(twin)
    if not rest_one and not rest_other:
        return Term(tuple(shared), one.out, one.wrt, one.coefficient + other.coefficient)
    entries = arrays.numel(arrays.union([*rest_one, *rest_other]))
    if entries > sum(factor.numel for factor in [*rest_one, *rest_other]):
        return None
    coefficient = one.coefficient if not rest_one or one.coefficient == other.coefficient else 1
    if not rest_one or not rest_other:
        factor = _plus_constant(rest_one or rest_other, one, other, bool(rest_one), dtype)
        return Term((*shared, factor), one.out, one.wrt, 1)
    scale = (
        (1, 1)
        if coefficient == one.coefficient == other.coefficient
        else (one.coefficient, other.coefficient)
    )
    total = arrays.add(
        arrays.product(rest_one, scale[0], dtype), arrays.product(rest_other, scale[1], dtype)
    )
    mask = either(rest_one, rest_other)
    factors = (*shared, total) if mask is None else (*shared, total, mask)
    return Term(factors, one.out, one.wrt, coefficient)


def _plus_constant(
    rest: list[Factor], one: Term, other: Term, rest_is_ones: bool, dtype: Any
) -> Factor:
    scale, constant = (
        (one.coefficient, other.coefficient)
        if rest_is_ones
        else (other.coefficient, one.coefficient)
    )
    varying = arrays.cast(arrays.product(rest, scale, dtype), dtype)
    return backend().factor(
        varying.labels,
        varying.array.dtype,
        lambda: arrays.shifted(varying.array, constant),
        [varying, varying],
        additions=varying.numel,
    )


def correspondence(one: Sequence[Index], other: Sequence[Index]) -> dict[Label, Label] | None:
    """The renaming of the other labels that makes the other indices the first ones, or None."""
    mapping: dict[Label, Label] = {}
    for mine, theirs in zip(one, other, strict=True):
        if mine.offset != theirs.offset or len(mine.strides) != len(theirs.strides):
            return None
        if (mine.lookup is None) != (theirs.lookup is None):
            return None
        pairs: list[tuple[Label, Label]] = []
        for (a, stride), (b, other_stride) in zip(
            _by_stride(mine), _by_stride(theirs), strict=True
        ):
            if stride != other_stride:
                return None
            pairs.append((a, b))
        if mine.lookup is not None and theirs.lookup is not None:
            if mine.lookup.array is not theirs.lookup.array:
                return None
            pairs += zip(mine.lookup.labels, theirs.lookup.labels, strict=True)
        for a, b in pairs:
            if a.size != b.size or mapping.setdefault(b, a) is not a:
                return None
    return mapping if len(set(mapping.values())) == len(mapping) else None


def _by_stride(index: Index) -> Sequence[tuple[Label, int]]:
    if len(index.strides) < 2:
        return index.strides
    return sorted(index.strides, key=lambda pair: pair[1])
