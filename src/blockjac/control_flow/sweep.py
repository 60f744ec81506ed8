"""Blocks that are carried through the steps of a loop: their forms, and the loop over arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from jax import lax

from blockjac.algebra.backend import backend, planning
from blockjac.algebra.cost import Cost
from blockjac.algebra.losses import is_recording
from blockjac.base.promises import is_structure_kept
from blockjac.base.tracing import in_a_step
from blockjac.blocks import Block
from blockjac.control_flow.body import Body
from blockjac.control_flow.carry_notes import note_carried, note_stacked
from blockjac.control_flow.carry_structure import (
    CarryStructure,
    Forms,
    abstract_arrays,
    arrays_of,
    blocks_of,
    carry_structure_of,
    joined,
    written_cost,
)
from blockjac.control_flow.followed import followed, unknown
from blockjac.control_flow.loop import Loop
from blockjac.control_flow.one_by_one import one_by_one, planned_one_by_one
from blockjac.control_flow.shares import BlockShares, FormShares, PlaceShares, Shares, Swept
from blockjac.control_flow.slices import Slices
from blockjac.elimination.elimination_graph import EliminationGraph
from blockjac.elimination.evaluate import Point
from blockjac.graph.graph import Graph
from blockjac.operators.operator import Blocks
from blockjac.rules.fallback import real_dtype, vertex_shape
from blockjac.rules.registry import Residuals

Act = Callable[[EliminationGraph, Blocks, Blocks], BlockShares]
"""One step: from its elemental Jacobians, the carried blocks and the slices."""

THREAD = np.zeros((), bool)
"""An array that every step stacks, unused: it ties the loop of tangents to that of values."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Blocks that are carried through the steps of a loop.

    Attributes:
        body: the body of the loop.
        act: one step.
        carry: the carried blocks at the start.
        cut: the blocks that each step takes a slice of.
        backwards: whether the sweep goes against the direction of the loop.
    """

    body: Body
    act: Act
    carry: Blocks
    cut: Sequence[Slices | None] = ()
    backwards: bool = False

    def step(self, edges: EliminationGraph, carry: Blocks, slices: Blocks) -> BlockShares:
        """One step, as part of a loop's body."""
        with in_a_step():
            return self.act(edges, carry, slices)

    @cached_property
    def any_slices(self) -> Blocks:
        """The slices of any step, as a plan sees them."""
        return [cut and cut.any_step() for cut in self.cut]

    def any_step(self, carry: Blocks, known: Graph | None = None) -> BlockShares:
        """Any step, as a plan sees it; `known` is as for `Body.edges`."""
        edges = self.body.abstract_edges(not self.backwards, known)
        return self.step(edges, carry, self.any_slices)

    def planned(self, forms: Forms, knows_places: bool | None = None) -> tuple[BlockShares, Cost]:
        """The results of one step, and their cost, by structure alone."""
        with planning(knows_places=knows_places) as cost:
            return self.any_step(blocks_of(forms, abstract_arrays(forms))), cost

    def places(self, forms: FormShares, length: int | None = None) -> PlaceShares:
        """Where the results of all steps may be nonzero; None for an unknown number of steps."""
        if self.body.told is None or not backend().knows_places:
            return forms.map(lambda form: None)
        step = partial(self.any_step, known=self.body.structured)
        return followed(step, self.carry, forms, length)

    def note_carried(self, forms: Forms, length: int) -> None:
        """Note the structure lost because all steps carry blocks of the same forms."""
        note_carried(forms, self.carry, lambda blocks: self.any_step(blocks).carry, length)


def lasting(
    step: Callable[[Forms], tuple[BlockShares, Cost]], carry: Blocks
) -> tuple[FormShares, BlockShares, Cost]:
    """The forms that a loop can carry from the first step to the last.

    Each step may lose deltas but never finds any, so this ends.

    Args:
        step: from forms of carried blocks to the results of one step, and their cost.
        carry: the carried blocks at the start.

    Returns:
        The forms, and the results of a step from these, with their cost.
    """
    forms = list(map(carry_structure_of, carry))
    while True:
        shares, cost = step(forms)
        after = map(carry_structure_of, shares.carry)
        grown = [joined(pair) for pair in zip(forms, after, strict=True)]
        if grown == forms:
            summed = list(map(carry_structure_of, shares.summed))
            slices = list(map(carry_structure_of, shares.slices))
            return Shares(forms, summed, slices), shares, cost
        forms = grown


@dataclass(frozen=True, kw_only=True)
class ScanSweep(Sweep):
    """A sweep through a scan: by a loop, or step by step where that is cheaper.

    Attributes:
        loop: the scan.
        residuals: those of its steps.
    """

    loop: Loop
    residuals: Residuals

    def run(self) -> Swept:
        """Carry the blocks over all steps, in the structure that lasts."""
        if self.backwards and self._is_gradient():
            forms, _, _ = lasting(self._reached, self.carry)
            return self._looped(forms, forms.map(lambda form: None))
        forms, shares, cost = lasting(partial(self.planned, knows_places=False), self.carry)
        if not backend().follows_places:
            cost.add(written_cost(forms.all, shares.all))
            swept = self._one_by_one(forms, cost.seconds())
            if swept is not None:
                return swept
        places = self.places(forms, self.loop.length)
        if is_recording():
            self.note_carried(unknown(forms.carry, places.carry), self.loop.length)
            kept = [*unknown(forms.summed, places.summed), *unknown(forms.slices, places.slices)]
            note_stacked(kept, [*shares.summed, *shares.slices])
        return backend().runs(
            lambda: cost,
            self.loop.length,
            lambda: self._looped(forms, places),
            lambda: Swept.of(forms, self._abstract_arrays(forms), places),
        )

    def _abstract_arrays(self, forms: FormShares) -> Shares[Any]:
        """The arrays that the loop gives, as a plan sees them."""
        carried, summed = abstract_arrays(forms.carry), abstract_arrays(forms.summed)
        return Shares(carried, summed, abstract_arrays(forms.slices, self.loop.length))

    def _looped(self, forms: FormShares, nonzero: PlaceShares) -> Swept:
        """The loop itself, over arrays of these forms that are nonzero at most at these places."""
        points, point_of = self._points()

        def step(state: Any, given: Any) -> Any:
            """One step of the loop, from and to arrays."""
            carried, totals = state
            arrays, parts = given
            point = point_of(arrays)
            slices = [cut and cut.step(part) for cut, part in zip(self.cut, parts, strict=True)]
            shares = self.step(self.body.edges(point), blocks_of(forms.carry, carried), slices)
            totals = [
                form and total + form.array(block)
                for form, total, block in zip(forms.summed, totals, shares.summed, strict=True)
            ]
            carried = arrays_of(forms.carry, shares.carry)
            parts, places[:] = distinct(arrays_of(forms.slices, shares.slices))
            return (carried, totals), parts

        places: list[int | None] = []  # which of the stacks each slice is found in
        (carried, totals), stacks = self.loop.run(
            step,
            (arrays_of(forms.carry, self.carry), [form and form.zeros() for form in forms.summed]),
            (points, [[] if cut is None else cut.arrays for cut in self.cut]),
            self.backwards,
        )
        stacked = [None if place is None else stacks[place] for place in places]
        return Swept.of(forms, Shares(carried, totals, stacked), nonzero)

    def _one_by_one(self, forms: FormShares, seconds_a_step: float) -> Swept | None:
        """The results of the steps outside a loop; None if a loop is better."""
        carried = sum(form.numel for form in forms.carry if form is not None)
        kept = sum(form.numel for form in forms.slices if form and is_structure_kept())
        steps = self.loop.order(self.backwards)

        def slices_at(number: int) -> Blocks:
            return [cut and cut.at(number) for cut in self.cut]

        def planned(number: int, carry: Blocks) -> BlockShares:
            edges = self.body.abstract_edges(not self.backwards, self.loop.steps.at(number))
            return self.step(edges, carry, slices_at(number))

        plan = planned_one_by_one(planned, steps, self.carry, seconds_a_step, carried, kept)
        if plan is None:
            return None
        swept, cost = plan

        def emit() -> Swept:
            """The same steps at their points."""
            points, point_of = self._points()

            def step(number: int, carry: Blocks) -> BlockShares:
                at = jax.tree.map(partial(lax.index_in_dim, index=number, keepdims=False), points)
                slices = slices_at(number)
                edges = self.body.edges(point_of(at), self.loop.steps.at(number))
                return self.step(edges, carry, slices)

            return one_by_one(step, steps, self.carry)

        return backend().runs(lambda: cost, 1, emit, lambda: swept)

    def _is_gradient(self) -> bool:
        """Whether one number is differentiated: then nothing has a delta to keep or to plan."""
        blocks = [*self.carry, *(cut and cut.whole for cut in self.cut)]
        return backend().cost is None and all(
            block is None or block.out_shape == () for block in blocks
        )

    def _reached(self, forms: Forms) -> tuple[BlockShares, Cost]:
        """The results of one step of a gradient: a dense block for each input that it reaches."""
        graph = self.body.graph
        reached = self.body.reached_from([share is not None for share in (*forms, *self.cut)])
        dense: list[Block | None] = []
        for value, is_reached in zip(graph.inputs, reached, strict=True):
            aval = graph.avals[value]
            form = CarryStructure((), vertex_shape(aval), real_dtype(aval.dtype), frozenset())
            with planning():
                dense.append(form.block(form.abstract()) if is_reached else None)
        consts, carry, slices = self.loop.parted(dense)
        return Shares(carry, consts, slices), Cost()

    def _points(self) -> tuple[Any, Callable[[Any], Point]]:
        """The arrays that are sliced for the points of all steps, and a point from its slices."""
        body, back = self.body, self.residuals.back
        if self.backwards:
            return back.arrays, lambda arrays: body.restored(back.at(arrays))
        ahead, thread = self.residuals.ahead

        def restored_ahead(arrays: Any) -> Point:
            back_arrays, ahead_arrays, _ = arrays
            return body.restored_ahead(back.at(back_arrays), *ahead.at(ahead_arrays))

        return (back.arrays, ahead.arrays, thread), restored_ahead


def distinct(arrays: Sequence[Any]) -> tuple[list[Any], list[int | None]]:
    """The arrays, each once, and which of them each one is; None for None.

    The cotangents of the terms of a sum are one array, which is then stacked once.
    """
    numbers: dict[int, int] = {}
    kept: list[Any] = []
    for array in arrays:
        if array is not None and id(array) not in numbers:
            numbers[id(array)] = len(kept)
            kept.append(array)
    return kept, [None if array is None else numbers[id(array)] for array in arrays]
