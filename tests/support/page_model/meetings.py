"""Indices that meet in a contraction, solved for labels: part of the model of cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from blockjac.explanations.page.signatures import Factor, Index, unique


class Counter(Protocol):
    """What counts products, and gives new labels and arrays."""

    sizes: list[int]

    def label(self, size: int) -> int:
        """A new label."""
        ...

    def array(self) -> int:
        """A new array."""
        ...

    def multiplied(self, factors: Sequence[Factor], coefficient: float = 1) -> Factor:
        """Factors multiplied out."""
        ...


class Meeting:
    """Two terms whose indices on the axes between them are to be equal.

    Attributes:
        counter: of products.
        factors: of both terms.
        indices: of the outer axes.
        pairs: indices that are equal, with the size of their axis.
        labels: of both terms.
    """

    def __init__(
        self,
        counter: Counter,
        factors: Sequence[Factor],
        indices: Sequence[Index],
        pairs: Sequence[tuple[Index, Index, int]],
        labels: Sequence[int],
    ) -> None:
        """Nothing is solved yet."""
        self.counter, self.factors, self.indices = counter, list(factors), list(indices)
        self.pairs, self.labels = list(pairs), list(labels)

    def solve(self) -> bool:
        """Solve all pairs; False if they are never equal."""
        while self.pairs:
            left, right, size = self.pairs.pop(0)
            if not self._meet(left, right, size):
                return False
        return True

    def _meet(self, left: Index, right: Index, size: int) -> bool:
        """Solve one pair."""
        if left.is_constant and right.is_constant:
            return left.offset == right.offset
        if left == right:
            return True
        first, second = left.single, right.single
        if first and right.is_constant:
            return self._fix(first, right.offset - left.offset)
        if second and left.is_constant:
            return self._fix(second, left.offset - right.offset)
        if first and second and first[0] != second[0]:
            if abs(first[1]) == 1:
                return self._follow(first, second, right.offset - left.offset)
            if abs(second[1]) == 1:
                return self._follow(second, first, left.offset - right.offset)
        if self._is_whole(left, size) and first and first[0] not in right.labels:
            self._substitute(first[0], right)
        elif self._is_whole(right, size) and second and second[0] not in left.labels:
            self._substitute(second[0], left)
        elif not self._by_digits(left, right):
            dense = self._written(left, size)
            self._substitute(dense, right)
        return True

    def _is_whole(self, index: Index, size: int) -> bool:
        """Whether an index is one label that runs over its axis in order."""
        single = index.single
        if single is None or index.offset or single[1] != 1:
            return False
        return self.counter.sizes[single[0]] == size

    def _fix(self, single: tuple[int, int], value: int) -> bool:
        """Solve `stride * label = value`."""
        label, stride = single
        if value % stride or not 0 <= value // stride < self.counter.sizes[label]:
            return False
        self._substitute(label, Index(value // stride))
        return True

    def _follow(self, solved: tuple[int, int], free: tuple[int, int], offset: int) -> bool:
        """Solve `a * label = b * other + offset` for a label, with a = 1 or -1."""
        sizes = self.counter.sizes
        label, sign = solved
        other, stride = free
        values = [
            own for own in range(sizes[other]) if 0 <= sign * (stride * own + offset) < sizes[label]
        ]
        if not values:
            return False
        if len(values) < sizes[other]:
            part = self.counter.label(len(values))
            self.labels.append(part)
            strides = ((part, 1),) if len(values) > 1 else ()
            self._substitute(other, Index(values[0], strides))
            offset += stride * values[0]
            strides = ((part, sign * stride),) if len(values) > 1 else ()
        else:
            strides = ((other, sign * stride),)
        self._substitute(label, Index(sign * offset, strides))
        return True

    def _by_digits(self, left: Index, right: Index) -> bool:
        """Solve digit by digit where both are numbers with digits of the same sizes."""
        if left.lookup or right.lookup or left.offset != right.offset:
            return False
        sizes = self.counter.sizes
        digits = [sorted(own.strides, key=lambda pair: pair[1]) for own in (left, right)]
        kinds = [[(stride, sizes[label]) for label, stride in own] for own in digits]
        if kinds[0] != kinds[1] or set(left.labels) & set(right.labels):
            return False
        weight = 1
        for stride, size in kinds[0]:
            if stride != weight:
                return False
            weight *= size
        for (label, _), (other, _) in zip(digits[0], digits[1], strict=True):
            self.pairs.insert(0, (Index(0, ((label, 1),)), Index(0, ((other, 1),)), sizes[label]))
        return True

    def _written(self, index: Index, size: int) -> int:
        """Write the axis of an index out: a new label that runs over all of it."""
        dense = self.counter.label(size)
        elsewhere = {
            label
            for own in (*self.indices, *(own for pair in self.pairs for own in pair[:2]))
            for label in own.labels
        }
        gone = set(index.labels) - elsewhere
        shared = [label for label in index.labels if label in elsewhere]
        involved = [factor for factor in self.factors if gone & set(factor.labels)]
        rest = [factor for factor in self.factors if not gone & set(factor.labels)]
        if involved:
            self.counter.multiplied(involved)
        own = [label for factor in involved for label in factor.labels if label not in gone]
        labels = unique([*own, *shared, dense])
        self.factors = [*rest, Factor(self.counter.array(), not involved, labels)]
        self.labels = [label for label in self.labels if label not in gone] + [dense]
        return dense

    def _substitute(self, label: int, index: Index) -> None:
        """Put an index in place of a label, everywhere."""
        is_name = index.single is not None and index.single[1] == 1 and not index.offset
        self.factors = [
            factor
            if label not in factor.labels
            else Factor(
                factor.array if is_name else self.counter.array(),
                factor.is_mask,
                unique(
                    part
                    for own in factor.labels
                    for part in (index.labels if own == label else (own,))
                ),
            )
            for factor in self.factors
        ]
        self.indices = [self._replaced(own, label, index, is_name) for own in self.indices]
        self.pairs = [
            (
                self._replaced(left, label, index, is_name),
                self._replaced(right, label, index, is_name),
                size,
            )
            for left, right, size in self.pairs
        ]
        self.labels = [own for own in self.labels if own != label]

    def _replaced(self, own: Index, label: int, index: Index, is_name: bool) -> Index:
        """An index with another in place of a label."""
        if label not in own.labels:
            return own
        stride = next((stride for known, stride in own.strides if known == label), 0)
        total = {known: factor for known, factor in own.strides if known != label}
        for known, factor in index.strides if stride else ():
            total[known] = total.get(known, 0) + stride * factor
        lookup, looked = own.lookup, own.looked
        if label in looked:
            parts = [(known,) if known != label else index.labels for known in looked]
            lookup = lookup if is_name else self.counter.array()
            looked = unique(part for own_parts in parts for part in own_parts)
        if stride and index.lookup:
            is_alone = not lookup and stride == 1
            lookup = index.lookup if is_alone else self.counter.array()
            looked = unique([*looked, *index.looked])
        strides = tuple((known, factor) for known, factor in total.items() if factor)
        return Index(own.offset + stride * index.offset, strides, lookup, looked)
