"""The contraction `star` and the sum of blocks: the two operations of the chain rule."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.answers import answered
from blockjac.algebra.at_once import at_once
from blockjac.algebra.backend import backend
from blockjac.algebra.index_equations import Contradiction, IndexEquations, follows_digit
from blockjac.algebra.losses import is_following, note_excess, term_places
from blockjac.algebra.materialize import (
    as_dense_axes,
    labels_beside,
    unpaired,
    window_size,
    with_one_window,
)
from blockjac.algebra.sums import summed
from blockjac.algebra.tidy import tidy
from blockjac.algebra.two_blocks import over_batches, worked_out_once
from blockjac.base.arrays import as_array
from blockjac.errors import BlockShapeError
from blockjac.terms.block import Block
from blockjac.terms.index import Label
from blockjac.terms.known_indices import is_known
from blockjac.terms.term import Term


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
        return over_batches(_star_blocks, left, right)
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
    return over_batches(
        lambda one, array: _star_blocks(one, Block.from_dense(array, array.ndim)).dense(),
        block,
        tangent,
        len(block.wrt_shape),
    )


def _pulled(block: Block, cotangent: Any) -> Any:
    return over_batches(
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
        backend().charge_contraction()
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


def _star_blocks(left: Block, right: Block) -> Block:
    return worked_out_once(_contracted, left, right)


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
    backend().charge_contraction()
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
    backend().charge_contraction()
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
    """Count the products of edges of which one is constant; they multiply nothing."""
    if not (left.factors and right.factors):
        factors = [*left.factors, *right.factors]
        backend().charge_edge_products(arrays.numel(arrays.union(factors)))


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
