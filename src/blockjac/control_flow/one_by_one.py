"""The steps of a loop one by one, each with blocks of the structure that they have just then.

What a loop carries has one shape in every step. A band that grows from step to step is therefore
carried dense, although after a few steps of a stencil most of it is still zero. Such steps are
applied one after the other, outside a loop, where that costs far less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Cost, OverBudget
from blockjac.algebra.sums import summed
from blockjac.blocks import Block, Index, add
from blockjac.control_flow.body import Blocks
from blockjac.control_flow.shares import Shares, Swept

SECONDS_A_CONTRACTION = 0.2e-6
"""What one more contraction in the program counts for, since it has to be compiled."""

CONTRACTIONS = 200
"""After so many a contraction counts twice, after twice as many three times, and so on."""

SECONDS_A_NUMBER = 100e-9
"""What one more number counts for that is carried to the end, where something is done with it."""

WORTH = 0.5
"""The share of the loop's cost that steps one by one may cost, which take longer to compile."""

FULL = 0.5
"""Past this share of what a loop carries there is no structure to be kept; a band is expected to
grow on as it does."""

NUMBERS_AN_EFFORT = 6
"""So many numbers that are listed at their places take as long to plan as one effort."""

EFFORT = 20_000
"""The effort of planning that may be spent on the steps of any loop, some tenths of a second."""

EFFORT_A_SECOND = 500_000
"""And for each second that the loop takes, about as much time as some ten runs of it."""

MOST_EFFORT = 100_000
"""No more than that: a second or two."""

EFFORT_A_STEP = 500
"""What each step takes beside its contractions."""


Step = Callable[[int, Blocks], Shares]
"""What the step of a number gives, from the carried blocks."""


def one_by_one(
    step: Step,
    steps: Sequence[int],
    carry: Blocks,
    heed: Callable[[int, Shares], None] = lambda count, shares: None,
) -> Swept:
    """Apply the steps in turn.

    Args:
        step: one of them.
        steps: their numbers, one or more, in the order in which they are applied.
        carry: what is carried at the start.
        heed: called after each step with how many there were, and what it gave.
    """
    totals: Blocks | None = None
    slices: list[Blocks] = []
    for count, number in enumerate(steps, 1):
        shares = step(number, carry)
        carry = shares.carry
        slices.append(shares.slices)
        totals = shares.summed if totals is None else list(map(_plus, totals, shares.summed))
        heed(count, shares)
    kept = [dict(zip(steps, own, strict=True)) for own in zip(*slices, strict=True)]
    return Swept(carry, totals or [], [partial(_stacked, blocks) for blocks in kept])


def planned_one_by_one(
    step: Step,
    steps: Sequence[int],
    carry: Blocks,
    seconds_a_step: float,
    carried: int,
    kept_a_step: int = 0,
) -> tuple[Swept, Cost] | None:
    """What the steps give one by one, and cost; None where a loop is the better way.

    Args:
        step: one of them, as a plan sees it.
        steps: their numbers, in the order in which they are applied.
        carry: what is carried at the start.
        seconds_a_step: what each costs in a loop.
        carried: how many numbers a loop carries.
        kept_a_step: how many numbers of each of its steps stay in the answer.
    """
    if not steps:
        return None
    whole = seconds_a_step * len(steps) + (carried + kept_a_step * len(steps)) * SECONDS_A_NUMBER
    limit = EFFORT + round(EFFORT_A_SECOND * whole)
    most = min(limit, MOST_EFFORT)
    if EFFORT_A_STEP * len(steps) > most:
        return None
    before = handled = kept = 0

    def heed(count: int, shares: Shares) -> None:
        nonlocal before, handled, kept
        numbers = _numbers(shares.carry)
        kept += _numbers(shares.slices) if kept_a_step else 0
        grown, before = max(numbers - before, 0), numbers
        handled += numbers
        left = len(steps) - count
        last = numbers + left * grown
        expected = handled + left * (numbers + last) / 2
        if count > 1 and (last > FULL * carried or expected > NUMBERS_AN_EFFORT * limit):
            raise OverBudget
        cost.spend(EFFORT_A_STEP)
        if cost.effort * len(steps) > most * count:
            raise OverBudget
        compiled = cost.contractions * (1 + cost.contractions / CONTRACTIONS)
        seconds = cost.seconds() + compiled * SECONDS_A_CONTRACTION
        in_loop = seconds_a_step * count + (carried + kept_a_step * count) * SECONDS_A_NUMBER
        if seconds + (numbers + kept) * SECONDS_A_NUMBER > WORTH * in_loop:
            raise OverBudget

    try:
        with planning(most) as cost:
            return one_by_one(step, steps, carry, heed), cost
    except OverBudget:
        return None


def _numbers(blocks: Blocks) -> int:
    return sum(block.stored for block in blocks if block is not None)


def _plus(one: Block | None, other: Block | None) -> Block | None:
    if one is None or other is None:
        return one if other is None else other
    return add(one, other)


def _stacked(
    blocks: dict[int, Block | None], length: int, place: int | None, partner: int | None
) -> Block | None:
    """The blocks of the steps as one, in which the number of the step is one more index."""
    present = {step: block for step, block in blocks.items() if block is not None}
    if not present:
        return None
    any_block = next(iter(present.values()))
    terms = [
        replace(
            term,
            out=_with(term.out, partner, Index(step)),
            wrt=_with(term.wrt, place, Index(step)),
        )
        for step, block in present.items()
        for term in block.terms
    ]
    out_shape = _with(any_block.out_shape, partner, length)
    return summed(out_shape, _with(any_block.wrt_shape, place, length), any_block.dtype, terms)


def _with(values: Sequence[Any], place: int | None, value: Any) -> tuple[Any, ...]:
    return tuple(values) if place is None else (*values[:place], value, *values[place:])
