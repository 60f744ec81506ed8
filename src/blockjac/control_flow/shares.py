"""The results of a loop's steps, one by one and all together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from blockjac.blocks import Block
from blockjac.control_flow.carry_structure import CarryStructure, Pattern, blocks_of
from blockjac.operators.operator import Blocks

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Shares(Generic[T]):
    """The results of one step: blocks, or the form, the array or the nonzero places of each.

    Attributes:
        carry: those carried to the next step.
        summed: those summed over the steps.
        slices: those kept for each step separately.
    """

    carry: Sequence[T]
    summed: Sequence[T] = ()
    slices: Sequence[T] = ()

    @property
    def all(self) -> tuple[T, ...]:
        """All parts in one tuple."""
        return (*self.carry, *self.summed, *self.slices)

    def map(self, function: Callable[[T], S]) -> Shares[S]:
        """Apply a function to each part."""
        return Shares(
            list(map(function, self.carry)),
            list(map(function, self.summed)),
            list(map(function, self.slices)),
        )


BlockShares = Shares[Block | None]
"""Blocks; None for zero."""

FormShares = Shares[CarryStructure | None]
"""The forms of blocks; None for zero."""

PlaceShares = Shares[Pattern | None]
"""Where the arrays of blocks may be nonzero; None for anywhere."""

Stack = Callable[[int, int | None, int | None], Block | None]
"""The blocks of all steps as one, from their number and the input axis and the output axis that the
steps become, None for neither."""


@dataclass(frozen=True)
class Swept:
    """The results of all steps.

    Attributes:
        carry: those carried to the end.
        totals: those summed over the steps.
        slices: those kept for each step separately; None for zero.
    """

    carry: Blocks
    totals: Blocks
    slices: Sequence[Stack | None]

    @staticmethod
    def of(forms: FormShares, arrays: Shares[Any], places: PlaceShares) -> Swept:
        """The blocks of the arrays that a loop gives; those of slices are stacked."""
        return Swept(
            blocks_of(forms.carry, arrays.carry, places.carry),
            blocks_of(forms.summed, arrays.summed, places.summed),
            [
                form and partial(form.stacked, array, may=may)
                for form, array, may in zip(forms.slices, arrays.slices, places.slices, strict=True)
            ],
        )

    def stacked(
        self, length: int, axes: Sequence[int | None], partner: int | None = None
    ) -> list[Block | None]:
        """The slices of all steps as blocks.

        Args:
            length: the number of steps.
            axes: which input axis of each block the steps become; None for none.
            partner: which output axis they become, if each step has its own result.
        """
        return [
            stack and stack(length, axis, partner)
            for stack, axis in zip(self.slices, axes, strict=True)
        ]
