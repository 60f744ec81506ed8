"""A scan as an operator: swept from the other end, or alongside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.algebra.tidy import multiplied_out
from blockjac.blocks import Block
from blockjac.control_flow.loop import loop_of
from blockjac.control_flow.nested_group import Arrays, NestedGroup
from blockjac.control_flow.shares import BlockShares, Shares, Swept
from blockjac.control_flow.slices import aligned_axis, cut_all
from blockjac.control_flow.sweep import Act, ScanSweep
from blockjac.elimination.elimination_graph import EliminationGraph
from blockjac.graph.graph import Equation
from blockjac.operators.operator import Blocks, transposed


class ScanGroup(NestedGroup):
    """A scan: pulled back by a scan from the other end, pushed forward by one alongside."""

    carries = True

    def __init__(
        self,
        equation: Equation,
        inputs: Arrays,
        outs: Arrays,
        residuals: Any,
        active: Sequence[bool],
    ) -> None:
        super().__init__(equation, inputs, outs, residuals, active)
        self.loop = loop = loop_of(equation, active)
        graph = loop.body.graph
        self.x_axes = [_step_axis(graph.avals[value]) for value in loop.parted(graph.inputs)[2]]
        self.y_axes = [_step_axis(graph.aval(output)) for output in graph.outputs[loop.carry :]]

    @property
    def can_pull(self) -> bool:
        """Whether the operators of a step can."""
        return self.loop.body.part.is_reversible

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """By a loop from the other end."""
        loop = self.loop
        carry, ys = cotangents[: loop.carry], cotangents[loop.carry :]
        axis = None if _any(carry) else aligned_axis(ys, self.y_axes)

        def pull(edges: EliminationGraph, carry: Blocks, slices: Blocks) -> BlockShares:
            consts, before, xs = loop.parted(loop.body.pulled(edges, [*carry, *slices]))
            return Shares(before, consts, xs)

        def pull_separately(edges: EliminationGraph, carry: Blocks, slices: Blocks) -> BlockShares:
            shares = pull(edges, carry, slices)
            return Shares(shares.carry, [], [*shares.summed, *shares.slices])

        if axis is not None:  # each step has its own result: they may stay separate
            swept = self._swept(pull_separately, carry, ys, axis, backwards=True)
            if not _any(swept.carry):
                axes = [*[None] * loop.consts, *self.x_axes]
                shares = swept.stacked(loop.length, axes, axis)
                return [*shares[: loop.consts], *swept.carry, *shares[loop.consts :]]
        swept = self._swept(pull, carry, ys, None, backwards=True)
        return [*swept.totals, *swept.carry, *swept.stacked(loop.length, self.x_axes)]

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """By a loop alongside."""
        loop = self.loop
        consts, carry, xs = loop.parted(transposed(tangents))
        consts = [block and multiplied_out(block) for block in consts]
        axis = None if _any(consts) or _any(carry) else aligned_axis(xs, self.x_axes)

        def push(edges: EliminationGraph, carry: Blocks, slices: Blocks) -> BlockShares:
            inputs = transposed([*consts, *carry, *slices])
            outs = transposed(loop.body.pushed(edges, inputs))
            return Shares(outs[: loop.carry], [], outs[loop.carry :])

        swept = self._swept(push, carry, xs, axis, backwards=False)
        if axis is not None and _any(swept.carry):
            axis = None
            swept = self._swept(push, carry, xs, axis, backwards=False)
        return transposed([*swept.carry, *swept.stacked(loop.length, self.y_axes, axis)])

    def _swept(
        self, act: Act, carry: Blocks, stacks: Blocks, axis: int | None, backwards: bool
    ) -> Swept:
        """Sweep blocks through the loop.

        Args:
            act: one step.
            carry: the carried blocks at the start.
            stacks: the blocks that each step takes a slice of.
            axis: an output axis that is cut with them; None for none.
            backwards: against the direction of the loop.
        """
        return ScanSweep(
            body=self.loop.body,
            act=act,
            carry=carry,
            cut=cut_all(stacks, self.y_axes if backwards else self.x_axes, axis),
            backwards=backwards,
            loop=self.loop,
            residuals=self.residuals,
        ).run()


def _any(blocks: Blocks) -> bool:
    """Whether one of the blocks is not zero."""
    return any(block is not None for block in blocks)


def _step_axis(aval: Any) -> int:
    """The axis of the steps in a vertex of slices: after the parts of a complex number."""
    return 1 if jnp.issubdtype(aval.dtype, jnp.complexfloating) else 0
