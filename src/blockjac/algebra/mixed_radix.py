"""Deltas between digits: an output and an input axis that are equal in a part of their places.

After a reshape an axis is a mixed-radix number, and a delta may lie in one of its digits: of
`J[4 i + k, (i', k')]` the high digit of the output axis is the first input axis. A `Pair` names
such a delta by axes, weights and size, so that a delta of whole axes is the pair of weights 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
        own = term_pairs(term, block.out_shape, block.wrt_shape)
        shared = own if shared is None else meet(shared, own)
        if not shared:
            break
    return shared or frozenset()


def term_pairs(term: Term, out_shape: Shape, wrt_shape: Shape) -> Pairs:
    """The deltas of one term: labels that stand in one output and one input index, as digits."""
    out = _single_homes(term.out)
    wrt = _single_homes(term.wrt)
    found = []
    for label, i in out.items():
        j = wrt.get(label)
        if i is None or j is None:
            continue
        weight = _weight(label, term.out[i], out_shape[i])
        other = _weight(label, term.wrt[j], wrt_shape[j])
        if weight and other:
            found.append(Pair(i, weight, j, other, label.size))
    return _merged(found)


def _single_homes(indices: Sequence[Index]) -> dict[Label, int | None]:
    """The axis that each label stands on; None for one that stands on several."""
    homes: dict[Label, int | None] = {}
    for axis, index in enumerate(indices):
        for label in index.labels:
            homes[label] = None if label in homes else axis
    return homes


def _weight(label: Label, index: Index, size: int) -> int:
    """The weight with which a label is a digit of an index, all of its range; 0 if it is none."""
    weight = index.stride(label)
    if index.lookup is not None or weight <= 0 or size % (weight * label.size):
        return 0
    base = weight * label.size
    low = index.offset % weight
    for other, stride in index.strides:
        if other is label or stride % base == 0:
            continue
        if stride < 0:
            return 0
        low += stride * (other.size - 1)
    if low >= weight or (index.offset - index.offset % weight) % base:
        return 0
    return weight if index.within(size) else 0


def meet(one: Pairs, other: Pairs) -> Pairs:
    """The deltas that both have: where two pairs overlap, their common digits."""
    if one == other:
        return one
    found = []
    for first in one:
        for second in other:
            common = _common(first, second)
            if common is not None:
                found.append(common)
    return _merged(found)


def _common(one: Pair, other: Pair) -> Pair | None:
    if (one.out_axis, one.wrt_axis) != (other.out_axis, other.wrt_axis):
        return None
    if one.out_weight * other.wrt_weight != other.out_weight * one.wrt_weight:
        return None
    low = max(one.out_weight, other.out_weight)
    high = min(one.out_weight * one.size, other.out_weight * other.size)
    if high <= low or high % low:
        return None
    if any(low % pair.out_weight or (pair.out_weight * pair.size) % high for pair in (one, other)):
        return None
    return Pair(
        one.out_axis,
        low,
        one.wrt_axis,
        one.wrt_weight * (low // one.out_weight),
        high // low,
    )


def _merged(pairs: Iterable[Pair]) -> Pairs:
    """Neighbouring digits as one, so that equal deltas are equal sets."""
    made: list[Pair] = []
    for pair in sorted(pairs):
        last = made[-1] if made else None
        if (
            last is not None
            and (last.out_axis, last.wrt_axis) == (pair.out_axis, pair.wrt_axis)
            and last.out_weight * last.size == pair.out_weight
            and last.wrt_weight * last.size == pair.wrt_weight
        ):
            made[-1] = Pair(
                last.out_axis,
                last.out_weight,
                last.wrt_axis,
                last.wrt_weight,
                last.size * pair.size,
            )
        else:
            made.append(pair)
    return frozenset(made)


@dataclass(frozen=True)
class Digit:
    """A digit of an axis: its size, and the pair that it is in, if any."""

    size: int
    pair: Pair | None


def digits_of(size: int, pairs: Iterable[tuple[int, Pair]]) -> list[Digit]:
    """An axis as digits, most significant first: those in pairs, and what lies between.

    Args:
        size: of the axis.
        pairs: those of the axis, each with its weight there.
    """
    digits, reached = [], 1
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
    indices = []
    for own in digits:
        strides, weight = [], 1
        for label in reversed(own):
            if label.size != 1:
                strides.append((label, weight))
            weight *= label.size
        indices.append(Index(0, tuple(reversed(strides))))
    return tuple(indices)


def places(pairs: Pairs) -> int:
    """How many places one delta of all pairs together has."""
    return math.prod(pair.size for pair in pairs)
