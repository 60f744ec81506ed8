"""What the steps of a loop give: each one alone, and all of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blockjac.blocks import Block
from blockjac.control_flow.body import Blocks


@dataclass(frozen=True)
class Shares:
    """What one step gives: blocks to carry on, to sum over the steps, to keep apart."""

    carry: Blocks
    summed: Blocks
    slices: Blocks


Stack = Callable[[int, int | None, int | None], Block | None]
"""The blocks of all steps as one, from how many there are and where among the input and the output
axes their number goes, None for nowhere."""


@dataclass(frozen=True)
class Swept:
    """What all steps gave.

    Attributes:
        carry: carried to the end.
        totals: summed over the steps.
        slices: what each step gave that is kept apart; None for zero.
    """

    carry: Blocks
    totals: Blocks
    slices: Sequence[Stack | None]

    def stacked(
        self, length: int, places: Sequence[int | None], partner: int | None = None
    ) -> list[Block | None]:
        """The shares of all steps as blocks.

        Args:
            length: how many steps.
            places: where in the input axes the steps go; None for nowhere.
            partner: where in the output axes, if each step has its own result.
        """
        return [
            None if stack is None else stack(length, place, partner)
            for stack, place in zip(self.slices, places, strict=True)
        ]
