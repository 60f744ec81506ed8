"""`while`: the number of steps is not known, so that tangents go forwards, alongside the values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax

from blockjac.algebra.backend import backend, planning
from blockjac.algebra.cost import Cost
from blockjac.algebra.losses import is_recording
from blockjac.algebra.tidy import multiplied_out
from blockjac.base import compat
from blockjac.base.tracing import in_a_step
from blockjac.blocks import Block
from blockjac.control_flow.body import Blocks, Body, remembered
from blockjac.control_flow.carry_notes import note_carried
from blockjac.control_flow.carry_structure import CarryStructure, Pattern, lasting, written_cost
from blockjac.control_flow.followed import FormsOfShares, Seen, followed, unknown
from blockjac.control_flow.loop import grown_body
from blockjac.control_flow.nested_group import NestedGroup
from blockjac.control_flow.shares import Shares
from blockjac.control_flow.varying_types import start_of
from blockjac.elimination.elimination_graph import EliminationGraph
from blockjac.graph.graph import Equation
from blockjac.rules.fallback import vertex_shape
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule

Arrays = Sequence[Any]

STEPS_PLANNED = 10
"""How many steps a plan takes a loop to have, whose number is known at run time only."""


def evaluate(equation: Equation, inputs: Arrays, active: Sequence[bool]) -> tuple[list[Any], Any]:
    """The results; nothing is kept, since there is no way back."""
    del active
    return compat.bind(equation.primitive, inputs, equation.params), None


def edges(
    equation: Equation, inputs: Arrays, outs: Arrays, residuals: Any, active: Sequence[bool]
) -> list[list[Any]]:
    """The loop as an operator that only pushes."""
    del residuals
    return WhileGroup(equation, inputs, outs, active).placed()


def _body_of(equation: Equation, active: Sequence[bool]) -> Body:
    params = equation.params
    consts, before = params["body_nconsts"], params["cond_nconsts"]
    carry = len(active) - consts - before
    told = equation.told and (*equation.told[before : before + consts], *[None] * carry)
    return grown_body(params["body_jaxpr"], active[before:], consts, carry, told)


class WhileGroup(NestedGroup):
    """A loop of unknown length: pushed forward by a loop alongside."""

    carries = True

    def __init__(
        self, equation: Equation, inputs: Arrays, outs: Arrays, active: Sequence[bool]
    ) -> None:
        super().__init__("while", outs, inputs, active)
        self.equation, self.inputs = equation, inputs
        self.body: Body = remembered(equation, active, _body_of)

    @property
    def can_pull(self) -> bool:
        """How many steps there will be is not known: there is no way back."""
        return False

    def _pushed_by_a_step(self, edges: EliminationGraph, tangents: Blocks) -> list[Block | None]:
        with in_a_step():
            return self.body.pushed(edges, tangents)

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """By a loop that carries values and tangents."""
        params = self.equation.params
        before, consts = params["cond_nconsts"], params["body_nconsts"]
        fixed = [one and multiplied_out(one) for one in tangents[before : before + consts]]
        carry = list(tangents[before + consts :])
        forms, (moved, cost) = lasting(
            partial(self._planned, fixed), lambda planned: planned[0], carry
        )
        seen = self._seen(fixed, carry, forms)

        def once() -> Cost:
            cost.add(written_cost(zip(forms, moved, strict=True)))
            return cost

        arrays = backend().runs(
            once,
            STEPS_PLANNED,
            lambda: self._arrays(fixed, carry, forms, seen),
            lambda: [form and form.abstract() for form in forms],
        )
        return [
            None if form is None else form.block(array, may)
            for form, array, may in zip(forms, arrays, seen, strict=True)
        ]

    def _planned(
        self, fixed: Blocks, forms: Sequence[CarryStructure | None]
    ) -> tuple[Blocks, Cost]:
        """What one step gives, and costs, by structure alone."""
        with planning() as cost:
            incoming = [form and form.block(form.abstract()) for form in forms]
            edges = self.body.abstract_edges(whole=True)
            return self._pushed_by_a_step(edges, [*fixed, *incoming]), cost

    def _arrays(
        self,
        fixed: Blocks,
        carry: Blocks,
        forms: Sequence[CarryStructure | None],
        seen: Sequence[Pattern | None],
    ) -> list[Any]:
        """The arrays of what a loop alongside carries, at its end.

        Args:
            fixed: the tangents that all steps share.
            carry: those that are carried, at the start.
            forms: of what is carried.
            seen: where it may hold other numbers than zero.
        """
        params = self.equation.params
        before, consts = params["cond_nconsts"], params["body_nconsts"]
        if is_recording():
            note_carried(
                unknown(forms, seen),
                carry,
                lambda blocks: self._pushed_by_a_step(
                    self.body.abstract_edges(whole=True), [*fixed, *blocks]
                ),
                STEPS_PLANNED,
            )
        condition = params["cond_jaxpr"]
        condition_consts, body_consts = self.inputs[:before], self.inputs[before : before + consts]

        def holds(values: Arrays) -> Any:
            (found,) = compat.evaluated(condition, [*condition_consts, *values])
            return jnp.asarray(found)

        def step(state: Any) -> Any:
            values, arrays = state
            point = self.body.evaluate([*body_consts, *values])
            rates = [form and form.block(one) for form, one in zip(forms, arrays, strict=True)]
            blocks = self._pushed_by_a_step(self.body.edges(point), [*fixed, *rates])
            moved = [form and form.array(one) for form, one in zip(forms, blocks, strict=True)]
            return self.body.results(point), moved

        avals = self.body.graph.avals
        init = [
            jnp.asarray(one, avals[value].dtype)
            for one, value in zip(
                self.inputs[before + consts :], self.body.graph.inputs[consts:], strict=True
            )
        ]
        start = [form and form.array(block) for form, block in zip(forms, carry, strict=True)]
        start_all = start_of(lambda state, _: (step(state), None), (init, start), ())
        _, arrays = lax.while_loop(
            lambda state: jnp.any(holds(state[0])),
            lambda state: _where_on(holds(state[0]), step(state), state),
            start_all,
        )
        return arrays

    def _seen(
        self, fixed: Blocks, carry: Blocks, forms: Sequence[CarryStructure | None]
    ) -> Sequence[Pattern | None]:
        """Where what is carried may hold other numbers than zero, after any number of steps."""
        given = FormsOfShares(forms, [], [])
        if self.body.told is None or not backend().knows_places:
            return Seen.nothing(given).carry

        def step(blocks: Blocks) -> Shares:
            edges = self.body.abstract_edges(whole=True, known=self.body.structured)
            return Shares(self._pushed_by_a_step(edges, [*fixed, *blocks]), [], [])

        return followed(step, carry, given, None).carry


def _where_on(holds: Any, new: Any, old: Any) -> Any:
    """The new state; under `jax.vmap`, where each example has steps of its own, where it goes on.

    Args:
        holds: whether the loop goes on: a number, or one for each example.
        new: values and arrays of tangents, with the axes of the examples first.
        old: the same before the step.
    """
    if not holds.shape:
        return new
    (values, arrays), (before, arrays_before) = new, old

    def chosen(one: Any, other: Any, value: Any) -> Any:
        first = (1,) * (len(vertex_shape(value)) - value.ndim)  # the parts of a complex number
        rest = (1,) * (one.ndim - len(first) - holds.ndim)
        return jnp.where(jnp.reshape(holds, (*first, *holds.shape, *rest)), one, other)

    kept = [
        jnp.where(jnp.reshape(holds, holds.shape + (1,) * (one.ndim - holds.ndim)), one, other)
        for one, other in zip(values, before, strict=True)
    ]
    moved = [
        None if one is None else chosen(one, other, value)
        for one, other, value in zip(arrays, arrays_before, values, strict=True)
    ]
    return kept, moved


OPERATOR_RULES["while"] = OperatorRule(evaluate, edges, lambda equation, active: False)
