"""Two terms of the same structure as one, whose factors are the sums of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blockjac.algebra import arrays
from blockjac.algebra.arithmetic import shifted
from blockjac.algebra.backend import backend
from blockjac.algebra.masks import either
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


def merged_pair(left: Term, right: Term, dtype: Any) -> Term | None:
    """Two terms over the same indices as one, or None if that stores more.

    Factors that both share are pulled out.
    """
    mapping = correspondence(left.indices, right.indices)
    if mapping is None:
        return None
    renamed = [
        Factor(factor.array, tuple(mapping[label] for label in factor.labels), factor.name)
        for factor in right.factors
    ]
    rest_left, rest_right = list(left.factors), list(renamed)
    shared: list[Factor] = []
    for factor in left.factors:
        twin = next(
            (
                twin
                for twin in rest_right
                if twin.array is factor.array and twin.labels == factor.labels
            ),
            None,
        )
        if twin is not None:
            shared.append(factor)
            rest_left.remove(factor)
            rest_right.remove(twin)
    if not rest_left and not rest_right:
        return Term(tuple(shared), left.out, left.wrt, left.coefficient + right.coefficient)
    entries = arrays.numel(arrays.union([*rest_left, *rest_right]))
    if entries > sum(factor.numel for factor in [*rest_left, *rest_right]):
        return None
    if not rest_right:
        factor = _plus_constant(rest_left, left.coefficient, right.coefficient, dtype)
        return Term((*shared, factor), left.out, left.wrt, 1)
    if not rest_left:
        factor = _plus_constant(rest_right, right.coefficient, left.coefficient, dtype)
        return Term((*shared, factor), left.out, left.wrt, 1)
    coefficient, scales = 1, (left.coefficient, right.coefficient)
    if left.coefficient == right.coefficient:
        coefficient, scales = left.coefficient, (1, 1)
    total = arrays.add(
        arrays.product(rest_left, scales[0], dtype), arrays.product(rest_right, scales[1], dtype)
    )
    mask = either(rest_left, rest_right)
    factors = (*shared, total) if mask is None else (*shared, total, mask)
    return Term(factors, left.out, left.wrt, coefficient)


def _plus_constant(factors: Sequence[Factor], scale: Any, constant: Any, dtype: Any) -> Factor:
    """The scaled product of factors plus a constant."""
    varying = arrays.cast(arrays.product(factors, scale, dtype), dtype)
    return backend().factor(
        varying.labels,
        varying.array.dtype,
        lambda: shifted(varying.array, constant),
        [varying, varying],
        additions=varying.numel,
    )


def correspondence(left: Sequence[Index], right: Sequence[Index]) -> dict[Label, Label] | None:
    """The renaming of the right labels that makes the right indices the left ones, or None."""
    mapping: dict[Label, Label] = {}
    for lhs, rhs in zip(left, right, strict=True):
        if lhs.offset != rhs.offset or len(lhs.strides) != len(rhs.strides):
            return None
        if (lhs.lookup is None) != (rhs.lookup is None):
            return None
        pairs: list[tuple[Label, Label]] = []
        for (new, stride), (old, old_stride) in zip(_by_stride(lhs), _by_stride(rhs), strict=True):
            if stride != old_stride:
                return None
            pairs.append((new, old))
        if lhs.lookup is not None and rhs.lookup is not None:
            if lhs.lookup.array is not rhs.lookup.array:
                return None
            pairs += zip(lhs.lookup.labels, rhs.lookup.labels, strict=True)
        for new, old in pairs:
            if new.size != old.size or mapping.setdefault(old, new) is not new:
                return None
    return mapping if len(set(mapping.values())) == len(mapping) else None


def _by_stride(index: Index) -> Sequence[tuple[Label, int]]:
    if len(index.strides) < 2:
        return index.strides
    return sorted(index.strides, key=lambda pair: pair[1])
