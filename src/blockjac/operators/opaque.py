"""Operators that are no matrices: only a whole tangent or cotangent may go through them."""

from __future__ import annotations

from collections.abc import Sequence

from blockjac.operators.joint_map import through_jointly
from blockjac.operators.map_group import MapGroup
from blockjac.operators.operator import present
from blockjac.terms.block import Block, rebuilt


class CompleteGroup(MapGroup):
    """An operator that takes all terms added and all factors multiplied out; deltas stay.

    A collective acts on the numbers of all devices, so that a factor of this device cannot wait
    outside; a backward rule need not even be linear. Neither can be contracted with its neighbours
    first: a graph that holds one is eliminated backwards, or forwards, from end to end.
    """

    whole = True

    def _is_wide(self, given: dict[int, Block]) -> bool:
        """Its blocks are no way round: what goes in goes in whole."""
        del given
        return False

    def _pull_applied(self, given: dict[int, Block]) -> list[Block | None]:
        """By one pass for all outputs."""
        return self._pull_jointly(given)

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`sum over inputs of J star tangent`, for each output; None for no tangent."""
        given = present(tangents)
        if not given:
            return [None] * len(self.out_shapes)
        self._tell_of(given)
        flipped = {place: block.T for place, block in given.items()}
        dtype = next(iter(given.values())).dtype
        return [
            rebuilt(block.wrt_shape, block.out_shape, dtype, block.T.terms)
            for block in through_jointly(
                [*flipped.values()],
                self._forward().only([*flipped], range(len(self.out_shapes))),
            )
        ]
