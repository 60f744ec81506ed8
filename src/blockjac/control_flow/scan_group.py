"""A scan as an operator: swept from the other end, or alongside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax

from blockjac.algebra.backend import backend, planning
from blockjac.algebra.cost import Cost
from blockjac.algebra.losses import is_recording
from blockjac.algebra.tidy import multiplied_out
from blockjac.base.promises import is_structure_kept
from blockjac.base.tracing import in_a_step
from blockjac.blocks import Block
from blockjac.control_flow.body import Blocks
from blockjac.control_flow.carry_notes import note_carried, note_stacked
from blockjac.control_flow.carry_structure import (
    CarryStructure,
    lasting,
    written_cost,
)
from blockjac.control_flow.followed import FormsOfShares, Seen, followed, unknown
from blockjac.control_flow.loop import Loop
from blockjac.control_flow.nested_group import NestedGroup
from blockjac.control_flow.one_by_one import one_by_one, planned_one_by_one
from blockjac.control_flow.shares import Shares, Swept
from blockjac.control_flow.slices import Slices, aligned_axis, cut_all
from blockjac.control_flow.swept import any_given, arrays_of, blocks_of, forms_of, step_axis, swept
from blockjac.elimination.elimination_graph import EliminationGraph
from blockjac.elimination.evaluate import Point
from blockjac.operators.operator import transposed
from blockjac.rules.fallback import real_dtype, vertex_shape

Arrays = Sequence[Any]


class ScanGroup(NestedGroup):
    """A scan: pulled back by a scan from the other end, pushed forward by one alongside."""

    carries = True

    def __init__(
        self, loop: Loop, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
    ) -> None:
        super().__init__("scan", outs, inputs, active)
        self.loop, self.inputs, self.residuals = loop, inputs, residuals
        graph = loop.body.graph
        self.x_axes = [step_axis(graph.avals[one]) for one in loop.parted(graph.inputs)[2]]
        self.y_axes = [step_axis(graph.aval(one)) for one in graph.outputs[loop.carry :]]

    @property
    def can_pull(self) -> bool:
        """Whether the operators of a step can be."""
        return self.loop.body.reversible

    # Backwards

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """By a loop from the other end."""
        loop = self.loop
        carry, ys = cotangents[: loop.carry], cotangents[loop.carry :]
        axis = None if any_given(carry) else aligned_axis(ys, self.y_axes)
        if axis is not None:  # each step has a result of its own: they may stay apart
            swept = self._sweep(self._pull_apart, carry, cut_all(ys, self.y_axes, axis), True)
            if not any_given(swept.carry):
                places = [*[None] * loop.consts, *self.x_axes]
                shares = swept.stacked(loop.length, places, axis)
                return [*shares[: loop.consts], *swept.carry, *shares[loop.consts :]]
        swept = self._sweep(self._pull, carry, cut_all(ys, self.y_axes), True)
        return [*swept.totals, *swept.carry, *swept.stacked(loop.length, self.x_axes)]

    def _pull(self, edges: EliminationGraph, carry: Blocks, slices: Blocks) -> Shares:
        consts, before, xs = self.loop.parted(self.loop.body.pulled(edges, [*carry, *slices]))
        return Shares(before, consts, xs)

    def _pull_apart(self, edges: EliminationGraph, carry: Blocks, slices: Blocks) -> Shares:
        shares = self._pull(edges, carry, slices)
        return Shares(shares.carry, [], [*shares.summed, *shares.slices])

    # Forwards

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """By a loop alongside."""
        loop = self.loop
        consts, carry, xs = loop.parted(transposed(tangents))
        consts = [block and multiplied_out(block) for block in consts]
        axis = None if any_given(consts) or any_given(carry) else aligned_axis(xs, self.x_axes)

        def push(edges: EliminationGraph, carry: Blocks, slices: Blocks) -> Shares:
            inputs = transposed([*consts, *carry, *slices])
            outs = transposed(loop.body.pushed(edges, inputs))
            return Shares(outs[: loop.carry], [], outs[loop.carry :])

        swept = None
        if axis is not None:
            swept = self._sweep(push, carry, cut_all(xs, self.x_axes, axis), False)
        if swept is None or any_given(swept.carry):
            axis = None
            swept = self._sweep(push, carry, cut_all(xs, self.x_axes), False)
        return transposed([*swept.carry, *swept.stacked(loop.length, self.y_axes, axis)])

    # Both

    def _sweep(
        self, act: Act, carry: Blocks, cut: Sequence[Slices | None], backwards: bool
    ) -> Swept:
        """Carry blocks over all steps, in the structure that lasts.

        Args:
            act: one step.
            carry: what is carried at the start.
            cut: what comes in at each step.
            backwards: against the direction of the loop.
        """
        act = _as_a_step(act)
        if backwards and self._is_gradient(carry, cut):
            forms, shares = lasting(partial(self._reached, cut), lambda shares: shares.carry, carry)
            return self._looped(act, carry, cut, backwards, forms_of(forms, shares))
        forms, (shares, cost) = lasting(
            partial(self._planned, act, cut, backwards), lambda planned: planned[0].carry, carry
        )
        given = forms_of(forms, shares)
        if not backend().follows_places:
            blocks = (*shares.carry, *shares.summed, *shares.slices)
            cost.add(written_cost(zip(given.all, blocks, strict=True)))
            found = self._one_by_one(act, carry, cut, backwards, cost.seconds(), given)
            if found is not None:
                return found
        seen = self._seen(act, carry, cut, backwards, given)
        if is_recording():
            self._note_losses(act, unknown(forms, seen.carry), carry, cut, backwards)
            note_stacked(
                [*unknown(given.summed, seen.summed), *unknown(given.slices, seen.slices)],
                [*shares.summed, *shares.slices],
            )
        return backend().runs(
            lambda: cost,
            self.loop.length,
            lambda: self._looped(act, carry, cut, backwards, given, seen),
            lambda: swept(given, *self._abstract_arrays(given), seen),
        )

    def _abstract_arrays(self, forms: FormsOfShares) -> tuple[list[Any], list[Any], list[Any]]:
        """What stands for the arrays that a loop gives: carried, summed and stacked ones."""
        carried = [form and form.abstract() for form in forms.carry]
        summed = [form and form.abstract() for form in forms.summed]
        stacked = [form and form.abstract(self.loop.length) for form in forms.slices]
        return carried, summed, stacked

    def _looped(
        self,
        act: Act,
        carry: Blocks,
        cut: Sequence[Slices | None],
        backwards: bool,
        forms: FormsOfShares,
        seen: Seen | None = None,
    ) -> Swept:
        """The loop itself, over arrays of the blocks.

        Args:
            act: one step.
            carry: what is carried at the start.
            cut: what comes in at each step.
            backwards: against the direction of the loop.
            forms: of the arrays.
            seen: where they may hold other numbers than zero, if that is known.
        """
        points, point_of = self._points(backwards)

        def step(state: Any, given: Any) -> Any:
            carried, totals = state
            at, slices = given
            point = point_of(at)
            incoming = [one and one.step(part) for one, part in zip(cut, slices, strict=True)]
            shares = act(self.loop.body.edges(point), blocks_of(forms.carry, carried), incoming)
            totals = [
                total if form is None else total + form.array(block)
                for form, total, block in zip(forms.summed, totals, shares.summed, strict=True)
            ]
            carried = arrays_of(forms.carry, shares.carry)
            return (carried, totals), arrays_of(forms.slices, shares.slices)

        (carried, totals), stacked = self.loop.run(
            step,
            (arrays_of(forms.carry, carry), [form and form.zeros() for form in forms.summed]),
            (points, [[] if one is None else one.arrays for one in cut]),
            backwards,
        )
        return swept(forms, carried, totals, stacked, seen or Seen.nothing(forms))

    def _seen(
        self,
        act: Act,
        carry: Blocks,
        cut: Sequence[Slices | None],
        backwards: bool,
        forms: FormsOfShares,
    ) -> Seen:
        """Where what all steps give may hold other numbers than zero."""
        body = self.loop.body
        any_slices = [one and one.any_step() for one in cut]

        def step(carry: Blocks) -> Shares:
            edges = body.abstract_edges(not backwards, body.structured)
            return act(edges, carry, any_slices)

        if body.told is None or not backend().knows_places:
            return Seen.nothing(forms)
        return followed(step, carry, forms, self.loop.length)

    def _one_by_one(
        self,
        act: Act,
        carry: Blocks,
        cut: Sequence[Slices | None],
        backwards: bool,
        seconds_a_step: float,
        forms: FormsOfShares,
    ) -> Swept | None:
        """What the steps give outside a loop; None where a loop is the better way."""
        carried = sum(form.numel for form in forms.carry if form is not None)
        kept = sum(form.numel for form in forms.slices if form and is_structure_kept())
        body, length = self.loop.body, self.loop.length
        steps = range(length)[:: -1 if self.loop.reverse != backwards else 1]

        def planned(number: int, carry: Blocks) -> Shares:
            edges = body.abstract_edges(not backwards, self.loop.steps.at(number))
            return act(edges, carry, [one and one.at(number) for one in cut])

        found = planned_one_by_one(planned, steps, carry, seconds_a_step, carried, kept)
        if found is None:
            return None
        swept, cost = found

        def emit() -> Swept:
            points, point_of = self._points(backwards)

            def taken(number: int, carry: Blocks) -> Shares:
                at = jax.tree.map(partial(lax.index_in_dim, index=number, keepdims=False), points)
                slices = [one and one.at(number) for one in cut]
                edges = body.edges(point_of(at), self.loop.steps.at(number))
                return act(edges, carry, slices)

            return one_by_one(taken, steps, carry)

        return backend().runs(lambda: cost, 1, emit, lambda: swept)

    def _note_losses(
        self,
        act: Act,
        forms: Sequence[CarryStructure | None],
        carry: Blocks,
        cut: Sequence[Slices | None],
        backwards: bool,
    ) -> None:
        """Note what structure is lost since all steps carry blocks of the same forms."""

        def step(blocks: Blocks) -> Blocks:
            slices = [one and one.any_step() for one in cut]
            return act(self.loop.body.abstract_edges(whole=not backwards), blocks, slices).carry

        note_carried(forms, carry, step, self.loop.length)

    def _is_gradient(self, carry: Blocks, cut: Sequence[Slices | None]) -> bool:
        """Whether one number is differentiated: then no delta is there to be kept or planned."""
        blocks = [*carry, *(one and one.whole for one in cut)]
        return backend().cost is None and all(one is None or one.out_shape == () for one in blocks)

    def _reached(
        self, cut: Sequence[Slices | None], forms: Sequence[CarryStructure | None]
    ) -> Shares:
        """What one step of a gradient gives: something dense wherever there is a way to."""
        body = self.loop.body
        reached = body.reached_from([one is not None for one in (*forms, *cut)])
        dense: list[Block | None] = []
        for value, is_reached in zip(body.graph.inputs, reached, strict=True):
            aval = body.graph.avals[value]
            form = CarryStructure((), vertex_shape(aval), real_dtype(aval.dtype), frozenset())
            with planning():
                dense.append(form.block(form.abstract()) if is_reached else None)
        consts, before, xs = self.loop.parted(dense)
        return Shares(before, consts, xs)

    def _planned(
        self,
        act: Act,
        cut: Sequence[Slices | None],
        backwards: bool,
        forms: Sequence[CarryStructure | None],
    ) -> tuple[Shares, Cost]:
        """What one step gives, and costs, by structure alone."""
        with planning(knows_places=False) as cost:
            carry = [form and form.block(form.abstract()) for form in forms]
            slices = [one and one.any_step() for one in cut]
            edges = self.loop.body.abstract_edges(whole=not backwards)
            shares = act(edges, carry, slices)
        return shares, cost

    def _points(self, backwards: bool) -> tuple[Any, Callable[[Any], Point]]:
        """How a step gets its point: what is cut for it, and the function."""
        body, back = self.loop.body, self.residuals.back
        if backwards:
            return back.arrays, lambda given: body.restored(back.at(given))
        ahead, thread = self.residuals.ahead

        def restored_ahead(given: Any) -> Point:
            own, beside, _ = given
            return body.restored_ahead(back.at(own), *ahead.at(beside))

        return (back.arrays, ahead.arrays, thread), restored_ahead


Act = Callable[[EliminationGraph, Blocks, Blocks], Shares]
"""One step: from its elemental Jacobians, the carried blocks and those that come in."""


def _as_a_step(act: Act) -> Act:
    """The same, emitted as what a loop repeats."""

    def step(edges: EliminationGraph, carry: Blocks, slices: Blocks) -> Shares:
        with in_a_step():
            return act(edges, carry, slices)

    return step


THREAD = np.zeros((), bool)
"""What every step stacks and nobody looks at: it ties the loop of tangents to that of values."""
