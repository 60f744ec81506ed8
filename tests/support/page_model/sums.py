"""Sums of signatures, and products of factors, counted: part of the model of cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


class Sums:
    """Adds signatures and multiplies factors, and counts.

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
        self.multiplications: int = 0
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

    def write(self, signature: Signature) -> None:
        """Write a signature out: the factors of each term are multiplied."""
        for term in signature.terms:
            if term.factors:
                self.multiplied(term.factors, term.coefficient)

    def summed(
        self, out_shape: tuple[int, ...], wrt_shape: tuple[int, ...], terms: Sequence[Term]
    ) -> Signature:
        """A signature of terms, like ones added, and many written as one.

        Args:
            out_shape: of the signature.
            wrt_shape: of the signature.
            terms: any number.
        """
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
        """A signature with its terms written as one, dense but for deltas, if that is less."""
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
        pairs = [(*new, *old) for new, old in zip(by_stride[0], by_stride[1], strict=True)]
        if any(stride != old_stride for _, stride, _, old_stride in pairs):
            return None
        renamed = [(old, new) for new, _, old, _ in pairs]
        renamed += zip(rhs.looked, lhs.looked, strict=True)
        for old, new in renamed:
            if sizes[old] != sizes[new] or names.setdefault(old, new) != new:
                return None
    return names if len(set(names.values())) == len(names) else None
