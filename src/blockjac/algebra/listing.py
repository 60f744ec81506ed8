"""How the terms of a block become one list: which entry goes where."""

from __future__ import annotations

import itertools
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
from blockjac.terms.block import Block, delta_pairs
from blockjac.terms.index import Index, Label, Lookup
from blockjac.terms.known_indices import index_along, is_known, known_entries, known_values
from blockjac.terms.term import Term

MOST_LISTED = 2**24
"""Up to so many entries are listed at a time; of more, some terms are listed after each other."""


@dataclass(frozen=True, eq=False)
class Listing:
    """Where the entries of a block's terms go in one array.

    Attributes:
        target: for each axis of the block the label that it keeps, or None where it is looked up.
        kept: the labels of the target, each once.
        own: for each term its labels on the axes that are looked up.
        positions: for each entry, term after term, its place in the array; past its end for one
            that lies off the block.
        indices: for each axis the index of the array's entries.
        label: over which the array runs.
        inner: labels of axes along which the array is full.
        is_permutation: whether the entries as they come are the array.
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
        """How many places the array has."""
        return self.label.size * arrays.numel(self.inner)

    @property
    def numbers(self) -> int:
        """How many numbers the array and its lookups are, for each value of the kept labels."""
        return self.places + sum(
            math.prod(index.lookup.array.shape)
            for index in self.indices
            if index.lookup is not None
        )


def count_listed(block: Block) -> int | None:
    """How many entries the terms of a block would list; None where places are not known."""
    target = _target(block)
    total = 0
    for term in block.terms:
        if not all(is_known(index) for index in term.indices):
            return None
        total += arrays.numel(_own_labels(term, target))
    return total


def is_listable(block: Block) -> bool:
    """Whether the places of a block are known and few enough for one list."""
    listed = count_listed(block)
    return listed is not None and listed <= MOST_LISTED


def parts_to_list(block: Block) -> list[list[Term]]:
    """The terms of a block in groups, in their order, that can be listed at a time.

    A term of too many entries is a group of its own.
    """
    target = _target(block)
    groups: list[list[Term]] = []
    reached = MOST_LISTED
    for term in block.terms:
        count = arrays.numel(_own_labels(term, target))
        if reached + count > MOST_LISTED:
            groups.append([])
            reached = 0
        groups[-1].append(term)
        reached += count
    return groups


def listing(block: Block) -> Listing | None:
    """How the terms of a block become one; None where places are not known, or too many."""
    if not is_listable(block):
        return None
    target = _target(block)
    own = tuple(_own_labels(term, target) for term in block.terms)
    rest = [axis for axis, label in enumerate(target) if label is None]
    sizes = [block.shape[axis] for axis in rest]
    if math.prod(sizes) > 2**62:
        return None
    flat = np.concatenate(
        [_flat(term, labels, rest, sizes) for term, labels in zip(block.terms, own, strict=True)]
    )
    inside = flat >= 0
    found, inverse = _each_once(flat[inside], math.prod(sizes))
    if not len(found):
        return None
    full = _full_axes(found, sizes)
    outer = [place for place in range(len(rest)) if place not in full]
    coordinates = np.unravel_index(found, sizes) if sizes else ()
    label, inner, positions = Label(len(found)), (), np.full(len(flat), len(found), np.int64)
    is_permutation = bool(inside.all()) and len(found) == len(flat) and not full
    if full:
        outside = [sizes[place] for place in outer]
        lines, line = np.unique(_joint(coordinates, sizes, outer), return_inverse=True)
        inner_sizes = [sizes[place] for place in full]
        within = _joint(coordinates, sizes, full)
        width = math.prod(inner_sizes)
        positions[:] = len(lines) * width
        positions[inside] = (line * width + within)[inverse]
        label, inner = Label(len(lines)), tuple(map(Label, inner_sizes))
        places = dict(zip(outer, np.unravel_index(lines, outside) if outer else (), strict=True))
    elif is_permutation:
        positions[:] = np.arange(len(flat))
        places = dict(enumerate(np.unravel_index(flat, sizes))) if sizes else {}
    else:
        positions[inside] = inverse
        places = dict(enumerate(coordinates))
    on_axis = {rest[place]: Index.of(one) for place, one in zip(full, inner, strict=True)}
    for place, values in places.items():
        on_axis[rest[place]] = index_along(values, label)
    kept = arrays.unique([one for one in target if one is not None])
    indices = tuple(
        on_axis[axis] if one is None else Index.of(one) for axis, one in enumerate(target)
    )
    return Listing(tuple(target), kept, own, positions, indices, label, inner, is_permutation)


def running_listing(block: Block) -> Listing:
    """How the terms of a block become one where the running program decides where they stand.

    Their entries follow each other, and so do their places: none are added up.
    """
    target = _target(block)
    own = tuple(_own_labels(term, target) for term in block.terms)
    label = Label(sum(map(arrays.numel, own)))
    indices = tuple(
        _joint_index([term.indices[axis] for term in block.terms], own, label)
        if kept is None
        else Index.of(kept)
        for axis, kept in enumerate(target)
    )
    kept = arrays.unique([one for one in target if one is not None])
    positions = np.arange(label.size)
    return Listing(tuple(target), kept, own, positions, indices, label, (), is_permutation=True)


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
    known = [each for each in bounds if each is not None]
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


def renaming(term: Term, found: Listing) -> dict[Label, Label]:
    """From a term's own labels to those that the list keeps for its axes."""
    return {
        index.labels[0]: label
        for index, label in zip(term.indices, found.target, strict=True)
        if label is not None and index.labels
    }


def _target(block: Block) -> list[Label | None]:
    """For each axis the label that it keeps: deltas and whole axes of all terms; else None."""
    rank = len(block.out_shape)
    target: list[Label | None] = [None] * len(block.shape)
    for i, j in delta_pairs(block):
        if target[i] is None and target[rank + j] is None:
            target[i] = target[rank + j] = Label(block.out_shape[i])
    for axis, size in enumerate(block.shape):
        if target[axis] is None and size != 1 and _is_whole(block, axis, size):
            target[axis] = Label(size)
    return target


def _is_whole(block: Block, axis: int, size: int) -> bool:
    """Whether in every term an axis is one plain label that no other axis has."""
    return all(
        term.indices[axis].is_plain(size)
        and sum(term.indices[axis].labels[0] in index.labels for index in term.indices) == 1
        for term in block.terms
    )


def _own_labels(term: Term, target: Sequence[Label | None]) -> tuple[Label, ...]:
    return arrays.unique(
        [
            label
            for index, kept in zip(term.indices, target, strict=True)
            if kept is None
            for label in index.labels
        ]
    )


def _flat(
    term: Term, labels: Sequence[Label], rest: Sequence[int], sizes: Sequence[int]
) -> np.ndarray:
    """The place of each entry on the axes that are looked up, as one number; -1 where none is.

    That is off the block, and where a mask that is known takes it out.
    """
    shape = arrays.sizes(labels)
    total, inside = np.zeros((1,) * len(shape), np.int64), None
    for axis, size in zip(rest, sizes, strict=True):
        index = term.indices[axis]
        values = known_values(index, labels)
        total = total * size + values
        if not index.within(size):
            here = (values >= 0) & (values < size)
            inside = here if inside is None else inside & here
    for factor in term.factors:
        if is_known_mask(factor) and set(labels).issuperset(factor.labels):
            here = known_entries(factor.array, factor.labels, labels)
            inside = here if inside is None else inside & here
    if inside is not None:
        total = np.where(inside, total, -1)
    return np.broadcast_to(total, shape).ravel()


TABLE = 64
"""A table of so many times the numbers is faster than to sort them."""


def _each_once(numbers: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers in order, each once, and for each as it came its place among those.

    Args:
        numbers: integers from 0 on.
        limit: all of them are below.
    """
    if limit > TABLE * len(numbers):
        return np.unique(numbers, return_inverse=True)
    is_there = np.zeros(limit, bool)
    is_there[numbers] = True
    found = np.flatnonzero(is_there)
    place = np.empty(limit, np.int64)
    place[found] = np.arange(len(found))
    return found, place[numbers]


def _full_axes(found: np.ndarray, sizes: Sequence[int]) -> list[int]:
    """The axes that are full wherever they have an entry, where that stores fewest numbers."""
    axes = [place for place, size in enumerate(sizes) if size > 1]
    best, choice = len(found) * (1 + len(axes)), []
    if len(axes) > 6:
        return choice
    coordinates = np.unravel_index(found, sizes) if sizes else ()
    for count in range(1, len(axes) + 1):
        for full in itertools.combinations(axes, count):
            width = math.prod(sizes[place] for place in full)
            if len(found) % width:
                continue
            outer = [place for place in range(len(sizes)) if place not in full]
            number = len(np.unique(_joint(coordinates, sizes, outer)))
            cost = number * (width + len(axes) - count)
            if number * width == len(found) and cost < best:
                best, choice = cost, list(full)
    return choice


def _joint(
    coordinates: Sequence[np.ndarray], sizes: Sequence[int], chosen: Sequence[int]
) -> np.ndarray:
    """The place on the chosen axes as one number."""
    total = np.zeros_like(coordinates[0])
    for place in chosen:
        total = total * sizes[place] + coordinates[place]
    return total
