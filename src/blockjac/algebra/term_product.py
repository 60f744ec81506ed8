"""Two terms contracted: equations between their indices, made dense first where that is cheaper."""

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
from blockjac.algebra.index_equations import Contradiction, IndexEquations, follows_digit
from blockjac.algebra.losses import is_following, note_excess
from blockjac.algebra.place_counts import term_places
from blockjac.algebra.tidy import tidy
from blockjac.terms.block import Block
from blockjac.terms.index import Label
from blockjac.terms.known_indices import is_known
from blockjac.terms.term import Term


def straight(left: Term, right: Term, middle: Sequence[int]) -> Term | None:
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
    count_constant(left, right)
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


def cast_term(term: Term, dtype: Any) -> Term:
    """The term with numbers of another dtype; masks stay masks."""
    if all(arrays.is_mask(factor) or factor.array.dtype == dtype for factor in term.factors):
        return term
    factors = (
        factor if arrays.is_mask(factor) else arrays.cast(factor, dtype) for factor in term.factors
    )
    return replace(term, factors=tuple(factors))


def star_terms(
    left: Term, right: Term, one: Block, other: Block, pairs: Sequence[tuple[int, int]] = ()
) -> Term | None:
    """The product of two terms, at the entries where pairs of outer axes agree."""
    backend().charge_contraction()
    count_constant(left, right)
    given, left = left, prepared(left, right, one, pairs)
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


def count_constant(left: Term, right: Term) -> None:
    """Count the products of edges of which one is constant; they multiply nothing."""
    if not (left.factors and right.factors):
        factors = [*left.factors, *right.factors]
        backend().charge_edge_products(arrays.numel(arrays.union(factors)))


def prepared(left: Term, right: Term, block: Block, pairs: Sequence[tuple[int, int]] = ()) -> Term:
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
