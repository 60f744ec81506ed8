"""The term of a solved system: labels that no index carries are summed, alike factors merged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from blockjac.algebra import arrays, masks
from blockjac.algebra.einsum import sum_out
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


def answered(
    factors: Sequence[Factor],
    indices: Sequence[Index],
    labels: Iterable[Label],
    coefficient: Any,
    out_axes: int,
) -> Term:
    """The term of solved indices: the labels that none of them carries are summed.

    Args:
        factors: arrays over the labels.
        indices: the indices of the term's axes.
        labels: all labels, each once.
        coefficient: a static scalar.
        out_axes: the number of output axes, which come first.
    """
    used = dict.fromkeys(label for index in indices for label in index.labels)
    carried = {label for factor in factors for label in factor.labels}
    for label in labels:
        if label not in used and label not in carried:
            coefficient = coefficient * label.size
    summed = [label for label in labels if label in carried and label not in used]
    kept = list(factors)
    if summed:
        kept, coefficient = absorbed(kept, summed, coefficient)
        kept = contracted(kept, summed, list(used))
    kept, coefficient = merged(kept, coefficient)
    return Term(tuple(kept), tuple(indices[:out_axes]), tuple(indices[out_axes:]), coefficient)


def absorbed(
    factors: Sequence[Factor], summed: Sequence[Label], coefficient: Any
) -> tuple[list[Factor], Any]:
    """Multiply what is not summed into small factors that are about to be contracted.

    A scalar goes into the smallest factor, where the compiler multiplies while it writes that
    factor; a factor over some of another's labels goes into that other one. Multiplied after a
    matrix product, either would take one more pass over the result.
    """
    reach = set(summed)
    involved = [factor for factor in factors if reach & set(factor.labels)]
    numbers = [factor for factor in involved if not arrays.is_mask(factor)]
    if len(numbers) < 2:
        return list(factors), coefficient
    result = arrays.numel(list({label for factor in involved for label in factor.labels} - reach))
    smallest = min(numbers, key=lambda factor: factor.numel)
    gains: dict[int, list[Factor]] = {}
    left: list[Factor] = []
    for factor in factors:
        home = None
        if factor not in involved:
            homes = [number for number in numbers if set(factor.labels) <= set(number.labels)]
            home = min(homes, key=lambda number: number.numel, default=None)
        if home is None or home.numel > result or (not factor.labels and arrays.is_mask(factor)):
            left.append(factor)
        else:
            gains.setdefault(id(home), []).append(factor)
    scaled = abs(coefficient) != 1 and smallest.numel <= result
    if scaled:
        gains.setdefault(id(smallest), [])
    products: list[Factor] = []
    for factor in left:
        if id(factor) in gains:
            scale = coefficient if scaled and factor is smallest else 1
            factor = arrays.product([factor, *gains[id(factor)]], scale)
        products.append(factor)
    return products, 1 if scaled else coefficient


def contracted(
    factors: Sequence[Factor], summed: Sequence[Label], wanted: Sequence[Label] = ()
) -> list[Factor]:
    """Contract, group by group, the factors that share labels to be summed; keep the others.

    Args:
        factors: any number.
        summed: the labels that disappear.
        wanted: the other labels, in the order of the answer's axes.
    """
    untouched = [factor for factor in factors if not set(factor.labels) & set(summed)]
    pending = [factor for factor in factors if set(factor.labels) & set(summed)]
    while pending:
        group = [pending.pop(0)]
        reach: set[Label] = set()
        grew = True
        while grew:
            reach = {label for factor in group for label in factor.labels if label in summed}
            joining = [factor for factor in pending if set(factor.labels) & reach]
            pending = [factor for factor in pending if not set(factor.labels) & reach]
            group += joining
            grew = bool(joining)
        reached = [label for label in summed if label in reach]
        untouched.append(sum_out(group, reached, wanted))
        mask = masks.summed(group, reached)
        if mask is not None:
            untouched.append(mask)
    return untouched


def merged(factors: Sequence[Factor], coefficient: Any) -> tuple[list[Factor], Any]:
    """Multiply factors over the same labels, and the coefficient with the first such group.

    A lone scalar takes the coefficient too: it is a single number, and may be used often. Masks
    are multiplied by masks alone: what they drop may still become inf or nan, so that they are
    applied last. Masks that are known while tracing stay known.
    """
    groups: dict[tuple[frozenset[Label], bool, bool], list[Factor]] = {}
    for factor in factors:
        kind = arrays.is_mask(factor), arrays.is_known_mask(factor)
        groups.setdefault((frozenset(factor.labels), *kind), []).append(factor)
    result: list[Factor] = []
    for (labels, are_masks, are_known), group in groups.items():
        if not are_masks and (len(group) > 1 or not labels):
            result.append(arrays.product(group, coefficient))
            coefficient = 1
        else:
            joint = masks.both(group) if are_known and len(group) > 1 else None
            result.append(arrays.product(group) if joint is None else joint)
    return result, coefficient
