"""`scan`: cotangents are carried backwards, tangents forwards, by the body's own elimination.

With `s` the carry, one step is `(s', y) = f(c, s, x)`. Backwards, the carried block is the final
result's Jacobian with respect to the carry,

    q  <-  q star D_s s'  +  Y star D_s y,

and each step leaves its shares `q star D_x s' + Y star D_x y`, and the same for the constants,
which are summed. Forwards it is the carry's Jacobian with respect to the variable. What the steps
need of the way there is stacked while the loop runs for its values; forwards the two loops then
become one, which stacks nothing (see `blockjac.graph.loop_fusion`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.algebra.backend import backend, planning
from blockjac.algebra.cost import Cost
from blockjac.algebra.losses import is_recording
from blockjac.algebra.tidy import multiplied_out
from blockjac.base import compat
from blockjac.base.promises import is_structure_kept
from blockjac.base.tracing import in_a_step
from blockjac.blocks import Block
from blockjac.control_flow.body import Blocks, Body, NestedGroup, remembered
from blockjac.control_flow.carry_structure import (
    CarryStructure,
    Pattern,
    carry_structure_of,
    lasting,
    note_carried,
    note_stacked,
    written_cost,
)
from blockjac.control_flow.followed import FormsOfShares, Seen, followed, unknown
from blockjac.control_flow.kept import run_keeping
from blockjac.control_flow.known_steps import KnownSteps
from blockjac.control_flow.one_by_one import one_by_one, planned_one_by_one
from blockjac.control_flow.shares import Shares, Stack, Swept
from blockjac.control_flow.slices import Slices, aligned_axis, cut_all
from blockjac.control_flow.varying_types import start_of
from blockjac.elimination.elimination_graph import EliminationGraph
from blockjac.elimination.evaluate import Point
from blockjac.graph.graph import Equation, Known
from blockjac.graph.known_inside import of_slices
from blockjac.operators.operator import transposed
from blockjac.rules.fallback import real_dtype, vertex_shape
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Residuals

Arrays = Sequence[Any]


@dataclass(eq=False)
class Loop:
    """What is static of a scan.

    Attributes:
        body: one step: constants, carry and slices to the next carry and slices.
        consts: how many constants there are.
        carry: how many arrays are carried.
        length: how many steps.
        reverse: whether it runs from the last slice to the first.
        unroll: as in `jax.lax.scan`.
        told: what is known of its operands; None where structure is not asked for.
    """

    body: Body
    consts: int
    carry: int
    length: int
    reverse: bool
    unroll: Any
    told: Sequence[Known | None] | None

    @cached_property
    def steps(self) -> KnownSteps:
        """What is known at each step."""
        order = range(self.length)[:: -1 if self.reverse else 1]
        return KnownSteps(self.body, self.told or (), self.consts, self.carry, order)

    def parted(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Constants, carry and slices apart."""
        one, two = self.consts, self.consts + self.carry
        return list(operands[:one]), list(operands[one:two]), list(operands[two:])

    def run(self, step: Any, init: Any, slices: Any, backwards: bool = False) -> Any:
        """Run another body over the same steps, or over them from the other end."""
        return lax.scan(
            step,
            start_of(step, init, slices),
            slices,
            self.length,
            reverse=self.reverse != backwards,
            unroll=self.unroll,
        )

    def carry_dtypes(self) -> list[Any]:
        """The dtypes of what is carried."""
        return [self.body.graph.avals[one].dtype for one in self.parted(self.body.graph.inputs)[1]]


def loop_of(equation: Equation, active: Sequence[bool]) -> Loop:
    """The loop of an equation; a carry that becomes active on the way is active from the start."""
    return remembered(equation, active, _loop_of)


def _loop_of(equation: Equation, active: Sequence[bool]) -> Loop:
    params = equation.params
    consts, carry = compat.scan_counts(params)
    body = grown_body(params["jaxpr"], active, consts, carry, _told(equation, consts, carry))
    length, reverse, unroll = (params[name] for name in ("length", "reverse", "unroll"))
    return Loop(body, consts, carry, length, reverse, unroll, equation.told)


def _told(equation: Equation, consts: int, carry: int) -> Sequence[Known | None] | None:
    """What is known of the inputs of every step."""
    if equation.told is None:
        return None
    slices = map(of_slices, equation.told[consts + carry :])
    return (*equation.told[:consts], *[None] * carry, *slices)


def grown_body(
    jaxpr: Any,
    active: Sequence[bool],
    consts: int,
    carry: int,
    told: Sequence[Known | None] | None,
) -> Body:
    """A loop's body with all of the carry active that depends on what is active."""
    flags = list(active)
    while True:
        body = Body(jaxpr, tuple(flags), told=told, carried=range(consts, consts + carry))
        grown = list(flags)
        for place in range(carry):
            grown[consts + place] |= body.moving[place]
        if grown == flags:
            return body
        flags = grown


def evaluate(equation: Equation, inputs: Arrays, active: Sequence[bool]) -> tuple[list[Any], Any]:
    """The results, and what the steps need on their way, back and ahead."""
    loop = loop_of(equation, active)
    consts, init, xs = loop.parted(inputs)
    inputs_of_step = [compat.struct(loop.body.graph.avals[one]) for one in loop.body.graph.inputs]
    _, of_carry, of_slices = loop.parted(inputs_of_step)

    def step(carry: Arrays, slices: Arrays) -> Any:
        point = loop.body.evaluate([*consts, *carry, *slices])
        results = [*loop.body.results(point), THREAD]
        kept = loop.body.kept(point), loop.body.ahead(point)
        return results[: loop.carry], results[loop.carry :], kept

    init = [jnp.asarray(one, dtype) for one, dtype in zip(init, loop.carry_dtypes(), strict=True)]
    final, (*ys, thread), (back, ahead) = run_keeping(
        lambda lean: loop.run(lean, init, xs), step, (of_carry, of_slices), xs
    )
    return [*final, *ys], Residuals(back, (ahead, thread))


def edges(
    equation: Equation, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
) -> list[list[Any]]:
    """The loop as an operator."""
    return ScanGroup(loop_of(equation, active), inputs, outs, residuals, active).placed()


class ScanGroup(NestedGroup):
    """A scan: pulled back by a scan from the other end, pushed forward by one alongside."""

    carries = True

    def __init__(
        self, loop: Loop, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
    ) -> None:
        super().__init__("scan", outs, inputs, active)
        self.loop, self.inputs, self.residuals = loop, inputs, residuals
        graph = loop.body.graph
        self.x_axes = [_step_axis(graph.avals[one]) for one in loop.parted(graph.inputs)[2]]
        self.y_axes = [_step_axis(graph.aval(one)) for one in graph.outputs[loop.carry :]]

    @property
    def can_pull(self) -> bool:
        """Whether the operators of a step can be."""
        return self.loop.body.reversible

    # Backwards

    def pulled(self, cotangents: Blocks) -> list[Block | None]:
        """By a loop from the other end."""
        loop = self.loop
        carry, ys = cotangents[: loop.carry], cotangents[loop.carry :]
        axis = None if _any(carry) else aligned_axis(ys, self.y_axes)
        if axis is not None:  # each step has a result of its own: they may stay apart
            swept = self._sweep(self._pull_apart, carry, cut_all(ys, self.y_axes, axis), True)
            if not _any(swept.carry):
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
        axis = None if _any(consts) or _any(carry) else aligned_axis(xs, self.x_axes)

        def push(edges: EliminationGraph, carry: Blocks, slices: Blocks) -> Shares:
            inputs = transposed([*consts, *carry, *slices])
            outs = transposed(loop.body.pushed(edges, inputs))
            return Shares(outs[: loop.carry], [], outs[loop.carry :])

        swept = None
        if axis is not None:
            swept = self._sweep(push, carry, cut_all(xs, self.x_axes, axis), False)
        if swept is None or _any(swept.carry):
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
            return self._looped(act, carry, cut, backwards, _forms_of(forms, shares))
        forms, (shares, cost) = lasting(
            partial(self._planned, act, cut, backwards), lambda planned: planned[0].carry, carry
        )
        given = _forms_of(forms, shares)
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
            lambda: _swept(given, *self._abstract_arrays(given), seen),
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
            shares = act(self.loop.body.edges(point), _blocks(forms.carry, carried), incoming)
            totals = [
                total if form is None else total + form.array(block)
                for form, total, block in zip(forms.summed, totals, shares.summed, strict=True)
            ]
            carried = _arrays(forms.carry, shares.carry)
            return (carried, totals), _arrays(forms.slices, shares.slices)

        (carried, totals), stacked = self.loop.run(
            step,
            (_arrays(forms.carry, carry), [form and form.zeros() for form in forms.summed]),
            (points, [[] if one is None else one.arrays for one in cut]),
            backwards,
        )
        return _swept(forms, carried, totals, stacked, seen or Seen.nothing(forms))

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


def _forms_of(forms: Sequence[CarryStructure | None], shares: Shares) -> FormsOfShares:
    """The structures of all that the steps give, from those that are carried."""
    return FormsOfShares(
        forms, *(list(map(carry_structure_of, own)) for own in (shares.summed, shares.slices))
    )


def _swept(
    forms: FormsOfShares, carried: Sequence[Any], totals: Sequence[Any], stacked: Any, seen: Seen
) -> Swept:
    """The blocks of the arrays that a loop gives."""
    return Swept(
        _blocks(forms.carry, carried, seen.carry),
        _blocks(forms.summed, totals, seen.summed),
        _stacks(forms.slices, stacked, seen.slices),
    )


def _as_a_step(act: Act) -> Act:
    """The same, emitted as what a loop repeats."""

    def step(edges: EliminationGraph, carry: Blocks, slices: Blocks) -> Shares:
        with in_a_step():
            return act(edges, carry, slices)

    return step


def _stacks(
    forms: Sequence[CarryStructure | None], arrays: Sequence[Any], seen: Sequence[Pattern | None]
) -> list[Stack | None]:
    """What stacks the blocks of all steps, of forms whose arrays are stacked."""
    return [
        None if form is None else partial(form.stacked, array, may=may)
        for form, array, may in zip(forms, arrays, seen, strict=True)
    ]


def _any(blocks: Blocks) -> bool:
    return any(block is not None for block in blocks)


def _blocks(
    forms: Sequence[CarryStructure | None],
    arrays: Sequence[Any],
    seen: Sequence[Pattern | None] | None = None,
) -> list[Block | None]:
    return [
        None if form is None else form.block(array, may)
        for form, array, may in zip(forms, arrays, seen or [None] * len(forms), strict=True)
    ]


def _arrays(forms: Sequence[CarryStructure | None], blocks: Blocks) -> list[Any]:
    return [
        None if form is None else form.array(block)
        for form, block in zip(forms, blocks, strict=True)
    ]


def _step_axis(aval: Any) -> int:
    """Where the steps' axis is in a vertex of slices: after the parts of a complex number."""
    return 1 if jnp.issubdtype(aval.dtype, jnp.complexfloating) else 0


def reversible(equation: Equation, active: Sequence[bool]) -> bool:
    """Whether one step is."""
    return loop_of(equation, active).body.reversible


THREAD = np.zeros((), bool)
"""What every step stacks and nobody looks at: it ties the loop of tangents to that of values."""


OPERATOR_RULES["scan"] = OperatorRule(evaluate, edges, reversible)
