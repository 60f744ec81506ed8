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
        body: one step: from constants, carry and slices to the next carry and slices.
        consts: the number of constants.
        carry: the number of arrays that are carried.
        length: the number of steps.
        reverse: whether it runs from the last slice to the first.
        unroll: as in `jax.lax.scan`.
        told: what is known of its operands; None if structure does not matter.
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
        return KnownSteps(self.body, self.told or (), self.consts, self.carry, self.order(False))

    def order(self, backwards: bool) -> range:
        """The numbers of the steps, as the loop takes them or from the other end."""
        return range(self.length)[:: -1 if self.reverse != backwards else 1]

    def parted(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Constants, carry and slices separately."""
        first, last = self.consts, self.consts + self.carry
        return list(operands[:first]), list(operands[first:last]), list(operands[last:])

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


@remembered
def loop_of(equation: Equation, active: Sequence[bool]) -> Loop:
    """The loop of an equation; a carry that becomes active on the way is active from the start."""
    params, told = equation.params, equation.told
    consts, carry = compat.scan_counts(params)
    if told is not None:  # in every step
        told = (*told[:consts], *[None] * carry, *map(of_slices, told[consts + carry :]))
    body = grown_body(params["jaxpr"], active, consts, carry, told)
    length, reverse, unroll = (params[name] for name in ("length", "reverse", "unroll"))
    return Loop(body, consts, carry, length, reverse, unroll, equation.told)


def grown_body(
    jaxpr: Any,
    active: Sequence[bool],
    consts: int,
    carry: int,
    told: Sequence[Known | None] | None,
) -> Body:
    """A loop's body with all of the carry active that depends on active inputs."""
    flags = list(active)
    while True:
        body = Body(jaxpr, tuple(flags), told=told, carried=range(consts, consts + carry))
        grown = list(flags)
        for number in range(carry):
            grown[consts + number] |= body.active_results[number]
        if grown == flags:
            return body
        flags = grown
