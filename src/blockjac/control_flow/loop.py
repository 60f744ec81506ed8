"""What is static of a loop of known length: its body, and how its steps are run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jax import lax

from blockjac.base import compat
from blockjac.control_flow.body import Body, remembered
from blockjac.control_flow.known_steps import KnownSteps
from blockjac.control_flow.varying_types import start_of
from blockjac.graph.graph import Equation, Known
from blockjac.graph.known_inside import of_slices


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
