"""Equations between numbers of several digits, which are cut into equations of their digits."""

from __future__ import annotations

from dataclasses import replace

from blockjac.algebra.index_arrays import (
    divided_lookup,
)
from blockjac.algebra.index_equations import IndexEquations
from blockjac.terms.index import Index, Label, collect


def cut_digits(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """Mixed-radix numbers: split the equation at a common boundary into high and low digits."""
    if not _has_digits(left, right):
        return False
    boundaries = {abs(stride) for index in (left, right) for _, stride in index.strides}
    boundaries |= {index.lookup.multiple for index in (left, right) if index.lookup is not None}
    boundaries -= {1}
    for boundary in sorted(boundaries):
        lhs, rhs = _cut(left, boundary), _cut(right, boundary)
        if lhs is None or rhs is None or (lhs.whole and rhs.whole):
            continue
        splits = {**lhs.splits, **rhs.splits}
        if splits:
            system.equations.append((left, right, size))
            for label, (high, low) in splits.items():
                system.substitute(label, Index(0, collect([(high, low.size), (low, 1)])))
            return True
        if not right.within(size):
            system.require(left, size)
        system.equations.append((lhs.low, rhs.low, boundary))
        system.equations.append((lhs.high, rhs.high, -(-size // boundary)))
        return True
    return False


def _has_digits(left: Index, right: Index) -> bool:
    """Whether neither index is constant, and one of them is a number of more than one digit."""
    counts = [len(index.strides) + (index.lookup is not None) for index in (left, right)]
    if any(index.lookup is not None and index.lookup.multiple == 1 for index in (left, right)):
        return False
    return min(counts) > 0 and max(counts) > 1


def follows_digit(index: Index, meeting: Index) -> bool:
    """Whether a lookup is a digit of its index, and the other index has one label at this digit."""
    if index.lookup is None or meeting.lookup is not None or not _has_digits(index, meeting):
        return False
    boundary = index.lookup.multiple
    cut, meeting_cut = _cut(index, boundary), _cut(meeting, boundary)
    return (
        cut is not None
        and meeting_cut is not None
        and not meeting_cut.whole
        and not meeting_cut.splits
        and meeting_cut.high.single is not None
    )


class _Cut:
    """An index written as `boundary * high + low` with `0 <= low < boundary`."""

    def __init__(self, high: Index, low: Index, splits: dict[Label, tuple[Label, Label]]) -> None:
        self.high, self.low, self.splits = high, low, splits

    @property
    def whole(self) -> bool:
        """Whether nothing was cut: one of the parts is the constant 0."""
        return (self.high.constant and self.high.offset == 0) or (
            self.low.constant and self.low.offset == 0
        )


def _cut(index: Index, boundary: int) -> _Cut | None:
    """An index cut at a boundary of digits; None where its labels do not allow that."""
    high: list[tuple[Label, int]] = []
    low: list[tuple[Label, int]] = []
    splits: dict[Label, tuple[Label, Label]] = {}
    for label, stride in index.strides:
        if stride % boundary == 0:
            high.append((label, stride // boundary))
        elif stride > 0 and stride * label.size <= boundary:
            low.append((label, stride))
        elif stride > 0 and boundary % stride == 0 and label.size % (boundary // stride) == 0:
            inner = boundary // stride
            parts = (Label(label.size // inner), Label(inner))
            splits[label] = parts
            high.append((parts[0], 1))
            low.append((parts[1], stride))
        else:
            return None
    carry, offset = divmod(index.offset, boundary)
    upper, lower = Index(carry, tuple(high)), Index(offset, tuple(low))
    if index.lookup is not None:
        if index.lookup.multiple % boundary == 0:
            upper = replace(upper, lookup=divided_lookup(index.lookup, boundary))
        else:
            lower = replace(lower, lookup=index.lookup)
    if not lower.within(boundary):
        return None
    return _Cut(upper, lower, splits)
