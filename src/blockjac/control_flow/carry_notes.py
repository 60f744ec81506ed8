"""What is noted where a loop or branches store more than the blocks in them need."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from blockjac.algebra.backend import planning
from blockjac.algebra.losses import following, note_excess, note_joined
from blockjac.algebra.place_counts import places_of
from blockjac.blocks import Block
from blockjac.control_flow.carry_structure import CarryStructure

STEPS_FOLLOWED = 3
"""For how many steps of a loop the structure is followed that is not forced into a form."""


IN_ONE_ARRAY = (
    "what it carries has one shape in every step, and is dense but for the deltas that all steps "
    "keep"
)


KEEP_DELTAS = (
    "let each step keep the axes apart that are apart (act on each value of them by itself), or "
    "write the few steps of a short loop out in Python"
)


BRANCHES = "its branches give blocks of different structure, written as one dense array"


ALIKE = (
    "let the branches read the same places (jax.lax.cond around what they look up, not around how "
    "they use it), or compute both and choose by jnp.where"
)


def note_branches(
    forms: Sequence[CarryStructure | None], given: Iterable[Sequence[Block | None]]
) -> None:
    """Note where blocks of several branches have far fewer places than the form that they share.

    Args:
        forms: one for each result.
        given: for each branch its blocks.
    """
    for form, blocks in zip(forms, zip(*given, strict=True), strict=True):
        if form is not None:
            note_joined(form.numel, blocks, form.size, BRANCHES, ALIKE)


def note_stacked(forms: Sequence[CarryStructure | None], blocks: Sequence[Block | None]) -> None:
    """Note where the blocks of one step have far fewer places than the forms they are kept in."""
    for form, block in zip(forms, blocks, strict=True):
        if form is not None:
            note_joined(form.numel, [block], form.size, IN_ONE_ARRAY, KEEP_DELTAS)


def note_carried(
    forms: Sequence[CarryStructure | None],
    carry: Sequence[Block | None],
    step: Callable[[Sequence[Block | None]], Sequence[Block | None]],
    length: int,
) -> None:
    """Note where a carried block is stored over far more numbers than it has places at the end.

    The structure is followed for a few steps; from then on the places are expected to grow as they
    did, by differences up to the second as on a grid, or to fill the block where they doubled.

    Args:
        forms: in which the blocks are carried.
        carry: what is carried at the start.
        step: what a step makes of carried blocks.
        length: how many steps there are.
    """
    counts = [[places_of(block) for block in carry]]
    followed = min(length, STEPS_FOLLOWED)
    with planning() as cost, following(cost):
        blocks = carry
        for _ in range(followed):
            blocks = step(blocks)
            counts.append([places_of(block) for block in blocks])
    for form, *own in zip(forms, *counts, strict=True):
        if form is None:
            continue
        places = _expected(own, length, form.size)
        note_excess(form.numel, places, IN_ONE_ARRAY, KEEP_DELTAS)


def _expected(counts: Sequence[int], length: int, size: int) -> int:
    """How many places of a block there are after so many steps, from those after the first few."""
    left = length + 1 - len(counts)
    if left <= 0:
        return counts[-1]
    grown = [after - before for before, after in itertools.pairwise(counts)]
    if counts[-2] and grown[-1] >= counts[-2]:
        return size
    first = max(grown[-1], 0)
    second = max(grown[-1] - grown[-2], 0) if counts[-3] else 0
    return min(counts[-1] + left * first + left * (left + 1) // 2 * second, size)
