"""Deltas between digits: an output and an input axis whose positions agree in a digit.

After a reshape an axis is a mixed-radix number, and a delta may lie in one of its digits: in
`J[4 i + k, (i, k')]` the high digit of the output axis is the first input axis. A `Pair` describes
such a delta by axes, weights and size; a delta of whole axes is a pair of weights 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from blockjac.base.arrays import Shape
from blockjac.terms.block import Block
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


@dataclass(frozen=True, order=True)
class Pair:
    """`out[out_axis] // out_weight % size == wrt[wrt_axis] // wrt_weight % size`."""

    out_axis: int
    out_weight: int
    wrt_axis: int
    wrt_weight: int
    size: int

    @property
    def T(self) -> Pair:
        """The same delta of the transposed block."""
        return Pair(self.wrt_axis, self.wrt_weight, self.out_axis, self.out_weight, self.size)


Pairs = frozenset[Pair]


def block_pairs(block: Block) -> Pairs:
    """The deltas that all terms of a block have; none for a block without terms."""
    shared: Pairs | None = None
    for term in block.terms:
        pairs = term_pairs(term, block.out_shape, block.wrt_shape)
        shared = pairs if shared is None else meet(shared, pairs)
        if not shared:
            break
    return shared or frozenset()


def term_pairs(term: Term, out_shape: Shape, wrt_shape: Shape) -> Pairs:
    """The deltas of one term: labels that are digits of one output and of one input index."""
    out = _single_homes(term.out)
    wrt = _single_homes(term.wrt)
    pairs: list[Pair] = []
    for label, i in out.items():
        j = wrt.get(label)
        if i is None or j is None:
            continue
        out_weight = _weight(label, term.out[i], out_shape[i])
        wrt_weight = _weight(label, term.wrt[j], wrt_shape[j])
        if out_weight and wrt_weight:
            pairs.append(Pair(i, out_weight, j, wrt_weight, label.size))
    return _merged(pairs)


def _single_homes(indices: Sequence[Index]) -> dict[Label, int | None]:
    """The axis of each label; None for a label on several axes."""
    homes: dict[Label, int | None] = {}
    for axis, index in enumerate(indices):
        for label in index.labels:
            homes[label] = None if label in homes else axis
    return homes


def _weight(label: Label, index: Index, size: int) -> int:
    """The weight of a label as a digit, over all its range, of an index; 0 if it is not one."""
    weight = index.stride(label)
    if index.lookup is not None or weight <= 0 or size % (weight * label.size):
        return 0
    base = weight * label.size
    low = index.offset % weight
    for lower, stride in index.strides:
        if lower is label or stride % base == 0:
            continue
        if stride < 0:
            return 0
        low += stride * (lower.size - 1)
    if low >= weight or (index.offset - index.offset % weight) % base:
        return 0
    return weight if index.within(size) else 0


def meet(left: Pairs, right: Pairs) -> Pairs:
    """The deltas that both have: where two pairs overlap, their common digits."""
    if left == right:
        return left
    common = (_common(first, second) for first in left for second in right)
    return _merged(pair for pair in common if pair is not None)


def _common(left: Pair, right: Pair) -> Pair | None:
    """The delta of the digits that two pairs share, or None."""
    if (left.out_axis, left.wrt_axis) != (right.out_axis, right.wrt_axis):
        return None
    if left.out_weight * right.wrt_weight != right.out_weight * left.wrt_weight:
        return None
    low = max(left.out_weight, right.out_weight)
    high = min(left.out_weight * left.size, right.out_weight * right.size)
    if high <= low or high % low:
        return None
    if any(low % pair.out_weight or pair.out_weight * pair.size % high for pair in (left, right)):
        return None
    wrt_weight = left.wrt_weight * (low // left.out_weight)
    return Pair(left.out_axis, low, left.wrt_axis, wrt_weight, high // low)


def _merged(pairs: Iterable[Pair]) -> Pairs:
    """The pairs with adjacent digits merged, so that equal deltas are equal sets."""
    merged: list[Pair] = []
    for pair in sorted(pairs):
        last = merged[-1] if merged else None
        if (
            last is not None
            and (last.out_axis, last.wrt_axis) == (pair.out_axis, pair.wrt_axis)
            and last.out_weight * last.size == pair.out_weight
            and last.wrt_weight * last.size == pair.wrt_weight
        ):
            merged[-1] = replace(last, size=last.size * pair.size)
        else:
            merged.append(pair)
    return frozenset(merged)


@dataclass(frozen=True)
class Digit:
    """A digit of an axis: its size, and its pair, if any."""

    size: int
    pair: Pair | None


def digits_of(size: int, pairs: Iterable[tuple[int, Pair]]) -> list[Digit]:
    """An axis as digits, most significant first: those in pairs, and those in between.

    Args:
        size: the size of the axis.
        pairs: the pairs of the axis, each with its weight there.
    """
    digits: list[Digit] = []
    reached = 1
    for weight, pair in sorted(pairs, key=lambda entry: entry[0]):
        if weight != reached:
            digits.append(Digit(weight // reached, None))
        digits.append(Digit(pair.size, pair))
        reached = weight * pair.size
    if reached != size or not digits:
        digits.append(Digit(size // reached, None))
    return digits[::-1]


def numbers(digits: Sequence[Sequence[Label]]) -> tuple[Index, ...]:
    """For each axis the mixed-radix number of its digits' labels, most significant first."""
    indices: list[Index] = []
    for labels in digits:
        strides: list[tuple[Label, int]] = []
        weight = 1
        for label in reversed(labels):
            if label.size != 1:
                strides.append((label, weight))
            weight *= label.size
        indices.append(Index(0, tuple(reversed(strides))))
    return tuple(indices)


def places(pairs: Pairs) -> int:
    """The number of places of the joint delta of all pairs."""
    return math.prod(pair.size for pair in pairs)
