"""The equations that a contraction solves: which label values make two indices meet on an axis.

`IndexEquations` is a term in the making: factors, the indices of the answer, and equations between
indices that still have to hold. `solve` removes the equations one by one, each by a substitution of
a label (a slice, a reshape or a gather of the factors that carry it), or, where no substitution
exists, by a factor of zeros and ones. Every step keeps `0 <= index < size of the axis`, so that no
entry outside of an axis is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blockjac.algebra import arrays, index_arrays
from blockjac.algebra.answers import answered
from blockjac.algebra.index_arrays import (
    divided_lookup,
    equal,
    in_range,
    quotient,
    scaled_lookup,
    summed_lookups,
)
from blockjac.algebra.views import View
from blockjac.base.promises import is_structure_kept
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label, Lookup, collect, radix
from blockjac.terms.known_indices import (
    composed,
    digit,
    index_along,
    is_known,
    known_lookup,
    known_values,
    meetings,
)
from blockjac.terms.term import Term


class Contradiction(Exception):
    """The equations have no solution: the term is zero."""


class IndexEquations:
    """Factors, indices of the answer and pending equations over a common set of labels."""

    def __init__(
        self,
        factors: Sequence[Factor],
        indices: Sequence[Index],
        axis_sizes: Sequence[int],
        labels: Sequence[Label],
        coefficient: Any,
    ) -> None:
        self.axis_sizes = tuple(axis_sizes)
        self.views = [View.of(factor) for factor in factors]
        self.indices = list(indices)
        self.labels = dict.fromkeys(labels)
        self.coefficient = coefficient
        self.equations: list[tuple[Index, Index, int]] = []

    # Solving

    def solve(self, equations: Sequence[tuple[Index, Index, int]]) -> None:
        """Make each pair of indices agree on its axis.

        Raises:
            Contradiction: if no label values satisfy all of them.
        """
        self.equations = list(equations)
        for number, (_, _, size) in enumerate(equations):
            for side in (0, 1):
                index = self.equations[number][:2][side]  # after the trims so far
                if index.single is not None and not index.within(size):
                    self.trim(index, size)
        while self.equations:
            self.equations.sort(key=_difficulty)
            self._solve_one(*self.equations.pop(0))

    def _solve_one(self, left: Index, right: Index, size: int) -> None:
        """Remove one equation by the first step that applies, else by a comparison."""
        if left == right:
            self.require(left, size)
            return
        for attempt in ATTEMPTS:
            if attempt(self, left, right, size):
                return
        self._compare(left, right, size)

    def _compare(self, left: Index, right: Index, size: int) -> None:
        """List where two known indices meet, along with all equations like it; else add a mask."""
        if _is_countable(left, right):
            countable = [pair for pair in self.equations if _is_countable(pair[0], pair[1])]
            self.equations = [pair for pair in self.equations if pair not in countable]
            self._meet([(left, right, size), *countable])
            return
        self.views.append(View.of(equal(left, right, size)))

    def _meet(self, equations: Sequence[tuple[Index, Index, int]]) -> None:
        """Replace the labels of known indices by one label over all places where they meet."""
        count, values_of = meetings(*map(list, zip(*equations, strict=True)))
        if not count:
            raise Contradiction
        joint = Label(count)
        for label, values in values_of.items():
            self.substitute(label, index_along(values, joint))

    def require(self, index: Index, size: int) -> None:
        """Keep only label values for which the index lies on the axis.

        An index of a single label has been trimmed already; any other takes a mask if it may leave
        the axis.
        """
        if index.constant and not index.within(size):
            raise Contradiction
        if not index.within(size):
            self.mask(index, size)

    def mask(self, index: Index, size: int, divisor: int = 1) -> None:
        """Keep, by a mask, the label values for which the quotient of an index lies on an axis."""
        mask = in_range(index, size, divisor, self._is_structure(index))
        self.views.append(View.of(mask))

    def _is_structure(self, index: Index, is_placed: bool = False) -> bool:
        """Whether an index is known and placed, so that a mask of it tells places of the answer."""
        return (
            is_structure_kept()
            and is_known(index)
            and (is_placed or any(map(self.is_placed, index.labels)))
        )

    def trim(self, index: Index, size: int) -> None:
        """Restrict the one label of an index to the values for which the index lies on the axis."""
        if index.single is None:
            raise TypeError("only an index of one label can be trimmed")
        label, stride = index.single
        first, last = _values_within(index.offset, stride, label.size, size)
        if last < first:
            raise Contradiction
        self.substitute(label, Index.of(Label(last - first + 1), 1, first))

    # Substitution

    def fix(self, label: Label, value: int) -> None:
        """Give a label a constant value."""
        if not 0 <= value < label.size:
            raise Contradiction
        self.substitute(label, Index(value))

    def substitute(self, label: Label, value: Index) -> None:
        """Replace a label everywhere by an expression whose values keep its range or are masked."""
        self.labels.pop(label, None)
        for new in value.labels:
            self.labels.setdefault(new)
        lookups: dict[int, Lookup] = {}

        def replaced(index: Index) -> Index:
            return _index_substituted(index, label, value, lookups)

        self.views = [
            View(view.array, tuple(map(replaced, view.axes)), view.name) for view in self.views
        ]
        self.indices = [replaced(index) for index in self.indices]
        self.equations = [
            (replaced(left), replaced(right), size) for left, right, size in self.equations
        ]

    def solve_for(self, label: Label, value: Index) -> None:
        """Replace a label by an expression; values out of the label's range are not entries."""
        if value.constant:
            self.fix(label, value.offset)
            return
        if value.single is not None and not value.within(label.size):
            kept = value.single[0]
            first, last = _values_within(value.offset, value.single[1], kept.size, label.size)
            if last < first:
                raise Contradiction
            fresh = Index.of(Label(last - first + 1), 1, first)
            self.substitute(kept, fresh)
            value = _index_substituted(value, kept, fresh, {})
        is_masked = not value.within(label.size) and not self._guards(label, value)
        self.substitute(label, value)
        if is_masked:
            self.mask(value, label.size)

    def _guards(self, label: Label, value: Index) -> bool:
        """Whether a value outside the label's range counts for nothing anyway.

        It does if an axis of the answer is the label, since positions off the axis are not entries,
        and if a factor has the label as an axis, which reads 0 there. Places that are known and
        stay in the answer are masked all the same: a 0 that is read is an entry like any other.
        """
        if any(
            index.is_plain(size) and index.labels == (label,)
            for index, size in zip(self.indices, self.axis_sizes, strict=True)
        ):
            return True
        is_structure = self._is_structure(value, self.is_placed(label))
        return not is_structure and any(view.guards(label) for view in self.views)

    def is_digit(self, label: Label) -> bool:
        """Whether a label is beside others in an index of the answer or of an equation."""
        return any(label in index.labels and len(index.labels) > 1 for index in self._pending())

    def is_placed(self, label: Label) -> bool:
        """Whether a label is in an index of the answer or of an equation."""
        return any(label in index.labels for index in self._pending())

    def _pending(self) -> list[Index]:
        """The indices of the answer and those of the equations still to be solved."""
        sides = [side for left, right, _ in self.equations for side in (left, right)]
        return [*self.indices, *sides]

    # The answer

    def term(self, out_axes: int) -> Term:
        """The term, with the labels that no index carries summed."""
        factors = [view.read() for view in self.views]
        return answered(factors, self.indices, self.labels, self.coefficient, out_axes)


# Steps of the solver: each returns whether it has dealt with the equation


def _constants(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """The sides differ by a constant, or one side is constant."""
    if left.lookup is None and right.lookup is None:
        difference = collect(
            [*left.strides, *((label, -stride) for label, stride in right.strides)]
        )
        if not difference:
            if left.offset != right.offset:
                raise Contradiction
            system.require(left, size)
            return True
    for constant, index in ((left, right), (right, left)):
        if constant.constant:
            if not 0 <= constant.offset < size:
                raise Contradiction
            if index.single is not None:
                label, stride = index.single
                value, rest = divmod(constant.offset - index.offset, stride)
                if rest:
                    raise Contradiction
                system.fix(label, value)
                return True
    return False


def _singles(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """`a + s*l == b + t*m`, a linear Diophantine equation; l and m may be one label."""
    if left.single is None or right.single is None:
        return False
    (first, s), (second, t) = left.single, right.single
    if first is second:
        value, rest = divmod(right.offset - left.offset, s - t)
        if rest or not 0 <= left.offset + s * value < size:
            raise Contradiction
        system.fix(first, value)
        return True
    if (left.offset, s, first.size) == (right.offset, t, second.size) and left.within(size):
        system.substitute(second, Index.of(first))  # a renaming
        return True
    low = max(0, min(left.offset, left.offset + s * (first.size - 1)))
    low = max(low, min(right.offset, right.offset + t * (second.size - 1)))
    high = min(size - 1, max(left.offset, left.offset + s * (first.size - 1)))
    high = min(high, max(right.offset, right.offset + t * (second.size - 1)))
    common = math.gcd(s, t)
    if (right.offset - left.offset) % common:
        raise Contradiction
    step = abs(s * t) // common
    # The smallest position on the axis that both sides reach, then every `step`-th one.
    start = next(
        (
            x
            for x in range(low, low + step)
            if (x - left.offset) % s == 0 and (x - right.offset) % t == 0
        ),
        None,
    )
    if start is None or start > high:
        raise Contradiction
    joint = Label((high - start) // step + 1)
    system.substitute(first, Index.of(joint, step // s, (start - left.offset) // s))
    system.substitute(second, Index.of(joint, step // t, (start - right.offset) // t))
    return True


def _digits(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
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


def _substitution(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """A label of stride 1 or -1 on one side only is solved for: it is the rest of the equation."""
    solutions: list[tuple[int, Label, Index]] = []
    for side, opposite in ((left, right), (right, left)):
        lookup = side.lookup
        for label, stride in side.strides:
            if label in opposite.labels or (lookup is not None and label in lookup.labels):
                continue
            value = _difference(opposite, side.without(label), stride)
            if value is not None:
                # Alone on its side a label costs no window; prefer it, then the largest label.
                rank = (0 if side.single is not None else 1) * 2**62 - label.size
                solutions.append((rank, label, value))
    if not solutions:
        return False
    _, label, value = min(solutions, key=lambda solution: solution[0])
    if len(value.labels) > 1 and system.is_placed(label):
        # Replacing a placed label puts all labels of its value into the answer, though some might
        # be summed, and hides digits unless it is one itself: prefer a window of a factor.
        is_digit = system.is_digit(label)
        least = label.size if is_digit else label.size / 2
        free = [
            (rank, candidate, rest)
            for rank, candidate, rest in solutions
            if candidate.size >= least
            and not system.is_placed(candidate)
            and (is_digit or not all(map(system.is_placed, rest.labels)))
        ]
        _, label, value = min(free, key=lambda solution: solution[0], default=(0, label, value))
    if left.single is None and right.single is None and not right.within(size):
        system.require(left, size)
    system.solve_for(label, value)
    return True


def _difference(index: Index, rest: Index, stride: int) -> Index | None:
    """`(index - rest) / stride` as an index, or None where it cannot be written as one."""
    if rest.lookup is not None and index.lookup is not None:
        return None
    if abs(stride) != 1:
        return None
    strides = collect([*index.strides, *((label, -step) for label, step in rest.strides)])
    lookup, sign = (index.lookup, 1) if rest.lookup is None else (rest.lookup, -1)
    lookup = scaled_lookup(lookup, sign * stride) if lookup is not None else None
    return Index(
        (index.offset - rest.offset) * stride,
        tuple((label, step * stride) for label, step in strides),
        lookup,
    )


def _flattening(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """Two complete mixed radices that do not refine each other become lookups of one flat label."""
    lhs, rhs = radix(left), radix(right)
    if lhs is None or rhs is None or len(lhs) == 1 or len(rhs) == 1 or set(lhs) & set(rhs):
        return False
    flat = Label(min(arrays.numel(lhs), arrays.numel(rhs), size))
    for digits in (lhs, rhs):
        weight = 1
        for label in reversed(digits):
            system.substitute(label, digit(flat, weight, label.size))
            weight *= label.size
    return True


def _known_digits(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """A complete mixed radix equal to a known lookup: each of its digits becomes a lookup."""
    for index, number in ((left, right), (right, left)):
        digits, labels = radix(number), index.labels
        if index.lookup is None or not is_known(index) or digits is None or len(digits) == 1:
            continue
        if set(digits) & set(labels) or arrays.numel(labels) > index_arrays.LARGEST_KNOWN:
            continue
        limit = min(arrays.numel(digits), size)
        if not index.within(limit):
            system.views.append(View.of(in_range(index, limit)))
        values = np.broadcast_to(known_values(index, labels), arrays.sizes(labels))
        values, weight = np.clip(values, 0, limit - 1), 1
        for label in reversed(digits):
            lookup = known_lookup(values // weight % label.size, labels)
            system.substitute(label, Index(0, (), lookup))
            weight *= label.size
        return True
    return False


def _division(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """Solve for a label of any stride by an integer division, masked to where it is exact."""
    for index, rest in ((left, right), (right, left)):
        for label, stride in index.strides:
            if label in rest.labels or index.lookup is not None:
                continue
            value = _difference(rest, index.without(label), 1)
            if value is None:
                continue
            system.require(index, size)
            system.substitute(label, Index(0, (), quotient(value, stride, None)))
            system.mask(value, label.size, stride)
            return True
    return False


ATTEMPTS = (_constants, _singles, _digits, _flattening, _known_digits, _substitution, _division)


# Helpers of substitution


def _values_within(offset: int, stride: int, count: int, size: int) -> tuple[int, int]:
    """First and last label value for which `offset + stride * value` lies in `0 .. size - 1`."""
    if stride > 0:
        first, last = -(offset // stride), (size - 1 - offset) // stride
    else:
        first, last = -((size - 1 - offset) // -stride), offset // -stride
    return max(first, 0), min(last, count - 1)


def _index_substituted(
    index: Index, label: Label, value: Index, lookups: dict[int, Lookup]
) -> Index:
    """An index with a label replaced; equal lookups stay one object through `lookups`."""
    if label not in index.labels:
        return index
    lookup = index.lookup
    if lookup is not None and label in lookup.labels:
        if id(lookup) not in lookups and is_known(index) and is_known(value):
            lookups[id(lookup)] = composed(lookup, label, value)
        if id(lookup) not in lookups:
            axes = tuple(value if axis is label else Index.of(axis) for axis in lookup.labels)
            factor = View(lookup.array, axes).read()
            lookups[id(lookup)] = replace(
                lookup,
                array=factor.array,
                labels=factor.labels,
                bounds=lookup.bounds if value.within(label.size) else None,
            )
        lookup = lookups[id(lookup)]
    stride = index.stride(label)
    if not stride:
        return _plus(Index(index.offset, index.strides), lookup)
    kept = index.without(label).strides
    strides = collect([*kept, *((new, stride * step) for new, step in value.strides)])
    affine = Index(index.offset + stride * value.offset, strides)
    if value.lookup is None:
        return _plus(affine, lookup)
    scaled = scaled_lookup(value.lookup, stride)
    return _plus(affine, scaled if lookup is None else summed_lookups(lookup, scaled))


def _plus(index: Index, lookup: Lookup | None) -> Index:
    """An affine index plus a lookup, which is added to the offset if it is a known scalar."""
    if lookup is None:
        return index
    if not lookup.labels and is_known(Index(0, (), lookup)):
        return index.shifted(int(lookup.array))
    return Index(index.offset, index.strides, lookup)


def _difficulty(equation: tuple[Index, Index, int]) -> int:
    """The sort key of an equation; easy ones first, since they fix labels of the harder ones."""
    left, right, _ = equation
    if left.constant or right.constant:
        return 0
    if left.single is not None and right.single is not None:
        return 1
    if left.lookup is None and right.lookup is None:
        return 2
    return 4 if _is_countable(left, right) else 3


def _is_countable(left: Index, right: Index) -> bool:
    """Whether two indices are known lookups without a label that can be solved for.

    Then the places where they meet are listed, once everything that can be solved is. This takes
    time in proportion to the places of both sides; comparing them takes that of all their pairs.
    """
    return all(not index.strides and is_known(index) for index in (left, right))
