"""The values of a grid's entries as values of its places, in whatever order costs least to make."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.exports.ordered_values import are_counted, ordered_values
from blockjac.sparsity.pattern import Arrangement, Pattern

MAX_RUNS = 256
"""Up to this many runs of entries are added up by slices; more by a gather."""


@dataclass(frozen=True, eq=False)
class EachPlaceOnce:
    """Places in a fixed order, and the function that gives their values.

    Attributes:
        pattern: the places in this order.
        values: from the values of the entries, those of the places; it can be traced.
        is_sorted: whether the places are in the order of rows, and of columns within a row.
    """

    pattern: Pattern
    values: Callable[[Any], Any]
    is_sorted: bool


def each_place_once(arranged: Arrangement) -> EachPlaceOnce:
    """The places of a pattern in the order of the entries, if that needs no gather; else sorted."""
    runs = _runs(arranged)
    if runs is None:
        ordered = partial(ordered_values, arranged=arranged)
        return EachPlaceOnce(arranged.pattern, ordered, is_sorted=True)
    if runs.places is arranged.order:
        return EachPlaceOnce(arranged.pattern, runs.added, is_sorted=True)
    return EachPlaceOnce(arranged.chosen(runs.places).pattern, runs.added, is_sorted=False)


@dataclass(frozen=True, eq=False)
class Runs:
    """The values of a pattern as sums of slices of the values of the entries.

    Attributes:
        places: which place of the pattern each value is for; they keep the order of the entries.
        slices: for each run of places the first entry of each of its summands, and its length.
    """

    places: np.ndarray
    slices: list[tuple[list[int], int]]

    def added(self, numbers: Any) -> Any:
        """The value of each place, by slices."""
        parts: list[Any] = [
            reduce(operator.add, [numbers[first : first + length] for first in firsts])
            for firsts, length in self.slices
        ]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def _runs(arranged: Arrangement) -> Runs | None:
    """How to add up entries of one place by slices, without a gather; None if there are many."""
    order = arranged.order
    if arranged.starts is None and len(order) and are_counted(order):
        return Runs(order, [([0], len(order))])
    starts = np.arange(len(order)) if arranged.starts is None else arranged.starts
    lengths = np.diff(np.append(starts, len(order)))
    if not len(starts):
        return None
    places = np.argsort(order[starts], kind="stable")
    last = len(order) - 1
    # Layer k holds the k-th entry of each place, or -1 where a place has fewer.
    layers = [
        np.where(lengths[places] > depth, order[np.minimum(starts[places] + depth, last)], -1)
        for depth in range(lengths.max())
    ]
    breaks = np.zeros(len(places), bool)
    breaks[0] = True
    for layer in layers:
        current, before = layer[1:], layer[:-1]
        follows = (current == before + 1) & (before >= 0)
        breaks[1:] |= ~(follows | (current == before))
    firsts = np.flatnonzero(breaks)
    if len(firsts) > MAX_RUNS:
        return None
    ends = np.append(firsts[1:], len(places))
    slices = [
        ([int(layer[first]) for layer in layers if layer[first] >= 0], int(end - first))
        for first, end in zip(firsts, ends, strict=True)
    ]
    return Runs(places, slices)
