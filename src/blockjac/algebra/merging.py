"""Two terms of one structure as one: their factors are added."""

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


def merged_pair(one: Term, other: Term, dtype: Any) -> Term | None:
    """Two terms over the same indices as one, or None where that stores more.

    Factors that both share are pulled out.
    """
    mapping = correspondence(one.indices, other.indices)
    if mapping is None:
        return None
    renamed = [
        Factor(factor.array, tuple(mapping[label] for label in factor.labels), factor.name)
        for factor in other.factors
    ]
    rest_one, rest_other, shared = list(one.factors), list(renamed), []
    for factor in one.factors:
        twin = next(
            (
                twin
                for twin in rest_other
                if twin.array is factor.array and twin.labels == factor.labels
            ),
            None,
        )
        if twin is not None:
            shared.append(factor)
            rest_one.remove(factor)
            rest_other.remove(twin)
    if not rest_one and not rest_other:
        return Term(tuple(shared), one.out, one.wrt, one.coefficient + other.coefficient)
    entries = arrays.numel(arrays.union([*rest_one, *rest_other]))
    if entries > sum(factor.numel for factor in [*rest_one, *rest_other]):
        return None
    coefficient = one.coefficient if not rest_one or one.coefficient == other.coefficient else 1
    if not rest_one or not rest_other:
        factor = _plus_constant(rest_one or rest_other, one, other, bool(rest_one), dtype)
        return Term((*shared, factor), one.out, one.wrt, 1)
    scale = (
        (1, 1)
        if coefficient == one.coefficient == other.coefficient
        else (one.coefficient, other.coefficient)
    )
    total = arrays.add(
        arrays.product(rest_one, scale[0], dtype), arrays.product(rest_other, scale[1], dtype)
    )
    mask = either(rest_one, rest_other)
    factors = (*shared, total) if mask is None else (*shared, total, mask)
    return Term(factors, one.out, one.wrt, coefficient)


def _plus_constant(
    rest: list[Factor], one: Term, other: Term, rest_is_ones: bool, dtype: Any
) -> Factor:
    scale, constant = (
        (one.coefficient, other.coefficient)
        if rest_is_ones
        else (other.coefficient, one.coefficient)
    )
    varying = arrays.cast(arrays.product(rest, scale, dtype), dtype)
    return backend().factor(
        varying.labels,
        varying.array.dtype,
        lambda: shifted(varying.array, constant),
        [varying, varying],
        additions=varying.numel,
    )


def correspondence(one: Sequence[Index], other: Sequence[Index]) -> dict[Label, Label] | None:
    """The renaming of the other labels that makes the other indices the first ones, or None."""
    mapping: dict[Label, Label] = {}
    for mine, theirs in zip(one, other, strict=True):
        if mine.offset != theirs.offset or len(mine.strides) != len(theirs.strides):
            return None
        if (mine.lookup is None) != (theirs.lookup is None):
            return None
        pairs: list[tuple[Label, Label]] = []
        for (a, stride), (b, other_stride) in zip(
            _by_stride(mine), _by_stride(theirs), strict=True
        ):
            if stride != other_stride:
                return None
            pairs.append((a, b))
        if mine.lookup is not None and theirs.lookup is not None:
            if mine.lookup.array is not theirs.lookup.array:
                return None
            pairs += zip(mine.lookup.labels, theirs.lookup.labels, strict=True)
        for a, b in pairs:
            if a.size != b.size or mapping.setdefault(b, a) is not a:
                return None
    return mapping if len(set(mapping.values())) == len(mapping) else None


def _by_stride(index: Index) -> Sequence[tuple[Label, int]]:
    if len(index.strides) < 2:
        return index.strides
    return sorted(index.strides, key=lambda pair: pair[1])
