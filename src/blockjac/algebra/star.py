"""The contraction `star` and the sum of blocks: the two operations of the chain rule."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.arrays import is_known_mask
from blockjac.algebra.at_once import at_once
from blockjac.algebra.cost import count_contraction, count_edge_products, is_planning
from blockjac.algebra.entries import are_distinct
from blockjac.algebra.index_equations import Contradiction, IndexEquations, answered, follows_digit
from blockjac.algebra.listed import (
    Listing,
    count_listed,
    in_a_list,
    is_listable,
    listing,
    parts_to_list,
    running_listing,
)
from blockjac.algebra.losses import is_following, is_recording, note_excess, note_sum, term_places
from blockjac.algebra.masks import either
from blockjac.algebra.materialize import (
    Axis,
    as_dense_axes,
    labels_beside,
    materialise,
    unpaired,
    window_size,
    with_one_window,
)
from blockjac.algebra.nonzeros import NUMBERS_A_PLACE, joint_mask
from blockjac.algebra.pieces import joined, joint_axis
from blockjac.algebra.placed import parted
from blockjac.algebra.plan_cache import memoized
from blockjac.algebra.replay import replayed
from blockjac.algebra.tidy import tidy, tidy_factor
from blockjac.base.arrays import as_array
from blockjac.base.tracing import is_in_a_step
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


def star(left: Any, right: Any) -> Any:
    """The contraction of two blocks, or of a block and an array; see `blockjac.star`.

    Raises:
        BlockShapeError: if the variable in between differs; both shapes are named.
    """
    if isinstance(left, Block) and isinstance(right, Block):
        if left.wrt_shape != right.out_shape:
            raise BlockShapeError(
                "star needs left.wrt_shape == right.out_shape, but left is a block of "
                f"{left.out_shape} with respect to "
                f"{left.wrt_shape} and right one of {right.out_shape} with respect to "
                f"{right.wrt_shape}"
            )
        return _batched(_star_blocks, left, right)
    if isinstance(left, Block):
        tangent = as_array(right)
        _check_array(tangent, left.wrt_shape, "wrt_shape", left, "right")
        return at_once(_pushed, left, tangent)
    if isinstance(right, Block):
        cotangent = as_array(left)
        _check_array(cotangent, right.out_shape, "out_shape", right, "left")
        return at_once(_pulled, right, cotangent)
    raise BlockShapeError(
        f"star contracts Blocks, but found {type(left).__name__} and {type(right).__name__}; "
        "for two dense Jacobians use blockjac.chain_rule(Dg, Df, var_shape)"
    )


def _pushed(block: Block, tangent: Any) -> Any:
    return _batched(
        lambda one, array: _star_blocks(one, Block.from_dense(array, array.ndim)).dense(),
        block,
        tangent,
        len(block.wrt_shape),
    )


def _pulled(block: Block, cotangent: Any) -> Any:
    return _batched(
        lambda one, array: _star_blocks(Block.from_dense(array, 0), one).dense(),
        block,
        cotangent,
        len(block.out_shape),
    )


def star_along(left: Block, right: Block, pairs: Sequence[tuple[int, int]]) -> Block:
    """The entries of `left star right` at which pairs of an output and an input axis agree.

    They are contracted as such: what lies off these diagonals is never computed.

    Args:
        left: a Block.
        right: a Block with `out_shape == left.wrt_shape`.
        pairs: output axes of the left block with input axes of the right one, of equal sizes; each
            axis at most once.

    Returns:
        A Block of `left.out_shape` with respect to the input axes that are in no pair.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import Block
        >>> A, B = jnp.ones((2, 3)), jnp.ones((3, 2))
        >>> star_along(Block.from_dense(A, 1), Block.from_dense(B, 1), [(0, 0)]).dense()
        Array([3., 3.], dtype=float32)
    """
    kept = tuple(right.wrt_shape[axis] for axis in unpaired(right.wrt_shape, pairs))
    terms = []
    dtype = _product_dtype([left, right])
    for one in (_cast(term, dtype) for term in left.terms):
        for other in right.terms:
            term = _star_terms(one, other.relabelled(), left, right, pairs)
            if term is not None:
                terms.append(term)
    return summed(left.out_shape, kept, dtype, terms)


def chain_along(blocks: Sequence[Block], pairs: Sequence[tuple[int, int]]) -> Block:
    """The same of `blocks[0] star blocks[1] star ...`, contracted as one network.

    Which factors meet first is decided over all blocks together, so that `A B B' A'` may begin with
    `B B'`, or with factors of the ends that share a label by way of the middle.

    Args:
        blocks: at least two, each with the `wrt_shape` of the one before as its `out_shape`.
        pairs: output axes of the first block with input axes of the last, as in `star_along`.

    Returns:
        A Block of `blocks[0].out_shape` with respect to the input axes of the last that are in no
        pair.
    """
    first, *rest = blocks
    if len(rest) == 1:
        return star_along(first, rest[0], pairs)
    dtype, kept = _product_dtype([first, *rest]), unpaired(rest[-1].wrt_shape, pairs)
    wrt_shape = tuple(rest[-1].wrt_shape[axis] for axis in kept)
    terms = []
    for chosen in itertools.product(*(block.terms for block in blocks)):
        count_contraction()
        chain = [_cast(term, dtype).relabelled() for term in chosen]
        out, wrt = chain[0].out, chain[-1].wrt
        equations = IndexEquations(
            [factor for term in chain for factor in term.factors],
            [*out, *(wrt[axis] for axis in kept)],
            (*first.out_shape, *wrt_shape),
            [label for term in chain for label in term.labels],
            math.prod(term.coefficient for term in chain),
        )
        meetings = [
            meeting
            for left, right, block in zip(chain, chain[1:], rest, strict=False)
            for meeting in zip(left.wrt, right.out, block.out_shape, strict=True)
        ]
        tied = [(out[i], wrt[j], first.out_shape[i]) for i, j in pairs]
        try:
            equations.solve([*meetings, *tied])
        except Contradiction:
            continue
        term = tidy(equations.term(len(out)), first.out_shape, wrt_shape)
        if term is not None:
            terms.append(term)
    return summed(first.out_shape, wrt_shape, dtype, terms)


def _check_array(array: Any, wanted: tuple[int, ...], which: str, block: Block, side: str) -> None:
    shape = tuple(array.shape)
    if shape not in (wanted, block.batch_shape + wanted):
        raise BlockShapeError(
            f"star of a block of {block.out_shape} with respect to {block.wrt_shape} and an array "
            "needs an array of "
            f"the block's {which} {wanted} on the {side}, but found one of shape {shape}"
        )


def _batched(function: Callable[[Any, Any], Any], block: Block, other: Any, rank: int = 0) -> Any:
    """Apply a function over the batch axes that an outer `vmap` has left on the arguments.

    Args:
        function: of one block and one other block or array.
        block: the block.
        other: a block, or an array of `rank` axes without its batch axes.
        rank: as said.
    """
    depth = len(block.batch_shape)
    other_depth = len(other.batch_shape) if isinstance(other, Block) else other.ndim - rank
    for level in range(1, max(depth, other_depth) + 1):
        function = jax.vmap(
            function, in_axes=(0 if depth >= level else None, 0 if other_depth >= level else None)
        )
    return function(block, other)


def _star_blocks(left: Block, right: Block) -> Block:
    return _found(_contracted, left, right)


def _contracted(left: Block, right: Block) -> Block:
    dtype = _product_dtype([left, right])
    terms: list[Term] = []
    for one in (_cast(term, dtype) for term in left.terms):
        for other in right.terms:
            term = _straight(one, other, left.wrt_shape)
            if term is None:
                term = _star_terms(one, other.relabelled(), left, right)
            if term is not None:
                terms.append(term)
    return summed(left.out_shape, right.wrt_shape, dtype, terms)


def _straight(left: Term, right: Term, middle: Sequence[int]) -> Term | None:
    """The product of two terms each of whose axes in between is one whole label on both sides.

    Nearly all are: nothing is to be solved there, the labels on the right are those on the left.
    None for others.
    """
    if is_following():
        return None
    names: dict[Label, Label] = {}
    for one, other, size in zip(left.wrt, right.out, middle, strict=True):
        if not one.is_plain(size) or not other.is_plain(size):
            return None
        if size != 1:
            names[other.strides[0][0]] = one.strides[0][0]
    wide = sum(size != 1 for size in middle)
    if len(names) != wide or len(set(names.values())) != wide:  # a diagonal
        return None
    count_contraction()
    _count_constant(left, right)
    right = right.relabelled(names)
    factors = [*left.factors, *right.factors]
    if _brings_coefficient(right, left) and len({factor.labels for factor in factors}) == 1:
        # The side that brings a coefficient is multiplied by it: the compiler finds that product
        # again where the same block meets others.
        factors.reverse()
    return answered(
        factors,
        [*left.out, *right.wrt],
        dict.fromkeys([*left.labels, *right.labels]),
        left.coefficient * right.coefficient,
        len(left.out),
    )


def _brings_coefficient(term: Term, other: Term) -> bool:
    """Whether a product is to be multiplied by a coefficient that is one term's alone."""
    return other.coefficient in (1, -1) and term.coefficient not in (1, -1)


def _found(operation: Callable[[Block, Block], Block], left: Block, right: Block) -> Block:
    """A sum or product: of a plan, and of a program, only the first of a kind is worked out."""
    if is_following():  # what is lost is noted at each
        return operation(left, right)
    return (memoized if is_planning() else replayed)(operation, left, right)


def _product_dtype(blocks: Sequence[Block]) -> Any:
    """The dtype of a product: that of the last input, and complex where any block is."""
    dtype = blocks[-1].dtype
    is_complex = any(np.dtype(block.dtype).kind == "c" for block in blocks)
    return np.result_type(dtype, np.complex64) if is_complex else dtype


def _cast(term: Term, dtype: Any) -> Term:
    """The term with numbers of another dtype; masks stay masks."""
    if all(arrays.is_mask(factor) or factor.array.dtype == dtype for factor in term.factors):
        return term
    factors = (
        factor if arrays.is_mask(factor) else arrays.cast(factor, dtype) for factor in term.factors
    )
    return replace(term, factors=tuple(factors))


def _star_terms(
    left: Term, right: Term, one: Block, other: Block, pairs: Sequence[tuple[int, int]] = ()
) -> Term | None:
    """The product of two terms, at the entries where pairs of outer axes agree."""
    count_contraction()
    _count_constant(left, right)
    given, left = left, _prepared(left, right, one, pairs)
    labels = [*left.labels, *right.labels]
    kept = unpaired(other.wrt_shape, pairs)
    wrt_shape = tuple(other.wrt_shape[axis] for axis in kept)
    equations = IndexEquations(
        [*left.factors, *right.factors],
        [*left.out, *(right.wrt[axis] for axis in kept)],
        (*one.out_shape, *wrt_shape),
        labels,
        left.coefficient * right.coefficient,
    )
    along = [(left.out[i], right.wrt[j], one.out_shape[i]) for i, j in pairs]
    try:
        equations.solve([*zip(left.wrt, right.out, one.wrt_shape, strict=True), *along])
    except Contradiction:
        return None
    found = equations.term(len(left.out))
    if is_following():
        _note_met(found, given, right, one.wrt_shape)
    return tidy(found, one.out_shape, wrt_shape)


def _note_met(found: Term, left: Term, right: Term, sizes: Sequence[int]) -> None:
    """Note where indices met that could not be followed, as two lookups at unknown places.

    They are expected to meet as often as if their places were spread evenly over the axis.
    """
    kept = {label for index in found.indices for label in index.labels}
    stored = term_places(found)
    for one, other, size in zip(left.wrt, right.out, sizes, strict=True):
        if one.lookup is None and other.lookup is None:
            continue
        sides = [set(index.labels) for index in (one, other)]
        if other.single is not None or one.single is not None or not all(s & kept for s in sides):
            continue
        summed = arrays.numel([label for side in sides for label in side - kept])
        note_excess(stored, min(stored * summed // size, stored), UNKNOWN_PLACES, KNOW_PLACES)


UNKNOWN_PLACES = (
    "two index maps meet there of which neither can be followed (lookups at places that only the "
    "running program knows, reshapes that cut an axis at different places), and each pair of their "
    "places is compared"
)
KNOW_PLACES = (
    "let one of the index arrays be a constant of NumPy (closed over, not an argument), look up "
    "once at the composed indices, or reshape along the same boundaries"
)


def _count_constant(left: Term, right: Term) -> None:
    """In a plan: count the products of edges of which one is constant; they multiply nothing."""
    if is_planning() and not (left.factors and right.factors):
        count_edge_products(arrays.numel(arrays.union([*left.factors, *right.factors])))


def _prepared(left: Term, right: Term, block: Block, pairs: Sequence[tuple[int, int]] = ()) -> Term:
    """Make an axis of the left term dense first where a lookup or window costs more to follow.

    Following means to gather the right factors (or to compare two lookups) over the labels of the
    left index; making it dense means to add the left entries up on the axis, or, where the axis
    has labels of its own beside others, on the window that those reach. Labels of the right that
    the pairs tie to the left's are no further ones.
    """
    hard, windows = [], []
    listed = _listed_axes(left, right, block, pairs)
    tied = {label for _, axis in pairs for label in right.wrt[axis].labels}
    for axis, (index, meeting, size) in enumerate(
        zip(left.wrt, right.out, block.wrt_shape, strict=True)
    ):
        if axis in listed:
            continue
        plain = index.constant or index.single is not None
        if plain and meeting.lookup is None:
            continue
        if plain or (index.lookup is None and meeting.lookup is None and meeting.single is None):
            continue
        one = meeting.single is not None or follows_digit(index, meeting)
        if one and not any(set(meeting.labels) & set(factor.labels) for factor in right.factors):
            continue
        gathered = arrays.numel(index.labels) * (
            1 if one else arrays.numel([label for label in meeting.labels if label not in tied])
        )
        beside = labels_beside(left, axis)
        shared = arrays.numel([label for label in index.labels if label in beside])
        window = window_size(left, axis)
        if window is not None and shared * window < min(gathered, shared * size):
            windows.append(axis)
        elif shared * size <= gathered:
            hard.append(axis)
    for axis in windows:
        left = with_one_window(left, axis, block.dtype)
    return as_dense_axes(left, hard, block.wrt_shape, block.dtype) if hard else left


def _listed_axes(
    left: Term, right: Term, block: Block, pairs: Sequence[tuple[int, int]]
) -> set[int]:
    """The axes on which both terms' places are constants, if it is best to list where they meet.

    As many meetings are expected as if places were spread evenly over the axes.
    """
    if pairs:
        return set()
    axes = {
        axis: (one, other)
        for axis, (one, other) in enumerate(zip(left.wrt, right.out, strict=True))
        if is_known(one)
        and is_known(other)
        and (one.lookup is not None or other.lookup is not None)
        and (one.single is None and other.single is None)
    }
    first = {label for one, _ in axes.values() for label in one.labels}
    second = {label for _, other in axes.values() for label in other.labels}
    places = math.prod(block.wrt_shape[axis] for axis in axes)
    met = arrays.numel(list(first)) * arrays.numel(list(second)) / max(places, 1)
    return set(axes) if met <= arrays.numel(list(first)) * places else set()


# Sums


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
    return _batched(_add_blocks, left, right)


def _add_blocks(left: Block, right: Block) -> Block:
    return _found(_joined, left, right)


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
    if is_planning():
        return arrays.add(varying, varying)
    return Factor(arrays.shifted(varying.array, constant), varying.labels)


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


def in_one(block: Block, deltas: Sequence[tuple[int, int]], masked: bool = False) -> Term:
    """All terms of a block as one: the deltas that all of them have, dense along other axes.

    Args:
        block: any.
        deltas: pairs of an output and an input axis that are kept.
        masked: whether to add a mask of the places, where these are known.
    """
    rank = len(block.out_shape)
    target = [Label(size) for size in block.shape]
    for i, j in deltas:
        target[rank + j] = target[i]
    kept = [axis for i, j in deltas for axis in (i, rank + j)]
    axis = joint_axis(block.terms, block.shape, kept)
    if axis is None:
        whole, few = parted(block.terms, target)
        order = _layout(block)
        dense = [_over(term, kept, target, order, block) for term in whole]
        total = functools.reduce(arrays.add, dense)
        for _, places in few:
            total = places.added(total, block.dtype)
        total = tidy_factor(total)
    else:
        total = joined(block.terms, axis, target, block.shape, block.dtype)
    indices = [Index.of(label) for label in target]
    mask = joint_mask(block.terms, target) if masked else None
    factors = (total,) if mask is None else (total, mask)
    return Term(factors, tuple(indices[:rank]), tuple(indices[rank:]))


def _layout(block: Block) -> list[int]:
    """The axes in the order of the result; in the step of a loop as the largest factor has them.

    It need not be transposed then, at any step. Elsewhere the block is mostly the answer, which
    would have to be.
    """
    found = [(factor, term) for term in block.terms for factor in term.factors]
    if not found or not is_in_a_step():
        return list(range(len(block.shape)))
    largest, term = max(found, key=lambda pair: pair[0].numel)
    position = {label: place for place, label in enumerate(largest.labels)}

    def place(axis: int) -> tuple[int, int]:
        own = [position[label] for label in term.indices[axis].labels if label in position]
        return (min(own) if own else -1, axis)

    return sorted(range(len(block.shape)), key=place)


def _over(
    term: Term, kept: Sequence[int], target: Sequence[Label], order: Sequence[int], block: Block
) -> Factor:
    """A term's entries over the target labels: its own deltas along the kept axes, else dense.

    Args:
        term: of the block.
        kept: the axes of deltas.
        target: a label for each axis.
        order: the axes in the order of the result.
        block: the term is one of.
    """
    mapping = {term.indices[axis].labels[0]: target[axis] for axis in kept}
    axes = [
        Axis(term.indices[axis], block.shape[axis], target[axis])
        for axis in order
        if axis not in kept
    ]
    factor = materialise(term.factors, axes, list(mapping), block.dtype, term.coefficient)
    return Factor(factor.array, tuple(mapping.get(label, label) for label in factor.labels))
