"""Notes for the user where a loop or branches store more than their blocks need."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from blockjac.algebra.backend import planning
from blockjac.algebra.losses import following, note_excess, note_joined
from blockjac.algebra.place_counts import places_of
from blockjac.control_flow.carry_structure import Forms
from blockjac.operators.operator import Blocks

STEPS_FOLLOWED = 3
"""For how many steps of a loop structure is followed that no form restricts."""

IN_ONE_ARRAY = (
    "what it carries has one shape in every step, and is dense but for the deltas that all steps "
    "keep"
)

KEEP_DELTAS = (
    "let each step keep separate axes separate (act on each of their values by itself), or "
    "write the few steps of a short loop out in Python"
)

BRANCHES = "its branches give blocks of different structure, written as one dense array"

ALIKE = (
    "let the branches read the same places (jax.lax.cond around what they look up, not around how "
    "they use it), or compute both and choose by jnp.where"
)


def note_branches(forms: Forms, branches: Iterable[Blocks]) -> None:
    """Note where blocks of several branches have far fewer places than the form that they share.

    Args:
        forms: one for each result.
        branches: the blocks of each branch.
    """
    for form, *blocks in zip(forms, *branches, strict=True):
        if form is not None:
            note_joined(form.numel, blocks, form.size, BRANCHES, ALIKE)


def note_stacked(forms: Forms, blocks: Blocks) -> None:
    """Note where the blocks of one step have far fewer places than the forms they are kept in."""
    for form, block in zip(forms, blocks, strict=True):
        if form is not None:
            note_joined(form.numel, [block], form.size, IN_ONE_ARRAY, KEEP_DELTAS)


def note_carried(
    forms: Forms, carry: Blocks, step: Callable[[Blocks], Blocks], length: int
) -> None:
    """Note where a carried block is stored over far more numbers than it has places at the end.

    The structure is followed for a few steps; from then on the places are expected to grow as they
    did, by differences up to the second as on a grid, or to fill the block if they doubled.

    Args:
        forms: those in which the blocks are carried.
        carry: the carried blocks at the start.
        step: from carried blocks to those after one step.
        length: the number of steps.
    """
    counts = [[places_of(block) for block in carry]]
    followed = min(length, STEPS_FOLLOWED)
    with planning() as cost, following(cost):
        blocks = carry
        for _ in range(followed):
            blocks = step(blocks)
            counts.append([places_of(block) for block in blocks])
    for form, *places in zip(forms, *counts, strict=True):
        if form is not None:
            expected = _expected(places, length, form.size)
            note_excess(form.numel, expected, IN_ONE_ARRAY, KEEP_DELTAS)


def _expected(counts: Sequence[int], length: int, size: int) -> int:
    """How many places a block has after all steps, from the counts after the first few."""
    left = length + 1 - len(counts)
    if left <= 0:
        return counts[-1]
    grown = [after - before for before, after in itertools.pairwise(counts)]
    if counts[-2] and grown[-1] >= counts[-2]:
        return size
    first = max(grown[-1], 0)
    second = max(grown[-1] - grown[-2], 0) if counts[-3] else 0
    return min(counts[-1] + left * first + left * (left + 1) // 2 * second, size)
