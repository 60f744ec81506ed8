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
"""Up to this many runs of entries are copied by slices, each an operation of the program."""

LONG_RUN = 200
"""About as many numbers are gathered in the time that a further slice takes."""


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


def each_place_once(arranged: Arrangement, *, sort: bool = False) -> EachPlaceOnce:
    """The places of a pattern in the order of the entries, which needs no gather; or sorted.

    Args:
        arranged: the pattern.
        sort: whether the places must be in the order of rows, and of columns within a row.
    """
    if sort:
        ordered = partial(ordered_values, arranged=arranged)
        return EachPlaceOnce(arranged.pattern, ordered, is_sorted=True)
    if arranged.starts is None and are_counted(arranged.order):
        count = len(arranged.order)  # of all entries, some may be off the matrix
        return EachPlaceOnce(arranged.pattern, lambda numbers: numbers[:count], is_sorted=True)
    sums = _runs(arranged) or _copies_and_sums(arranged)
    is_sorted = bool((np.diff(sums.places) > 0).all())
    return EachPlaceOnce(arranged.chosen(sums.places).pattern, sums.values, is_sorted)


@dataclass(frozen=True, eq=False)
class Runs:
    """The values of a pattern as sums of slices of the values of the entries.

    Attributes:
        places: which place of the pattern each value is for; they keep the order of the entries.
        slices: for each run of places the first entry of each of its summands, and its length.
    """

    places: np.ndarray
    slices: list[tuple[list[int], int]]

    def values(self, numbers: Any) -> Any:
        """The value of each place, by slices."""
        parts: list[Any] = [
            reduce(operator.add, [numbers[first : first + length] for first in firsts])
            for firsts, length in self.slices
        ]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def _runs(arranged: Arrangement) -> Runs | None:
    """How to add up entries of one place by slices, without a gather; None if there are many."""
    order, starts, lengths = arranged.order, arranged.firsts, arranged.counts
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


@dataclass(frozen=True, eq=False)
class CopiesAndSums:
    """The values of places that are copied from long runs of entries, and then of all others.

    Attributes:
        places: which place of the pattern each value is for.
        copied: the entries in long runs, each of which has a place for itself, in order.
        added: the other entries, in order.
        position: of the place of each of them, among those places.
    """

    places: np.ndarray
    copied: np.ndarray
    added: np.ndarray
    position: np.ndarray

    def values(self, numbers: Any) -> Any:
        """The value of each place. Adding to scattered places costs less than sorting by them."""
        sums = jnp.zeros(len(self.places) - len(self.copied), numbers.dtype)
        added = _selected(numbers, self.added)
        sums = sums.at[self.position].add(added, mode="promise_in_bounds")
        return jnp.concatenate([_selected(numbers, self.copied), sums])


def _copies_and_sums(arranged: Arrangement) -> CopiesAndSums:
    """Places whose entries are copied, and places that entries are added to."""
    counts = arranged.counts
    by_entry = np.argsort(arranged.order, kind="stable")
    entry = arranged.order[by_entry]
    place = np.repeat(np.arange(len(counts)), counts)[by_entry]
    is_copied = _in_long_runs(entry, counts[place] == 1)
    others, position = np.unique(place[~is_copied], return_inverse=True)
    places = np.concatenate([place[is_copied], others])
    return CopiesAndSums(places, entry[is_copied], entry[~is_copied], position)


def _in_long_runs(entries: np.ndarray, are_single: np.ndarray) -> np.ndarray:
    """Which single entries follow each other in long runs, of which there are not too many."""
    begins = np.ones(len(entries), bool)
    begins[1:] = (np.diff(entries) != 1) | (np.diff(are_single) != 0)
    run = np.cumsum(begins) - 1
    count = np.bincount(run) * are_single[begins]
    longest = np.sort(count)[-MAX_RUNS:]
    least = max(LONG_RUN, longest[0]) if len(count) > MAX_RUNS else LONG_RUN
    return (count >= least)[run]


def _selected(numbers: Any, entries: np.ndarray) -> Any:
    """Some of the values: by slices where they are few long runs, else by a gather."""
    if not len(entries):
        return numbers[:0]
    firsts = np.flatnonzero(np.diff(entries, prepend=-2) != 1)
    if len(firsts) > min(len(entries) / LONG_RUN, 2 * MAX_RUNS):
        return numbers.at[entries].get(mode="promise_in_bounds")
    ends = np.append(firsts[1:], len(entries))
    parts = [
        numbers[entries[first] : entries[first] + end - first]
        for first, end in zip(firsts, ends, strict=True)
    ]
    return jnp.concatenate(parts)
