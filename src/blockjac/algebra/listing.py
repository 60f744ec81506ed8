"""How the terms of a block become one list: the place of each entry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.arrays import is_known_mask
from blockjac.algebra.backend import backend
from blockjac.algebra.index_arrays import index_values
from blockjac.algebra.list_targets import own_labels, target_of
from blockjac.algebra.listed_places import each_once, full_axes, joint_places, least_numbers
from blockjac.terms.block import Block
from blockjac.terms.index import Index, Label, Lookup
from blockjac.terms.known_indices import index_along, is_known, known_entries, known_values
from blockjac.terms.term import Term

MOST_LISTED = 2**24
"""The number of entries that are listed at a time; the terms of larger blocks form groups."""


@dataclass(frozen=True, eq=False)
class Listing:
    """Where the entries of a block's terms go in one array.

    Attributes:
        target: for each axis of the block the label that it keeps, or None if it is looked up or
            follows from kept labels.
        kept: the labels of the target, each once.
        own: for each term its labels on the axes that are looked up.
        positions: for each entry, term after term, its position in the array; past the end for an
            entry that lies off the block.
        indices: for each axis the index of the array's entries.
        label: the label of the listed places.
        inner: labels of axes along which the array is full.
        is_permutation: whether the entries in their order are the array.
    """

    target: tuple[Label | None, ...]
    kept: tuple[Label, ...]
    own: tuple[tuple[Label, ...], ...]
    positions: np.ndarray
    indices: tuple[Index, ...]
    label: Label
    inner: tuple[Label, ...]
    is_permutation: bool

    @property
    def places(self) -> int:
        """The number of places that the array has."""
        return self.label.size * arrays.numel(self.inner)

    @property
    def numbers(self) -> int:
        """The numbers in the array and its lookups, for each value of the kept labels."""
        return self.places + sum(
            arrays.numel([label for label in index.lookup.labels if label not in self.kept])
            for index in self.indices
            if index.lookup is not None
        )


def count_listed(block: Block) -> int | None:
    """The number of entries in a list of a block's terms; None if places are not known."""
    target = target_of(block)
    total = 0
    for term in block.terms:
        if not all(is_known(index) for index in term.indices):
            return None
        total += arrays.numel(own_labels(term, target))
    return total


def is_listable(block: Block) -> bool:
    """Whether the places of a block are known and few enough for one list."""
    listed = count_listed(block)
    return listed is not None and listed <= MOST_LISTED


def parts_to_list(block: Block) -> list[list[Term]]:
    """The terms of a block, in their order, in groups that can be listed at a time.

    A term with too many entries is a group by itself.
    """
    target = target_of(block)
    groups: list[list[Term]] = []
    reached = MOST_LISTED
    for term in block.terms:
        count = arrays.numel(own_labels(term, target))
        if reached + count > MOST_LISTED:
            groups.append([])
            reached = 0
        groups[-1].append(term)
        reached += count
    return groups


def listing(block: Block, most: float = math.inf) -> Listing | None:
    """How the terms of a block become one list; None if its places are not known, or too many.

    Args:
        block: a sum of terms.
        most: how many numbers the list may take, lookups included. A longer one may be given
            nevertheless where it takes as long to see that.
    """
    if not is_listable(block):
        return None
    target = target_of(block)
    own = tuple(own_labels(term, target) for term in block.terms)
    rest = target.listed
    sizes = [block.shape[axis] for axis in rest]
    if math.prod(sizes) > 2**62:
        return None
    flat = np.concatenate(
        [_flat(term, labels, rest, sizes) for term, labels in zip(block.terms, own, strict=True)]
    )
    kept = target.kept
    if most < math.inf and least_numbers(flat, sizes) * arrays.numel(kept) > most:
        return None
    inside = flat >= 0
    places, inverse = each_once(flat[inside], math.prod(sizes))
    if not len(places):
        return None
    full = full_axes(places, sizes)
    outer = [axis for axis in range(len(rest)) if axis not in full]
    coordinates = np.unravel_index(places, sizes) if sizes else ()
    label, inner, positions = Label(len(places)), (), np.full(len(flat), len(places), np.int64)
    is_permutation = bool(inside.all()) and len(places) == len(flat) and not full
    if full:
        outer_sizes = [sizes[axis] for axis in outer]
        across = joint_places(coordinates, sizes, outer)
        lines, line = each_once(across, math.prod(outer_sizes))
        inner_sizes = [sizes[axis] for axis in full]
        within = joint_places(coordinates, sizes, full)
        width = math.prod(inner_sizes)
        positions[:] = len(lines) * width
        positions[inside] = (line * width + within)[inverse]
        label, inner = Label(len(lines)), tuple(map(Label, inner_sizes))
        values_on = dict(
            zip(outer, np.unravel_index(lines, outer_sizes) if outer else (), strict=True)
        )
    elif is_permutation:
        positions[:] = np.arange(len(flat))
        values_on = dict(enumerate(np.unravel_index(flat, sizes))) if sizes else {}
    else:
        positions[inside] = inverse
        values_on = dict(enumerate(coordinates))
    index_on = {rest[axis]: Index.of(digit) for axis, digit in zip(full, inner, strict=True)}
    for axis, values in values_on.items():
        index_on[rest[axis]] = index_along(values, label)
    indices = target.indices(index_on.__getitem__)
    return Listing(target.labels, kept, own, positions, indices, label, inner, is_permutation)


def running_listing(block: Block) -> Listing:
    """How the terms of a block become one list when the running program decides their places.

    The entries of the terms follow one another; none are added up.
    """
    target = target_of(block)
    own = tuple(own_labels(term, target) for term in block.terms)
    label = Label(sum(map(arrays.numel, own)))

    def joint(axis: int) -> Index:
        """The index of all entries on an axis."""
        return _joint_index([term.indices[axis] for term in block.terms], own, label)

    indices = target.indices(joint)
    positions = np.arange(label.size)
    return Listing(
        target.labels, target.kept, own, positions, indices, label, (), is_permutation=True
    )


def _joint_index(indices: Sequence[Index], own: Sequence[Sequence[Label]], label: Label) -> Index:
    """The places of several terms on an axis, one term after the other."""
    sizes = [arrays.sizes(labels) for labels in own]
    if all(map(is_known, indices)):
        parts = [
            np.broadcast_to(known_values(index, labels), shape).ravel()
            for index, labels, shape in zip(indices, own, sizes, strict=True)
        ]
        return index_along(np.concatenate(parts), label)
    bounds = [index.bounds() for index in indices]
    known = [pair for pair in bounds if pair is not None]
    joint = (min(low for low, _ in known), max(high for _, high in known)) if known else None

    def emit() -> Any:
        parts = [
            jnp.broadcast_to(arrays.aligned(index_values(index), labels), shape).ravel()
            for index, labels, shape in zip(indices, own, sizes, strict=True)
        ]
        return jnp.concatenate(parts)

    values = backend().factor((label,), np.dtype(np.int32), emit)
    limits = joint if len(known) == len(bounds) else None
    return Index(0, (), Lookup(values.array, (label,), limits))


def renaming(term: Term, listing: Listing) -> dict[Label, Label]:
    """A mapping from a term's own labels to those that the list keeps for its axes."""
    return {
        index.labels[0]: label
        for index, label in zip(term.indices, listing.target, strict=True)
        if label is not None and index.labels
    }


def _flat(
    term: Term, labels: Sequence[Label], rest: Sequence[int], sizes: Sequence[int]
) -> np.ndarray:
    """The place of each entry on the axes that are looked up, as one number.

    It is -1 for an entry that lies off the block or that a known mask drops.
    """
    shape = arrays.sizes(labels)
    total, inside = np.zeros((1,) * len(shape), np.int64), None
    for axis, size in zip(rest, sizes, strict=True):
        index = term.indices[axis]
        values = known_values(index, labels)
        total = total * size + values
        if not index.within(size):
            is_on = (values >= 0) & (values < size)
            inside = is_on if inside is None else inside & is_on
    for factor in term.factors:
        if is_known_mask(factor) and set(labels).issuperset(factor.labels):
            is_on = known_entries(factor.array, factor.labels, labels)
            inside = is_on if inside is None else inside & is_on
    if inside is not None:
        total = np.where(inside, total, -1)
    return np.broadcast_to(total, shape).ravel()
