"""Lists of who meets whom, read off the blocks between systems and what is left."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.entries import Piece, is_static, places
from blockjac.base.arrays import Shape
from blockjac.devices import host_limit
from blockjac.exports.prototypes import kept_for_pattern
from blockjac.linear_systems.groups import Family, Rows
from blockjac.linear_systems.meetings import Meetings
from blockjac.linear_systems.way import BYTES_A_PLACE, SECONDS_A_PLACE, Options
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.index import Label
from blockjac.terms.term import Term


def meetings_of(across: Rows, family: Family) -> Meetings | None:
    """The meetings that the blocks between systems and what is left list; None if they list none.

    Args:
        across: the blocks of the eliminated variables by the others, at hand and at known places.
        family: the axis of each eliminated variable that numbers the systems.
    """
    spread = [spread_axes(column) for column in zip(*across, strict=True)]
    shapes = [block.wrt_shape for block in across[0]]
    groups, unknowns = _grouped_unknowns(shapes, spread)
    firsts = list(itertools.accumulate(map(len, groups), initial=0))
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for i, row in enumerate(across):
        for j, block in enumerate(row):
            for term in block.terms:
                located = _located(term, block, family[i], spread[j])
                if located is None:
                    return None
                system, group = located
                parts.append((system, np.where(system < 0, -1, group + firsts[j])))
    if not parts:
        return None
    count = firsts[-1]
    keys = np.concatenate([np.where(s < 0, -1, s * count + g) for s, g in parts])
    found, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    outside = int(found[0] < 0)
    first = np.where(found < 0, np.iinfo(np.int64).max, first)
    order = np.argsort(first, kind="stable")  # by their first entry, so that one list is a copy
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    met = found[order][: len(found) - outside]
    listed = np.split(rank[inverse], np.cumsum([len(system) for system, _ in parts])[:-1])
    systems = across[0][0].out_shape[family[0]]
    depth = sum(math.prod(row[0].out_shape) // systems for row in across)
    rest = sum(map(math.prod, shapes))
    return Meetings(systems, depth, met // count, met % count, listed, unknowns, rest)


def listed_meetings(
    across: Rows, family: Family, options: Options, limit: float
) -> Meetings | None:
    """The same, where the lists are known and quickly made, and tell more than whole variables.

    Args:
        across: as for `meetings_of`.
        family: as for `meetings_of`.
        options: whether to make lists however long it takes.
        limit: about how long it takes without lists, in seconds.
    """
    spread = [spread_axes(column) for column in zip(*across, strict=True)]
    if all(
        len(axes) == len(block.wrt_shape) for axes, block in zip(spread, across[0], strict=True)
    ):
        return None
    entries = sum(
        arrays.numel(coarse.labels)
        for i, row in enumerate(across)
        for j, block in enumerate(row)
        for term in block.terms
        if (coarse := coarse_term(term, block, family[i], spread[j])) is not None
    )
    is_short = options.is_patient or SECONDS_A_PLACE * entries < limit
    if not is_short or BYTES_A_PLACE * entries > host_limit() or not is_static(across):
        return None
    axes = tuple(sorted(family.items()))
    made = kept_for_pattern(
        across, f"meetings {axes}", lambda bare: _Kept(meetings_of(bare, family))
    )
    meetings = made.meetings
    if meetings is None or BYTES_A_PLACE * meetings.pairs > host_limit():
        return None
    is_short = options.is_patient or SECONDS_A_PLACE * meetings.pairs < limit
    return meetings if is_short else None


@dataclass(frozen=True, eq=False)
class _Kept:
    """What is kept for a pattern of couplings."""

    meetings: Meetings | None

    @property
    def nbytes(self) -> int:
        """About how many bytes that takes."""
        return 64 if self.meetings is None else self.meetings.nbytes


def matrices_of(across: Rows, family: Family, meetings: Meetings, dtype: Any) -> jax.Array:
    """The coupling at each meeting, `(M, depth, width)`."""
    width = meetings.unknowns.shape[1]
    total = jnp.zeros((meetings.count, meetings.depth, width), dtype)
    numbers, first = iter(meetings.listed), 0
    spread = [spread_axes(column) for column in zip(*across, strict=True)]
    for i, row in enumerate(across):
        depth = math.prod(row[0].out_shape) // meetings.systems
        for j, block in enumerate(row):
            for term in block.terms:
                part = windows(term, block, family[i], spread[j], dtype)
                at = next(numbers)
                if len(at) == meetings.count and np.array_equal(at, np.arange(len(at))):
                    sides = [(0, 0), (first, meetings.depth - first - depth)]
                    total = total + jnp.pad(part, [*sides, (0, width - part.shape[2])])
                    continue
                place = total[:, first : first + depth, : part.shape[2]]
                place = place.at[at].add(part, mode="drop")
                total = total.at[:, first : first + depth, : part.shape[2]].set(place)
        first += depth
    return total


def spread_axes(column: Sequence[Block]) -> tuple[int, ...]:
    """The axes of a variable that is left along which every entry has all places."""
    shape = column[0].wrt_shape
    return tuple(
        axis
        for axis, size in enumerate(shape)
        if all(_is_spread(term, term.wrt[axis], size) for block in column for term in block.terms)
    )


def _is_spread(term: Term, index: Any, size: int) -> bool:
    """Whether an index is a number, or runs along its axis by a label that no other index has."""
    if index.constant or size == 1:
        return index.lookup is None
    return index.single is not None and _users(term, index.single[0]) == 1


def _users(term: Term, label: Label) -> int:
    """How many indices have a label."""
    return sum(label in index.labels for index in term.indices)


def _grouped_unknowns(
    shapes: Sequence[Shape], spread: Sequence[tuple[int, ...]]
) -> tuple[list[np.ndarray], np.ndarray]:
    """The unknowns of the groups of each variable, and those of all, padded to the same number."""
    rest, first = sum(map(math.prod, shapes)), 0
    groups: list[np.ndarray] = []
    for shape, axes in zip(shapes, spread, strict=True):
        numbers = first + np.arange(math.prod(tuple(shape))).reshape(tuple(shape))
        coarse = [axis for axis in range(len(shape)) if axis not in axes]
        width = math.prod(shape[axis] for axis in axes)
        groups.append(np.transpose(numbers, (*coarse, *axes)).reshape(-1, width))
        first += math.prod(shape)
    widest = max(part.shape[1] for part in groups)
    padded = [
        np.pad(part, [(0, 0), (0, widest - part.shape[1])], constant_values=rest) for part in groups
    ]
    return groups, np.concatenate(padded)


def coarse_term(term: Term, block: Block, axis: int, spread: tuple[int, ...]) -> Term | None:
    """What tells the system and the group; None if that is not all but whole axes."""
    local = [n for n in range(len(block.out_shape)) if n != axis]
    if not all(_is_spread(term, term.out[n], block.out_shape[n]) for n in local):
        return None
    rest = tuple(index for n, index in enumerate(term.wrt) if n not in spread)
    coarse = Term((), (term.out[axis],), rest)
    inside = {label for index in term.indices for label in index.labels}
    return coarse if set(term.labels) <= inside else None


def _located(
    term: Term, block: Block, axis: int, spread: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The system and the group of each value of the labels that tell them; -1 off the block."""
    coarse = coarse_term(term, block, axis, spread)
    if coarse is None:
        return None
    groups = tuple(size for n, size in enumerate(block.wrt_shape) if n not in spread)
    bare = rebuilt((block.out_shape[axis],), groups, block.dtype, [coarse])
    found = places(Piece(coarse, bare, 0, 0))
    outside = False if found.inside is None else ~found.inside
    return np.where(outside, -1, found.rows), np.where(outside, -1, found.columns)


def windows(term: Term, block: Block, axis: int, spread: tuple[int, ...], dtype: Any) -> jax.Array:
    """The values of a term, `(entries of its list, depth, width)`."""
    coarse = cast("Term", coarse_term(term, block, axis, spread)).labels
    sides = [(n, term.out, block.out_shape) for n in range(len(term.out)) if n != axis]
    sides += [(n, term.wrt, block.wrt_shape) for n in spread]
    whole = [(indices[n], shape[n]) for n, indices, shape in sides]
    labels = [*coarse, *(label for index, _ in whole for label in index.labels)]
    if term.factors:
        product = arrays.product(term.factors, term.coefficient, dtype, tuple(labels))
        values = jnp.asarray(arrays.aligned(product, labels), dtype)
    else:
        values = jnp.full((1,) * len(labels), term.coefficient, dtype)
    values = jnp.broadcast_to(values, arrays.sizes(labels))
    sizes = [math.prod(label.size for label in index.labels) for index, _ in whole]
    values = jnp.reshape(values, (arrays.numel(coarse), *sizes))
    for position, (index, size) in enumerate(whole, 1):
        values = _along_axis(values, position, index, size)
    depth = math.prod(size for _, size in whole[: len(term.out) - 1])
    return jnp.reshape(values, (len(values), depth, -1))


def _along_axis(values: jax.Array, position: int, index: Any, size: int) -> jax.Array:
    """Values along the label of an index, put where it says along a whole axis; zero elsewhere."""
    if index.is_plain(size):
        return values
    count = values.shape[position]
    stride = index.single[1] if index.single else 1
    first = index.offset
    if stride < 0:
        values, first, stride = jnp.flip(values, position), first + stride * (count - 1), -stride
    edges = [(0, 0, 0)] * values.ndim
    edges[position] = (first, size - first - (count - 1) * stride - 1, stride - 1)
    return jax.lax.pad(values, jnp.zeros((), values.dtype), edges)
