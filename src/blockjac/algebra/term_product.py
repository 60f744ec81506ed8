"""The contraction of two terms, by equations between indices or dense where that is cheaper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from blockjac.algebra import arrays
from blockjac.algebra.answers import answered
from blockjac.algebra.backend import backend
from blockjac.algebra.dense_axes import (
    as_dense_axes,
    labels_beside,
    unpaired,
    window_size,
    with_one_window,
)
from blockjac.algebra.index_digits import follows_digit
from blockjac.algebra.index_equations import Contradiction, IndexEquations
from blockjac.algebra.index_solution import solve
from blockjac.algebra.losses import is_following, note_excess
from blockjac.algebra.place_counts import term_places
from blockjac.algebra.tidy import tidy
from blockjac.terms.block import Block
from blockjac.terms.index import Label
from blockjac.terms.known_indices import is_known
from blockjac.terms.term import Term


def straight(left: Term, right: Term, middle: Sequence[int]) -> Term | None:
    """The product of two terms if every axis in between is a whole label on both sides, else None.

    Nearly all terms are like this: there is nothing to solve, only labels to rename.
    """
    if is_following():
        return None
    names: dict[Label, Label] = {}
    for index, meeting, size in zip(left.wrt, right.out, middle, strict=True):
        if not index.is_plain(size) or not meeting.is_plain(size):
            return None
        if size != 1:
            names[meeting.strides[0][0]] = index.strides[0][0]
    wide = sum(size != 1 for size in middle)
    if len(names) != wide or len(set(names.values())) != wide:  # a diagonal
        return None
    backend().charge_contraction()
    count_constant(left, right)
    right = right.relabelled(names)
    factors = [*left.factors, *right.factors]
    if _brings_coefficient(right, left) and len({factor.labels for factor in factors}) == 1:
        # The side that brings a coefficient is multiplied by it: the compiler then shares that
        # product between all contractions of the same block.
        factors.reverse()
    return answered(
        factors,
        [*left.out, *right.wrt],
        dict.fromkeys([*left.labels, *right.labels]),
        left.coefficient * right.coefficient,
        len(left.out),
    )


def _brings_coefficient(term: Term, other: Term) -> bool:
    """Whether a term has a coefficient that scales a product, and the other term has none."""
    return other.coefficient in (1, -1) and term.coefficient not in (1, -1)


def cast_term(term: Term, dtype: Any) -> Term:
    """The term with numbers of another dtype; masks stay masks."""
    if all(arrays.is_mask(factor) or factor.array.dtype == dtype for factor in term.factors):
        return term
    factors = (
        factor if arrays.is_mask(factor) else arrays.cast(factor, dtype) for factor in term.factors
    )
    return replace(term, factors=tuple(factors))


def star_terms(
    left: Term,
    right: Term,
    left_block: Block,
    right_block: Block,
    pairs: Sequence[tuple[int, int]] = (),
) -> Term | None:
    """The product of two terms, at the entries where pairs of outer axes agree."""
    backend().charge_contraction()
    count_constant(left, right)
    original, left = left, prepared(left, right, left_block, pairs)
    labels = [*left.labels, *right.labels]
    kept = unpaired(right_block.wrt_shape, pairs)
    wrt_shape = tuple(right_block.wrt_shape[axis] for axis in kept)
    equations = IndexEquations(
        [*left.factors, *right.factors],
        [*left.out, *(right.wrt[axis] for axis in kept)],
        (*left_block.out_shape, *wrt_shape),
        labels,
        left.coefficient * right.coefficient,
    )
    along = [(left.out[i], right.wrt[j], left_block.out_shape[i]) for i, j in pairs]
    try:
        solve(equations, [*zip(left.wrt, right.out, left_block.wrt_shape, strict=True), *along])
    except Contradiction:
        return None
    term = equations.term(len(left.out))
    if is_following():
        _note_met(term, original, right, left_block.wrt_shape)
    return tidy(term, left_block.out_shape, wrt_shape)


def _note_met(product: Term, left: Term, right: Term, sizes: Sequence[int]) -> None:
    """Note a loss where two indices met that cannot be followed, such as two unknown lookups.

    They are expected to meet as often as if their places were spread evenly over the axis.
    """
    kept = {label for index in product.indices for label in index.labels}
    stored = term_places(product)
    for index, meeting, size in zip(left.wrt, right.out, sizes, strict=True):
        if index.lookup is None and meeting.lookup is None:
            continue
        sides = set(index.labels), set(meeting.labels)
        is_followed = index.single is not None or meeting.single is not None
        if is_followed or not all(side & kept for side in sides):
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


def count_constant(left: Term, right: Term) -> None:
    """Count the products of two edges if one is constant, so that nothing is multiplied."""
    if not (left.factors and right.factors):
        factors = [*left.factors, *right.factors]
        backend().charge_edge_products(arrays.numel(arrays.union(factors)))


def prepared(left: Term, right: Term, block: Block, pairs: Sequence[tuple[int, int]] = ()) -> Term:
    """The left term with axes made dense where a lookup or window would cost more to follow.

    Following means to gather the right factors (or to compare two lookups) over the labels of the
    left index. Making it dense means to add up the left entries on the axis, or, where the axis has
    labels of its own beside others, on the window that those reach. Labels of the right that the
    pairs tie to labels of the left do not count as further labels.
    """
    hard: list[int] = []
    windows: list[int] = []
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
        is_followed = meeting.single is not None or follows_digit(index, meeting)
        if is_followed and not any(
            set(meeting.labels) & set(factor.labels) for factor in right.factors
        ):
            continue
        gathered = arrays.numel(index.labels) * (
            1
            if is_followed
            else arrays.numel([label for label in meeting.labels if label not in tied])
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
    """The axes on which both terms look up constants, if listing where they meet is cheapest.

    They are expected to meet as often as if their places were spread evenly over the axes.
    """
    if pairs:
        return set()
    axes = {
        axis: (index, meeting)
        for axis, (index, meeting) in enumerate(zip(left.wrt, right.out, strict=True))
        if is_known(index)
        and is_known(meeting)
        and (index.lookup is not None or meeting.lookup is not None)
        and (index.single is None and meeting.single is None)
    }
    left_labels = {label for index, _ in axes.values() for label in index.labels}
    right_labels = {label for _, meeting in axes.values() for label in meeting.labels}
    places = math.prod(block.wrt_shape[axis] for axis in axes)
    entries = arrays.numel(tuple(left_labels))
    met = entries * arrays.numel(tuple(right_labels)) / max(places, 1)
    return set(axes) if met <= entries * places else set()
