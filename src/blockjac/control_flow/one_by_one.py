"""The steps of a loop one by one, each with blocks in the structure that they have just then.

The carry of a loop has one shape in every step. A band that grows from step to step is therefore
carried dense, although after a few steps of a stencil most of it is still zero. Such steps are
applied one after the other, outside a loop, if that costs far less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Cost, OverBudget
from blockjac.algebra.sums import summed
from blockjac.blocks import Block, Index
from blockjac.control_flow.carry_structure import inserted
from blockjac.control_flow.shares import BlockShares, Swept
from blockjac.operators.operator import Blocks, added

SECONDS_A_CONTRACTION = 0.2e-6
"""The price of one more contraction in the program, since it has to be compiled."""

CONTRACTIONS = 200
"""After this many a contraction counts twice, after twice as many three times, and so on."""

SECONDS_A_NUMBER = 100e-9
"""The price of one more number that is carried to the end, where something is done with it."""

WORTH = 0.5
"""The share of the loop's cost that single steps may cost, since they take longer to compile."""

FULL = 0.5
"""Past this share of a loop's carry no structure is worth keeping; a band is expected to keep
growing as it does."""

NUMBERS_AN_EFFORT = 6
"""How many numbers that are listed at their places take as long to plan as one effort."""

EFFORT = 20_000
"""The effort of planning that may be spent on the steps of any loop, some tenths of a second."""

EFFORT_A_SECOND = 500_000
"""The effort on top of that for each second of the loop, about the time of ten runs of it."""

MOST_EFFORT = 100_000
"""The most effort in any case: a second or two."""

EFFORT_A_STEP = 500
"""The effort of each step besides its contractions."""

Step = Callable[[int, Blocks], BlockShares]
"""The step of a number, from the carried blocks."""


def one_by_one(
    step: Step,
    steps: Sequence[int],
    carry: Blocks,
    check: Callable[[int, BlockShares], None] = lambda count, shares: None,
) -> Swept:
    """Apply the steps in turn.

    Args:
        step: one of them.
        steps: their numbers, one or more, in the order in which they are applied.
        carry: the carried blocks at the start.
        check: called after each step with the count so far, and the step's results.
    """
    totals: Blocks | None = None
    slices: list[Blocks] = []
    for count, number in enumerate(steps, 1):
        shares = step(number, carry)
        carry = shares.carry
        slices.append(shares.slices)
        summands = [shares.summed] if totals is None else [totals, shares.summed]
        totals = [added(blocks) for blocks in zip(*summands, strict=True)]
        check(count, shares)
    kept = [dict(zip(steps, blocks, strict=True)) for blocks in zip(*slices, strict=True)]
    return Swept(carry, totals or [], [partial(_stacked, blocks) for blocks in kept])


def planned_one_by_one(
    step: Step,
    steps: Sequence[int],
    carry: Blocks,
    seconds_a_step: float,
    carried: int,
    kept_a_step: int = 0,
) -> tuple[Swept, Cost] | None:
    """The results of the steps one by one, and their cost; None if a loop is better.

    Args:
        step: one of them, as a plan sees it.
        steps: their numbers, in the order in which they are applied.
        carry: the carried blocks at the start.
        seconds_a_step: the cost of each in a loop.
        carried: how many numbers a loop carries.
        kept_a_step: how many numbers of each step stay in the result.
    """
    if not steps:
        return None
    whole = seconds_a_step * len(steps) + (carried + kept_a_step * len(steps)) * SECONDS_A_NUMBER
    limit = EFFORT + round(EFFORT_A_SECOND * whole)
    most = min(limit, MOST_EFFORT)
    if EFFORT_A_STEP * len(steps) > most:
        return None
    before = handled = kept = 0

    def check(count: int, shares: BlockShares) -> None:
        """Give up once the steps are expected to fill the carry, or to cost more than a loop."""
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
            return one_by_one(step, steps, carry, check), cost
    except OverBudget:
        return None


def _numbers(blocks: Blocks) -> int:
    return sum(block.stored for block in blocks if block is not None)


def _stacked(
    blocks: dict[int, Block | None], length: int, axis: int | None, partner: int | None
) -> Block | None:
    """The blocks of the steps as one, in which the number of the step is one more index."""
    nonzero = {step: block for step, block in blocks.items() if block is not None}
    if not nonzero:
        return None
    any_block = next(iter(nonzero.values()))
    terms = [
        replace(
            term,
            out=inserted(term.out, partner, Index(step)),
            wrt=inserted(term.wrt, axis, Index(step)),
        )
        for step, block in nonzero.items()
        for term in block.terms
    ]
    out_shape = inserted(any_block.out_shape, partner, length)
    return summed(out_shape, inserted(any_block.wrt_shape, axis, length), any_block.dtype, terms)
