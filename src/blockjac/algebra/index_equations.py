"""The system that a contraction solves: which labels must agree for two indices to meet on an axis.

A `Network` is a term in the making: factors, the indices of the answer, and equations between
indices that still have to hold. `solve` removes the equations one by one, each by a substitution of
a label (a slice, a reshape or a gather of the factors that carry it), or, where no substitution
exists, by a factor of zeros and ones. Every step keeps `0 <= index < size of the axis`, so that no
entry is counted that lies outside.
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
    """Factors, output indices and pending equations over a common set of labels."""

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
            Contradiction: if no label values satisfy them.
        """
        self.equations = list(equations)
        for place, (_, _, size) in enumerate(equations):
            for side in (0, 1):
                index = self.equations[place][:2][side]  # as the trims before have left it
                if index.single is not None and not index.within(size):
                    self.trim(index, size)
        while self.equations:
            self.equations.sort(key=_difficulty)
            self._solve_one(*self.equations.pop(0))

    def _solve_one(self, left: Index, right: Index, size: int) -> None:
        if left == right:
            self._require(left, size)
            return
        for attempt in ATTEMPTS:
            if attempt(self, left, right, size):
                return
        self._compare(left, right, size)

    def _compare(self, left: Index, right: Index, size: int) -> None:
        if _is_countable(left, right):
            together = [one for one in self.equations if _is_countable(one[0], one[1])]
            self.equations = [one for one in self.equations if one not in together]
            self._meet([(left, right, size), *together])
            return
        self.views.append(View.of(equal(left, right, size)))

    def _meet(self, equations: Sequence[tuple[Index, Index, int]]) -> None:
        """Replace the labels of indices that are known by one label over all places of meeting."""
        count, found = meetings(*map(list, zip(*equations, strict=True)))
        if not count:
            raise Contradiction
        joint = Label(count)
        for label, values in found.items():
            self.substitute(label, index_along(values, joint))

    def _require(self, index: Index, size: int) -> None:
        """Keep only label values for which the index lies on the axis.

        A single label has been trimmed before, so that this is a factor of zeros and ones or
        nothing.
        """
        if index.constant and not index.within(size):
            raise Contradiction
        if not index.within(size):
            self.mask(index, size)

    def mask(self, index: Index, size: int, divisor: int = 1) -> None:
        """Keep, by a factor, the label values for which an index's quotient lies on an axis."""
        mask = in_range(index, size, divisor, self._is_structure(index))
        self.views.append(View.of(mask))

    def _is_structure(self, index: Index, is_placed: bool = False) -> bool:
        """Whether an index is known and stays: where it lies says which places the answer has."""
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
        """Replace a label by an expression that may leave its range; what leaves it is no entry."""
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

        It does where an axis of the answer is the label, since a place off the axis is no entry,
        and where a factor has the label as an axis, which reads 0 there. Places that are known and
        stay in the answer are left out all the same: a 0 that is read is an entry like any other.
        """
        if any(
            index.is_plain(size) and index.labels == (label,)
            for index, size in zip(self.indices, self.axis_sizes, strict=True)
        ):
            return True
        is_structure = self._is_structure(value, self.is_placed(label))
        return not is_structure and any(view.guards(label) for view in self.views)

    def is_digit(self, label: Label) -> bool:
        """Whether a label stands beside others in an index of the answer, or of an equation."""
        return any(label in index.labels and len(index.labels) > 1 for index in self._pending())

    def is_placed(self, label: Label) -> bool:
        """Whether a label stands in an index of the answer, or of an equation."""
        return any(label in index.labels for index in self._pending())

    def _pending(self) -> list[Index]:
        sides = [side for left, right, _ in self.equations for side in (left, right)]
        return [*self.indices, *sides]

    # The answer

    def term(self, out_axes: int) -> Term:
        """Sum the labels that no index carries and return the term."""
        factors = [view.read() for view in self.views]
        return answered(factors, self.indices, self.labels, self.coefficient, out_axes)


# Steps of the solver: each returns whether it has dealt with the equation.


def _constants(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """Both sides differ by a constant, or one side is one."""
    if left.lookup is None and right.lookup is None:
        difference = collect(
            [*left.strides, *((label, -stride) for label, stride in right.strides)]
        )
        if not difference:
            if left.offset != right.offset:
                raise Contradiction
            system._require(left, size)
            return True
    for one, other in ((left, right), (right, left)):
        if one.constant:
            if not 0 <= one.offset < size:
                raise Contradiction
            if other.single is not None:
                label, stride = other.single
                value, rest = divmod(one.offset - other.offset, stride)
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
    # The smallest place on the axis that both sides reach, then every `step`-th one.
    place = next(
        (
            x
            for x in range(low, low + step)
            if (x - left.offset) % s == 0 and (x - right.offset) % t == 0
        ),
        None,
    )
    if place is None or place > high:
        raise Contradiction
    count = (high - place) // step + 1
    joint = Label(count)
    system.substitute(first, Index.of(joint, step // s, (place - left.offset) // s))
    system.substitute(second, Index.of(joint, step // t, (place - right.offset) // t))
    return True


def _digits(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """Mixed-radix numbers: split the equation at a common boundary into high and low digits."""
    if not _has_digits(left, right):
        return False
    boundaries = {abs(stride) for index in (left, right) for _, stride in index.strides}
    boundaries |= {index.lookup.multiple for index in (left, right) if index.lookup is not None}
    boundaries -= {1}
    for boundary in sorted(boundaries):
        one, other = _cut(left, boundary), _cut(right, boundary)
        if one is None or other is None or (one.whole and other.whole):
            continue
        splits = {**one.splits, **other.splits}
        if splits:
            system.equations.append((left, right, size))
            for label, (high, low) in splits.items():
                system.substitute(label, Index(0, collect([(high, low.size), (low, 1)])))
            return True
        if not right.within(size):
            system._require(left, size)
        system.equations.append((one.low, other.low, boundary))
        system.equations.append((one.high, other.high, -(-size // boundary)))
        return True
    return False


def _has_digits(left: Index, right: Index) -> bool:
    """Whether both indices have parts, and one of them several: a number of more than one digit."""
    counts = [len(one.strides) + (one.lookup is not None) for one in (left, right)]
    if any(one.lookup is not None and one.lookup.multiple == 1 for one in (left, right)):
        return False
    return min(counts) > 0 and max(counts) > 1


def follows_digit(index: Index, meeting: Index) -> bool:
    """Whether a lookup is a digit of its index, and the other index has one label at this digit."""
    if index.lookup is None or meeting.lookup is not None or not _has_digits(index, meeting):
        return False
    one, other = (_cut(each, index.lookup.multiple) for each in (index, meeting))
    return (
        one is not None
        and other is not None
        and not other.whole
        and not other.splits
        and other.high.single is not None
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
    """One label stands alone with stride 1 or -1: it is the rest of the equation."""
    found: list[tuple[int, Label, Index]] = []
    for one, other in ((left, right), (right, left)):
        for label, stride in one.strides:
            alone = one.single is not None
            if label in other.labels or (one.lookup is not None and label in one.lookup.labels):
                continue
            value = _difference(other, one.without(label), stride)
            if value is not None:
                # Alone on its side it costs no window; prefer it, then the largest label.
                found.append(((0 if alone else 1) * 2**62 - label.size, label, value))
    if not found:
        return False
    _, label, value = min(found, key=lambda entry: entry[0])
    if len(value.labels) > 1 and system.is_placed(label):
        # What is no digit itself would hide the other digits, and what stands for labels that could
        # be summed keeps them all in the answer: rather a window of some factor.
        is_digit = system.is_digit(label)
        least = label.size if is_digit else label.size / 2
        free = [
            (rank, other, rest)
            for rank, other, rest in found
            if other.size >= least
            and not system.is_placed(other)
            and (is_digit or not all(map(system.is_placed, rest.labels)))
        ]
        _, label, value = min(free, key=lambda entry: entry[0], default=(0, label, value))
    if left.single is None and right.single is None and not right.within(size):
        system._require(left, size)
    system.solve_for(label, value)
    return True


def _difference(index: Index, rest: Index, stride: int) -> Index | None:
    """`(index - rest) / stride` as an expression, or None where it is not one."""
    if rest.lookup is not None and index.lookup is not None:
        return None
    if abs(stride) != 1:
        return None
    strides = collect([*index.strides, *((label, -other) for label, other in rest.strides)])
    lookup, sign = (index.lookup, 1) if rest.lookup is None else (rest.lookup, -1)
    lookup = scaled_lookup(lookup, sign * stride) if lookup is not None else None
    return Index(
        (index.offset - rest.offset) * stride,
        tuple((label, other * stride) for label, other in strides),
        lookup,
    )


def _flattening(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """Two complete mixed radices that do not refine each other become lookups of one flat label."""
    one, other = radix(left), radix(right)
    if one is None or other is None or len(one) == 1 or len(other) == 1 or set(one) & set(other):
        return False
    flat = Label(min(arrays.numel(one), arrays.numel(other), size))
    for digits in (one, other):
        weight = 1
        for label in reversed(digits):
            system.substitute(label, digit(flat, weight, label.size))
            weight *= label.size
    return True


def _known_digits(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """A complete mixed radix at places that are known: each of its digits is a lookup."""
    for one, other in ((left, right), (right, left)):
        digits, labels = radix(other), one.labels
        if one.lookup is None or not is_known(one) or digits is None or len(digits) == 1:
            continue
        if set(digits) & set(labels) or arrays.numel(labels) > index_arrays.LARGEST_KNOWN:
            continue
        limit = min(arrays.numel(digits), size)
        if not one.within(limit):
            system.views.append(View.of(in_range(one, limit)))
        values = np.broadcast_to(known_values(one, labels), arrays.sizes(labels))
        values, weight = np.clip(values, 0, limit - 1), 1
        for label in reversed(digits):
            places = known_lookup(values // weight % label.size, labels)
            system.substitute(label, Index(0, (), places))
            weight *= label.size
        return True
    return False


def _division(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """Strided labels against anything: an integer division, and a mask of where it is exact."""
    for index, rest in ((left, right), (right, left)):
        for label, stride in index.strides:
            if label in rest.labels or index.lookup is not None:
                continue
            value = _difference(rest, index.without(label), 1)
            if value is None:
                continue
            system._require(index, size)
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
            axes = tuple(value if other is label else Index.of(other) for other in lookup.labels)
            moved = View(lookup.array, axes).read()
            lookups[id(lookup)] = replace(
                lookup,
                array=moved.array,
                labels=moved.labels,
                bounds=lookup.bounds if _safe(value, label) else None,
            )
        lookup = lookups[id(lookup)]
    stride = index.stride(label)
    if not stride:
        return _plus(Index(index.offset, index.strides), lookup)
    kept = index.without(label).strides
    strides = collect([*kept, *((other, stride * step) for other, step in value.strides)])
    affine = Index(index.offset + stride * value.offset, strides)
    if value.lookup is None:
        return _plus(affine, lookup)
    scaled = scaled_lookup(value.lookup, stride)
    return _plus(affine, scaled if lookup is None else summed_lookups(lookup, scaled))


def _plus(index: Index, lookup: Lookup | None) -> Index:
    """An affine index plus a lookup; a constant that has no label is no lookup but an offset."""
    if lookup is None:
        return index
    if not lookup.labels and is_known(Index(0, (), lookup)):
        return index.shifted(int(lookup.array))
    return Index(index.offset, index.strides, lookup)


def _safe(value: Index, label: Label) -> bool:
    return value.within(label.size)


def _difficulty(equation: tuple[Index, Index, int]) -> int:
    """Easy equations first: they fix labels of the harder ones."""
    left, right, _ = equation
    if left.constant or right.constant:
        return 0
    if left.single is not None and right.single is not None:
        return 1
    if left.lookup is None and right.lookup is None:
        return 2
    return 4 if _is_countable(left, right) else 3


def _is_countable(left: Index, right: Index) -> bool:
    """Whether two indices meet at places that are known, and no label of theirs can be solved for.

    Then the meetings are listed, once all that can be solved is. That takes a time that grows as
    the places of both sides do; to compare each with each takes that of all their pairs.
    """
    return all(not index.strides and is_known(index) for index in (left, right))
