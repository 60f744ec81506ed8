"""Operators that are not matrices: only a whole tangent or cotangent may go through them."""

from __future__ import annotations

from blockjac.operators.joint_map import through_jointly
from blockjac.operators.map_group import MapGroup
from blockjac.operators.operator import Blocks, present
from blockjac.terms.block import Block, rebuilt


class CompleteGroup(MapGroup):
    """An operator that takes all terms added and all factors multiplied out; deltas stay.

    A collective acts on the numbers of all devices, so a factor of this device cannot wait outside;
    a backward rule need not even be linear. Neither can be contracted with its neighbors first: a
    graph that holds one is eliminated backwards, or forwards, from end to end.
    """

    whole = True

    def _is_wide(self, cotangents: dict[int, Block]) -> bool:
        """Never use blocks instead: what enters must enter whole."""
        del cotangents
        return False

    def _pull_applied(self, cotangents: dict[int, Block]) -> list[Block | None]:
        """By one pass for all outputs."""
        return self._pull_jointly(cotangents)

    def pushforward(self, tangents: Blocks) -> list[Block | None]:
        """`sum over inputs of J star tangent`, for each output; None for no tangent."""
        nonzero = present(tangents)
        if not nonzero:
            return [None] * len(self.out_shapes)
        self._report(nonzero)
        dtype = next(iter(nonzero.values())).dtype
        linear = self._forward().only([*nonzero], range(len(self.out_shapes)))
        return [
            rebuilt(block.wrt_shape, block.out_shape, dtype, block.T.terms)
            for block in through_jointly([block.T for block in nonzero.values()], linear)
        ]
