"""The places of what a loop carries, followed over the first steps until they grow no more.

In a loop what is carried is one dense array, but zeros of constants may keep it zero in places: a
lower triangle times a lower triangle is one. The steps are followed by their structure alone. When
all places that a step reaches have been reached before, no later step reaches others: what a step
makes of a union of places is the union of what it makes of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from blockjac.blocks.cost import OverBudget, following_places, planning
from blockjac.nested.body import Blocks
from blockjac.nested.form import Form, Pattern
from blockjac.nested.shares import Shares

MOST_STEPS = 8
"""After so many steps places that still grow count as full."""

EFFORT = 20_000
"""The effort of planning that may be spent on following."""


@dataclass(frozen=True)
class FormsOfShares:
    """The forms of what a step gives, as `Shares` has its blocks."""

    carry: Sequence[Form | None]
    summed: Sequence[Form | None]
    slices: Sequence[Form | None]


@dataclass(frozen=True)
class Seen:
    """Where the arrays of all steps may hold other numbers than zero; None where anywhere.

    Attributes:
        carry: of what is carried to the end.
        summed: of what is summed over the steps.
        slices: of what each step gives that is kept apart.
    """

    carry: Sequence[Pattern | None]
    summed: Sequence[Pattern | None]
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
    reached = _places(forms.carry, carry)
    whole = Seen(
        reached if length is None else _none(forms.carry), _none(forms.summed), _none(forms.slices)
    )
    blocks = carry
    try:
        with planning(EFFORT), following_places():
            for count in range(1, MOST_STEPS + 1):
                shares = step(blocks)
                blocks = shares.carry
                found = Seen(
                    _places(forms.carry, blocks),
                    _places(forms.summed, shares.summed),
                    _places(forms.slices, shares.slices),
                )
                known = all(map(_is_within, found.carry, whole.carry))
                whole = Seen(
                    _unions(whole.carry, found.carry),
                    _unions(whole.summed, found.summed),
                    _unions(whole.slices, found.slices),
                )
                if count == length or known:
                    return Seen(*(list(map(_telling, own)) for own in _parts(whole)))
                if all(one is None or one.all() for own in _parts(whole) for one in own):
                    break
    except OverBudget:
        pass
    return Seen.nothing(forms)


def union(patterns: Sequence[Pattern | None]) -> Pattern | None:
    """The places of all patterns together; None where that is not known, or all."""
    whole: Pattern | None = patterns[0]
    for one in patterns[1:]:
        whole = _union(whole, one)
    return _telling(whole)


def _parts(seen: Seen) -> tuple[Sequence[Pattern | None], ...]:
    return seen.carry, seen.summed, seen.slices


def _none(forms: Sequence[Form | None]) -> list[Pattern | None]:
    """No place at all; unknown where there is nothing."""
    return [None if form is None else np.zeros(form.shape, bool) for form in forms]


def _places(forms: Sequence[Form | None], blocks: Blocks) -> list[Pattern | None]:
    return [
        None if form is None else form.places(block)
        for form, block in zip(forms, blocks, strict=True)
    ]


def _is_within(one: Pattern | None, other: Pattern | None) -> bool:
    """Whether the places of one are those of another; of an unknown one they may be all."""
    return other is None or (one is not None and not (one & ~other).any())


def _unions(one: Sequence[Pattern | None], other: Sequence[Pattern | None]) -> list[Pattern | None]:
    return list(map(_union, one, other))


def _union(one: Pattern | None, other: Pattern | None) -> Pattern | None:
    return None if one is None or other is None else one | other


def _telling(may: Pattern | None) -> Pattern | None:
    return None if may is None or may.all() else may
