"""A model of what an elimination multiplies, on structure alone; `costs.js` is the same model.

It follows the library's own contraction of terms: indices that meet are equations between labels,
labels that no axis has are summed, small factors are absorbed first, like factors are merged, and
like terms are added. Where two indices meet that cannot be solved for a label, one axis is written
out, and lists of places are not modeled: where places are looked up, a count can differ a little
from the planner's. Everywhere else both are equal, which the tests compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from support.page_model.meetings import Meeting
from support.page_model.sums import Sums

from blockjac.explanations.page.signatures import (
    Factor,
    Index,
    Signature,
    Term,
    labels_of,
    relabeled,
    unique,
)

FEW = 5
"""Up to this many factors, every order of contracting them is tried."""


class Costs(Sums):
    """Contracts and adds signatures, and counts."""

    def star(self, left: Signature, right: Signature) -> Signature:
        """The contraction of two signatures."""
        terms: list[Term] = []
        for first in left.terms:
            for second in right.terms:
                term = self._product(first, second, left, right)
                if term is not None:
                    terms.append(term)
        return self.summed(left.out_shape, right.wrt_shape, terms)

    def add(self, left: Signature, right: Signature) -> Signature:
        """The sum of two signatures."""
        return self.summed(left.out_shape, left.wrt_shape, [*left.terms, *right.terms])

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
        pending: list[tuple[int, ...]] = list(numbers)
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

    def _merged(self, factors: Sequence[Factor], coefficient: float) -> tuple[list[Factor], float]:
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
