"""The places of what a loop carries, followed over the first steps until they grow no more.

In a loop what is carried is one dense array, but zeros of constants may keep it zero in places: a
lower triangle times a lower triangle is one. The steps are followed by their structure alone. When
all places that a step reaches have been reached before, no later step reaches others: what a step
makes of a union of places is the union of what it makes of each. And when the places are those
after an earlier step, all that followed that one comes again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import OverBudget
from blockjac.control_flow.body import Blocks
from blockjac.control_flow.carry_structure import CarryStructure, Pattern
from blockjac.control_flow.shares import Shares

MOST_STEPS = 64
"""After so many steps places that still grow count as full."""

EFFORT = 10_000
"""The effort of planning that may be spent on following."""


Patterns = Sequence[Pattern | None]
"""One for each array; None where any number may stand anywhere."""


@dataclass(frozen=True)
class FormsOfShares:
    """The forms of what a step gives, as `Shares` has its blocks."""

    carry: Sequence[CarryStructure | None]
    summed: Sequence[CarryStructure | None]
    slices: Sequence[CarryStructure | None]

    @property
    def all(self) -> tuple[CarryStructure | None, ...]:
        """Those that are carried, then those that are summed, then the slices'."""
        return (*self.carry, *self.summed, *self.slices)


@dataclass(frozen=True)
class Seen:
    """Where the arrays of all steps may hold other numbers than zero; None where anywhere.

    Attributes:
        carry: of what is carried to the end.
        summed: of what is summed over the steps.
        slices: of what each step gives that is kept apart.
    """

    carry: Patterns
    summed: Patterns
    slices: Sequence[Pattern | None]

    @staticmethod
    def nothing(forms: FormsOfShares) -> Seen:
        """Nothing is known."""
        return Seen(*([None] * len(own) for own in (forms.carry, forms.summed, forms.slices)))


def followed(
    step: Callable[[Blocks], Shares], carry: Blocks, forms: FormsOfShares, length: int | None
) -> Seen:
    """Where what the steps give may hold other numbers than zero.

    Args:
        step: what a step gives, from what is carried, in the structure that this has.
        carry: what is carried at the start.
        forms: of the arrays that the loop writes.
        length: how many steps there are, one or more; None if that is known at run time only, and
            may be none.
    """
    history = [_places(forms.carry, carry)]
    summed, slices = _none(forms.summed), _none(forms.slices)
    blocks = carry
    try:
        with planning(EFFORT, knows_places=True):
            while len(history) <= MOST_STEPS:
                shares = step(blocks)
                blocks = shares.carry
                history.append(_places(forms.carry, blocks))
                summed = _unions(summed, _places(forms.summed, shares.summed))
                slices = _unions(slices, _places(forms.slices, shares.slices))
                last = _last(history, length)
                if last is not None:
                    return Seen(*(list(map(_telling, own)) for own in (last, summed, slices)))
                if all(one is None or one.all() for one in (*history[-1], *summed, *slices)):
                    break
    except OverBudget:
        pass
    return Seen.nothing(forms)


def _last(history: Sequence[Patterns], length: int | None) -> Patterns | None:
    """Where what is carried may hold other numbers than zero at the end; None if not known yet.

    Args:
        history: the places at the start and after each of the first steps.
        length: how many steps there are; None if any number.
    """
    before, now = history[:-1], history[-1]
    count = len(before)
    if count == length:
        return now
    if length is not None:
        for place, earlier in enumerate(before):
            if all(map(_is_same, now, earlier)):  # from here on they come again and again
                return history[place + (length - place) % (count - place)]
        before = before[1:]
    if not before:
        return None
    reached = functools.reduce(_unions, before)
    return reached if all(map(_is_within, now, reached)) else None


def union(patterns: Patterns) -> Pattern | None:
    """The places of all patterns together; None where that is not known, or all."""
    whole: Pattern | None = patterns[0]
    for one in patterns[1:]:
        whole = _union(whole, one)
    return _telling(whole)


def unknown(forms: Sequence[CarryStructure | None], seen: Patterns) -> list[CarryStructure | None]:
    """The forms whose places are not known, None for the others."""
    return [form if may is None else None for form, may in zip(forms, seen, strict=True)]


def _none(forms: Sequence[CarryStructure | None]) -> Patterns:
    """No place at all; unknown where there is nothing."""
    return [None if form is None else np.zeros(form.shape, bool) for form in forms]


def _places(forms: Sequence[CarryStructure | None], blocks: Blocks) -> Patterns:
    return [
        None if form is None else form.places(block)
        for form, block in zip(forms, blocks, strict=True)
    ]


def _is_same(one: Pattern | None, other: Pattern | None) -> bool:
    return one is other if one is None or other is None else bool((one == other).all())


def _is_within(one: Pattern | None, other: Pattern | None) -> bool:
    """Whether the places of one are those of another; of an unknown one they may be all."""
    return other is None or (one is not None and not (one & ~other).any())


def _unions(one: Patterns, other: Patterns) -> Patterns:
    return list(map(_union, one, other))


def _union(one: Pattern | None, other: Pattern | None) -> Pattern | None:
    return None if one is None or other is None else one | other


def _telling(may: Pattern | None) -> Pattern | None:
    return None if may is None or may.all() else may
