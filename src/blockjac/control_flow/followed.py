"""The nonzero places of a loop's carry, followed over its first steps until they stop growing.

The carry of a loop is one dense array, but zeros of constants may keep it zero in places: a lower
triangle times a lower triangle is one. The steps are followed by their structure alone. Once all
places that a step reaches have been reached before, no later step reaches others, since a step maps
a union of places to the union of their images. And once the places are those after an earlier step,
the steps after that one repeat.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import OverBudget
from blockjac.control_flow.carry_structure import CarryStructure, Forms, Pattern
from blockjac.control_flow.shares import BlockShares, FormShares, PlaceShares, Shares
from blockjac.operators.operator import Blocks

MOST_STEPS = 64
"""After this many steps, places that still grow count as full."""

EFFORT = 10_000
"""The effort of planning that may be spent on following."""

Patterns = Sequence[Pattern | None]
"""One for each array; None if it may be nonzero anywhere."""


def followed(
    step: Callable[[Blocks], BlockShares], carry: Blocks, forms: FormShares, length: int | None
) -> PlaceShares:
    """Where the arrays of all steps may be nonzero: carried to the end, summed, and of slices.

    Args:
        step: one step, from carried blocks in the structure that they have just then.
        carry: the carried blocks at the start.
        forms: of the arrays that the loop writes.
        length: how many steps there are, at least one; None if that is known at run time only, and
            may be zero.
    """
    history = [_places(forms.carry, carry)]
    summed, slices = _nowhere(forms.summed), _nowhere(forms.slices)
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
                    return Shares(last, summed, slices).map(_informative)
                if all(may is None or may.all() for may in (*history[-1], *summed, *slices)):
                    break
    except OverBudget:
        pass
    return forms.map(lambda form: None)


def _last(history: Sequence[Patterns], length: int | None) -> Patterns | None:
    """Where the carry may be nonzero at the end; None if that is not known yet.

    Args:
        history: the places at the start and after each of the first steps.
        length: how many steps there are; None if any number.
    """
    before, now = history[:-1], history[-1]
    count = len(before)
    if count == length:
        return now
    if length is not None:
        for number, earlier in enumerate(before):
            if all(map(_is_same, now, earlier)):  # from here on they come again and again
                return history[number + (length - number) % (count - number)]
        before = before[1:]
    if not before:
        return None
    reached = functools.reduce(_unions, before)
    return reached if all(map(_is_within, now, reached)) else None


def union(patterns: Patterns) -> Pattern | None:
    """The places of all patterns together; None if these are unknown, or all places."""
    return _informative(functools.reduce(_union, patterns))


def unknown(forms: Forms, places: Patterns) -> list[CarryStructure | None]:
    """The forms whose places are not known, None for the others."""
    return [form if may is None else None for form, may in zip(forms, places, strict=True)]


def _nowhere(forms: Forms) -> Patterns:
    """No place at all; None for zero."""
    return [None if form is None else np.zeros(form.shape, bool) for form in forms]


def _places(forms: Forms, blocks: Blocks) -> Patterns:
    return [form and form.places(block) for form, block in zip(forms, blocks, strict=True)]


def _is_same(lhs: Pattern | None, rhs: Pattern | None) -> bool:
    return lhs is rhs if lhs is None or rhs is None else bool((lhs == rhs).all())


def _is_within(part: Pattern | None, whole: Pattern | None) -> bool:
    """Whether all places of one pattern are in another; an unknown one may have all places."""
    return whole is None or (part is not None and not (part & ~whole).any())


def _unions(lhs: Patterns, rhs: Patterns) -> Patterns:
    return list(map(_union, lhs, rhs))


def _union(lhs: Pattern | None, rhs: Pattern | None) -> Pattern | None:
    return None if lhs is None or rhs is None else lhs | rhs


def _informative(may: Pattern | None) -> Pattern | None:
    """The pattern; None if it has all places."""
    return None if may is None or may.all() else may
