"""`while`: the number of steps is not known, so tangents go forwards, alongside the values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax.numpy as jnp
from jax import lax

from blockjac.algebra.backend import backend
from blockjac.algebra.cost import Cost
from blockjac.algebra.losses import is_recording
from blockjac.algebra.tidy import multiplied_out
from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.control_flow.body import Body, remembered
from blockjac.control_flow.carry_structure import (
    Forms,
    abstract_arrays,
    arrays_of,
    blocks_of,
    written_cost,
)
from blockjac.control_flow.followed import unknown
from blockjac.control_flow.loop import grown_body
from blockjac.control_flow.nested_group import Arrays, NestedGroup
from blockjac.control_flow.shares import Shares
from blockjac.control_flow.sweep import Sweep, lasting
from blockjac.control_flow.varying_types import start_of
from blockjac.graph.graph import Equation
from blockjac.operators.operator import Blocks
from blockjac.rules.fallback import vertex_shape
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule

STEPS_PLANNED = 10
"""The number of steps in a plan of a loop whose number is known at run time only."""


def evaluate(equation: Equation, inputs: Arrays, active: Sequence[bool]) -> tuple[list[Any], Any]:
    """The results; nothing is kept, since nothing goes back."""
    del active
    return compat.bind(equation.primitive, inputs, equation.params), None


@remembered
def body_of(equation: Equation, active: Sequence[bool]) -> Body:
    """The body of the loop."""
    params = equation.params
    consts, before = params["body_nconsts"], params["cond_nconsts"]
    carry = len(active) - consts - before
    told = equation.told and (*equation.told[before : before + consts], *[None] * carry)
    return grown_body(params["body_jaxpr"], active[before:], consts, carry, told)


class WhileGroup(NestedGroup):
    """A loop of unknown length: pushed forward by a loop alongside."""

    carries = True

    @cached_property
    def body(self) -> Body:
        """The body of the loop."""
        return body_of(self.equation, self.active)

    @property
    def can_pull(self) -> bool:
        """Never: the steps would have to be kept, and their number is not known."""
        return False

    def pushed(self, tangents: Blocks) -> list[Block | None]:
        """By a loop that carries values and tangents."""
        _, consts, carry = self._parted(tangents)
        consts = [block and multiplied_out(block) for block in consts]
        sweep = Sweep(
            body=self.body,
            act=lambda edges, carry, _: Shares(self.body.pushed(edges, [*consts, *carry])),
            carry=carry,
        )
        forms, shares, cost = lasting(sweep.planned, carry)
        places = sweep.places(forms).carry

        def once() -> Cost:
            cost.add(written_cost(forms.carry, shares.carry))
            return cost

        def emit() -> list[Any]:
            if is_recording():
                sweep.note_carried(unknown(forms.carry, places), STEPS_PLANNED)
            return self._arrays(sweep, forms.carry)

        arrays = backend().runs(once, STEPS_PLANNED, emit, lambda: abstract_arrays(forms.carry))
        return blocks_of(forms.carry, arrays, places)

    def _parted(self, operands: Sequence[Any]) -> tuple[Any, Any, Any]:
        """Constants of the condition, constants of the body, and the carry separately."""
        first = self.equation.params["cond_nconsts"]
        last = first + self.equation.params["body_nconsts"]
        return operands[:first], operands[first:last], operands[last:]

    def _arrays(self, sweep: Sweep, forms: Forms) -> list[Any]:
        """The arrays that a loop alongside carries, at its end."""
        condition = self.equation.params["cond_jaxpr"]
        condition_consts, body_consts, values = self._parted(self.inputs)

        def holds(values: Arrays) -> Any:
            (holds,) = compat.evaluated(condition, [*condition_consts, *values])
            return jnp.asarray(holds)

        def step(state: Any) -> Any:
            """The values and the arrays of tangents after a step."""
            values, arrays = state
            point = self.body.evaluate([*body_consts, *values])
            tangents = blocks_of(forms, arrays)
            shares = sweep.step(self.body.edges(point), tangents, [])
            arrays = arrays_of(forms, shares.carry)
            return self.body.results(point), arrays

        graph = self.body.graph
        init = [
            jnp.asarray(value, graph.avals[vertex].dtype)
            for value, vertex in zip(values, graph.inputs[len(body_consts) :], strict=True)
        ]
        start = start_of(
            lambda state, _: (step(state), None), (init, arrays_of(forms, sweep.carry)), ()
        )
        _, arrays = lax.while_loop(
            lambda state: jnp.any(holds(state[0])),
            lambda state: _where_on(holds(state[0]), step(state), state),
            start,
        )
        return arrays


def _where_on(holds: Any, after: Any, before: Any) -> Any:
    """The state after a step; under `jax.vmap`, only for those examples whose loop goes on.

    Args:
        holds: whether the loop goes on: a number, or one for each example.
        after: values and arrays of tangents, with the axes of the examples first.
        before: the same before the step.
    """
    if not holds.shape:
        return after

    def chosen(new: Any, old: Any, parts: int = 0) -> Any:
        shape = (*(1,) * parts, *holds.shape, *(1,) * (new.ndim - parts - holds.ndim))
        return jnp.where(jnp.reshape(holds, shape), new, old)

    (values, arrays), (old_values, old_arrays) = after, before
    kept = list(map(chosen, values, old_values))
    tangents = [
        None if new is None else chosen(new, old, len(vertex_shape(value)) - value.ndim)
        for new, old, value in zip(arrays, old_arrays, values, strict=True)
    ]  # a complex number has an axis for its parts
    return kept, tangents


OPERATOR_RULES["while"] = OperatorRule(evaluate, WhileGroup.rows_of, lambda equation, active: False)
