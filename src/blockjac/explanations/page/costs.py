"""A model of what an elimination multiplies, on structure alone; `costs.js` is the same model.

It follows the library's own contraction of terms: indices that meet are equations between labels,
labels that no axis has are summed, small factors are absorbed first, like factors are merged, and
like terms are added. Where two indices meet that cannot be solved for a label, one axis is written
out, so that there the count may be too large; lists of places are not modeled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from blockjac.explanations.page.meetings import Meeting
from blockjac.explanations.page.signatures import (
    Factor,
    Index,
    Signature,
    Term,
    labels_of,
    relabeled,
    unique,
)

MOST_TERMS = 16
"""A sum of more terms is written out dense."""

FEW = 5
"""Up to this many factors, every order of contracting them is tried."""


class Costs:
    """Contracts and adds signatures, and counts.

    Attributes:
        multiplications: so far.
        sizes: of the labels.
        weights: the time of an operation, and of a number that is read or written; they decide
            which of several factors are contracted first.
    """

    def __init__(
        self, sizes: Sequence[int], arrays: int, weights: tuple[float, float] = (1.0, 0.0)
    ) -> None:
        """Go on from the numbers of a `Numbering`."""
        self.multiplications = 0
        self.weights = weights
        self.sizes = list(sizes)
        self.arrays = arrays

    def label(self, size: int) -> int:
        """A new label."""
        self.sizes.append(size)
        return len(self.sizes) - 1

    def array(self) -> int:
        """A new array."""
        self.arrays += 1
        return self.arrays

    def numel(self, labels: Sequence[int]) -> int:
        """The number of joint values of labels."""
        return math.prod(self.sizes[label] for label in labels)

    def star(self, left: Signature, right: Signature) -> Signature:
        """The contraction of two signatures."""
        terms: list[Term] = []
        for first in left.terms:
            for second in right.terms:
                term = self._product(first, second, left, right)
                if term is not None:
                    terms.append(term)
        return self._summed(left.out_shape, right.wrt_shape, terms)

    def add(self, left: Signature, right: Signature) -> Signature:
        """The sum of two signatures."""
        return self._summed(left.out_shape, left.wrt_shape, [*left.terms, *right.terms])

    def write(self, signature: Signature) -> None:
        """Write a signature out: the factors of each term are multiplied."""
        for term in signature.terms:
            if term.factors:
                self.multiplied(term.factors, term.coefficient)

    # The product of two terms

    def _product(
        self, left: Term, right: Term, left_edge: Signature, right_edge: Signature
    ) -> Term | None:
        """The product of two terms; None if they never meet."""
        fresh = {label: self.label(self.sizes[label]) for label in labels_of(right)}
        right = relabeled(right, fresh)
        middle = len(left_edge.out_shape)
        meeting = Meeting(
            self,
            [*left.factors, *right.factors],
            [*left.indices[:middle], *right.indices[len(right_edge.out_shape) :]],
            list(
                zip(
                    left.indices[middle:],
                    right.indices[: len(right_edge.out_shape)],
                    left_edge.wrt_shape,
                    strict=True,
                )
            ),
            unique([*labels_of(left), *labels_of(right)]),
        )
        if not meeting.solve():
            return None
        coefficient = left.coefficient * right.coefficient
        return self._answered(meeting.factors, meeting.indices, meeting.labels, coefficient)

    def _answered(
        self,
        factors: list[Factor],
        indices: list[Index],
        labels: Sequence[int],
        coefficient: float,
    ) -> Term:
        """The term of solved indices: labels that none of them has are summed."""
        used = {label for index in indices for label in index.labels}
        carried = {label for factor in factors for label in factor.labels}
        for label in labels:
            if label not in used and label not in carried:
                coefficient *= self.sizes[label]
        summed = [label for label in unique([*labels, *carried]) if label in carried - used]
        if summed:
            factors, coefficient = self._absorbed(factors, summed, coefficient)
            factors = self._contracted(factors, summed)
        factors, coefficient = self._merged(factors, coefficient)
        return Term(coefficient, tuple(factors), tuple(indices))

    def multiplied(self, factors: Sequence[Factor], coefficient: float = 1) -> Factor:
        """Factors multiplied out, smallest first."""
        if len(factors) == 1 and coefficient == 1:
            return factors[0]
        numbers = sorted(
            (factor for factor in factors if not factor.is_mask),
            key=lambda factor: self.numel(factor.labels),
        )
        reached: tuple[int, ...] = ()
        for position, factor in enumerate(numbers):
            reached = unique([*reached, *factor.labels])
            self.multiplications += self.numel(reached) if position else 0
        if numbers and abs(coefficient) != 1:
            self.multiplications += self.numel(numbers[0].labels)
        labels = unique([label for factor in factors for label in factor.labels])
        is_mask = not numbers and coefficient == 1
        return Factor(self.array(), is_mask, labels)

    def _absorbed(
        self, factors: list[Factor], summed: Sequence[int], coefficient: float
    ) -> tuple[list[Factor], float]:
        """What is not summed multiplied into factors that are about to be contracted."""
        reach = set(summed)
        involved = [bool(reach & set(factor.labels)) for factor in factors]
        numbers = [n for n, own in enumerate(factors) if involved[n] and not own.is_mask]
        if len(numbers) < 2:
            return factors, coefficient
        carried = unique([x for n, own in enumerate(factors) if involved[n] for x in own.labels])
        result = self.numel([label for label in carried if label not in reach])
        size = [self.numel(factor.labels) for factor in factors]
        smallest = min(numbers, key=lambda number: size[number])
        gains: dict[int, list[Factor]] = {}
        left: list[int] = []
        for number, factor in enumerate(factors):
            homes = [
                home
                for home in numbers
                if not involved[number] and set(factor.labels) <= set(factors[home].labels)
            ]
            home = min(homes, key=lambda own: size[own], default=None)
            is_lone = not factor.labels and factor.is_mask
            if home is None or size[home] > result or is_lone:
                left.append(number)
            else:
                gains.setdefault(home, []).append(factor)
        is_scaled = abs(coefficient) != 1 and size[smallest] <= result
        if is_scaled:
            gains.setdefault(smallest, [])
        products: list[Factor] = []
        for number in left:
            scale = coefficient if is_scaled and number == smallest else 1
            own = factors[number]
            products.append(
                self.multiplied([own, *gains[number]], scale) if number in gains else own
            )
        return products, 1 if is_scaled else coefficient

    def _contracted(self, factors: Sequence[Factor], summed: Sequence[int]) -> list[Factor]:
        """Factors that share summed labels contracted, group by group."""
        reach = set(summed)
        result = [factor for factor in factors if not reach & set(factor.labels)]
        pending = [factor for factor in factors if reach & set(factor.labels)]
        while pending:
            group = [pending.pop(0)]
            while True:
                own = {label for factor in group for label in factor.labels} & reach
                joining = [factor for factor in pending if own & set(factor.labels)]
                if not joining:
                    break
                pending = [factor for factor in pending if not own & set(factor.labels)]
                group += joining
            result.append(self._sum_out(group, [label for label in summed if label in own]))
        return result

    def _sum_out(self, group: Sequence[Factor], summed: Sequence[int]) -> Factor:
        """Factors contracted to one, two at a time, in the order of fewest operations."""
        numbers = [factor.labels for factor in group if not factor.is_mask]
        for mask in (factor for factor in group if factor.is_mask):
            if not any(set(mask.labels) <= set(labels) for labels in numbers):
                numbers.append(mask.labels)
        pending = list(numbers)
        while len(pending) > 1:
            first, second = self._next_pair(pending, summed)[1]
            rest = [own for n, own in enumerate(pending) if n not in (first, second)]
            needed = {label for labels in rest for label in labels}
            now = {label for label in summed if label not in needed}
            left, right = pending[first], pending[second]
            left = tuple(own for own in left if own not in now or own in right)
            right = tuple(own for own in right if own not in now or own in left)
            union = unique([*left, *right])
            self.multiplications += self.numel(union)
            pending = [*rest, tuple(label for label in union if label not in now)]
        labels = tuple(label for label in pending[0] if label not in summed)
        return Factor(self.array(), False, labels)

    def _next_pair(
        self, carried: Sequence[tuple[int, ...]], summed: Sequence[int]
    ) -> tuple[float, tuple[int, int]]:
        """The least time to contract factors over these labels, and the first pair to contract."""
        best, pair = math.inf, (0, 1)
        for first in range(len(carried)):
            for second in range(first + 1, len(carried)):
                rest = [labels for n, labels in enumerate(carried) if n not in (first, second)]
                needed = {label for labels in rest for label in labels}
                union = unique([*carried[first], *carried[second]])
                kept = tuple(own for own in union if own not in summed or own in needed)
                operations = self.numel(union) * (1 if len(kept) == len(union) else 2)
                entries = sum(map(self.numel, (carried[first], carried[second], kept)))
                time = operations * self.weights[0] + entries * self.weights[1]
                if rest and time < best and len(carried) <= FEW:
                    time += self._next_pair([*rest, kept], summed)[0]
                if time < best:
                    best, pair = time, (first, second)
        return best, pair

    def _merged(
        self, factors: Sequence[Factor], coefficient: float
    ) -> tuple[list[Factor], float]:
        """Factors over the same labels multiplied, the coefficient with the first such group."""
        groups: dict[tuple[tuple[int, ...], bool], list[Factor]] = {}
        for factor in factors:
            groups.setdefault((tuple(sorted(factor.labels)), factor.is_mask), []).append(factor)
        result: list[Factor] = []
        for (labels, are_masks), group in groups.items():
            if not are_masks and (len(group) > 1 or not labels):
                result.append(self.multiplied(group, coefficient))
                coefficient = 1
            else:
                result.append(self.multiplied(group))
        return result, coefficient

    # Sums

    def _summed(
        self, out_shape: tuple[int, ...], wrt_shape: tuple[int, ...], terms: Sequence[Term]
    ) -> Signature:
        """A signature of terms, like ones added, and many written as one."""
        kept: list[Term] = []
        for term in terms:
            for position, earlier in enumerate(kept):
                joint = self._joined(earlier, term)
                if joint is not None:
                    kept[position] = joint
                    break
            else:
                kept.append(term)
        kept = [term for term in kept if term.coefficient != 0]
        signature = Signature(out_shape, wrt_shape, tuple(kept))
        return self._in_one(signature) if len(kept) > 1 else signature

    def _joined(self, left: Term, right: Term) -> Term | None:
        """Two terms over the same indices as one; None if that stores more."""
        names = correspondence(left.indices, right.indices, self.sizes)
        if names is None or any(own not in names for own in labels_of(right)):
            return None
        factors = relabeled(right, names).factors
        shared = [factor for factor in left.factors if factor in factors]
        own = [factor for factor in left.factors if factor not in shared]
        other = [factor for factor in factors if factor not in shared]
        if not own and not other:
            return Term(left.coefficient + right.coefficient, left.factors, left.indices)
        union = unique([label for factor in [*own, *other] for label in factor.labels])
        if self.numel(union) > sum(self.numel(part.labels) for part in [*own, *other]):
            return None
        coefficient, scales = 1.0, (left.coefficient, right.coefficient)
        if own and other and left.coefficient == right.coefficient:
            coefficient, scales = left.coefficient, (1.0, 1.0)
        for part, scale in ((own, scales[0]), (other, scales[1])):
            if part:
                self.multiplied(part, scale)
        total = Factor(self.array(), False, union)
        return Term(coefficient, (*shared, total), left.indices)

    def _in_one(self, signature: Signature) -> Signature:
        """A signature with its terms written as one, dense but for shared deltas, if that is less."""
        shape, rank = signature.shape, len(signature.out_shape)
        deltas = [
            (i, rank + j)
            for i in range(rank)
            for j in range(len(signature.wrt_shape))
            if all(self._has_delta(term, i, rank + j, shape) for term in signature.terms)
        ]
        entries = math.prod(shape) // math.prod(shape[i] for i, _ in deltas)
        arrays = {f.array: self.numel(f.labels) for t in signature.terms for f in t.factors}
        if entries > sum(arrays.values()) and len(signature.terms) <= MOST_TERMS:
            return signature
        self.write(signature)
        labels = [self.label(size) if size != 1 else -1 for size in shape]
        for i, j in deltas:
            labels[j] = labels[i]
        indices = tuple(Index(0, ((own, 1),) if own >= 0 else ()) for own in labels)
        factor = Factor(self.array(), False, unique(own for own in labels if own >= 0))
        term = Term(1.0, (factor,), indices)
        return Signature(signature.out_shape, signature.wrt_shape, (term,))

    def _has_delta(self, term: Term, i: int, j: int, shape: Sequence[int]) -> bool:
        """Whether two axes share a plain label that no other axis has."""
        first, second = term.indices[i], term.indices[j]
        if shape[i] == 1 or shape[i] != shape[j] or first != second:
            return False
        single = first.single
        if single is None or first.offset or single[1] != 1 or self.sizes[single[0]] != shape[i]:
            return False
        return sum(single[0] in index.labels for index in term.indices) == 2


def correspondence(
    left: Sequence[Index], right: Sequence[Index], sizes: Sequence[int]
) -> dict[int, int] | None:
    """The renaming of the right labels that makes the right indices the left ones, or None."""
    names: dict[int, int] = {}
    for lhs, rhs in zip(left, right, strict=True):
        if (lhs.offset, lhs.lookup) != (rhs.offset, rhs.lookup):
            return None
        if len(lhs.strides) != len(rhs.strides) or len(lhs.looked) != len(rhs.looked):
            return None
        by_stride = [sorted(own.strides, key=lambda pair: pair[1]) for own in (lhs, rhs)]
        pairs = [
            (*new, *old) for new, old in zip(by_stride[0], by_stride[1], strict=True)
        ]
        if any(stride != old_stride for _, stride, _, old_stride in pairs):
            return None
        renamed = [(old, new) for new, _, old, _ in pairs]
        renamed += zip(rhs.looked, lhs.looked, strict=True)
        for old, new in renamed:
            if sizes[old] != sizes[new] or names.setdefault(old, new) != new:
                return None
    return names if len(set(names.values())) == len(names) else None
