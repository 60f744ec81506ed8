"""Masks that are known while a program is traced, carried through products, sums and contractions.

Where an array is known to be zero is structure as long as the answer keeps it. Such a mask is a
factor of its own beside the array, so that a list of places can leave out what it drops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.arrays import is_known_mask
from blockjac.algebra.backend import backend
from blockjac.base.promises import is_structure_kept
from blockjac.terms.factor import Factor
from blockjac.terms.index import Label
from blockjac.terms.known_indices import known_entries

LARGEST = 2**20
"""Masks are not combined into one with more entries than this."""

MOST_LABELS = 26
"""Nor contracted over more labels than this."""

FEWER = 4 / 3
"""An array with fewer than this many times the places that a mask leaves is stored without it."""


def _known(factors: Sequence[Factor]) -> list[Factor]:
    """The known masks among factors; none unless structure is kept."""
    if not backend().knows_places or not is_structure_kept():
        return []
    return [factor for factor in factors if is_known_mask(factor)]


def both(factors: Sequence[Factor]) -> Factor | None:
    """The known masks of a product as one; None without masks, or if it would be too large."""
    masks = _known(factors)
    labels = arrays.unique([label for mask in masks for label in mask.labels])
    if not masks or arrays.numel(labels) > LARGEST:
        return None
    return arrays.known_product(masks, labels)


def either(left: Sequence[Factor], right: Sequence[Factor]) -> Factor | None:
    """The mask of where the sum of two products may have entries; None if that is anywhere."""
    lhs, rhs = both(left), both(right)
    if lhs is None or rhs is None:
        return None
    labels = arrays.unique([*lhs.labels, *rhs.labels])
    if arrays.numel(labels) > LARGEST:
        return None
    may = np.zeros(arrays.sizes(labels), bool)
    for mask in (lhs, rhs):
        may |= known_entries(mask.array, mask.labels, labels)
    return None if may.all() else Factor(may, labels)


def summed(factors: Sequence[Factor], labels: Sequence[Label]) -> Factor | None:
    """The mask of where a product may have entries once labels are summed.

    None if that is nearly everywhere, or not known.
    """
    masks = _known(factors)
    if not any(set(mask.labels) & set(labels) for mask in masks):
        return None
    met = arrays.unique([label for mask in masks for label in mask.labels])
    kept = tuple(label for label in met if label not in labels)
    if not kept or arrays.numel(kept) > LARGEST or len(met) > MOST_LABELS:
        return None
    number = {label: position for position, label in enumerate(met)}
    operands: list[Any] = []
    for mask in masks:
        operands += [mask.array.astype(np.float32), [number[label] for label in mask.labels]]
    counts = np.einsum(*operands, [number[label] for label in kept], optimize=True)
    may = np.asarray(counts != 0)
    return None if FEWER * np.count_nonzero(may) > may.size else Factor(may, kept)
