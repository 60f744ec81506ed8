"""What is known of a loop's inputs at each of its steps: its counter, and rows of constants.

A loop that writes at its counter writes somewhere else in each step. Where the start of what counts
is known, and each step makes the next of what is known, its number is known at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from blockjac.control_flow.body import Body
from blockjac.graph.graph import Graph, Known, Operand
from blockjac.graph.known_places import with_known_places


@dataclass(frozen=True, eq=False)
class KnownSteps:
    """The program of a loop's body, step by step, with what is known there.

    Attributes:
        body: of the loop.
        told: what is known of the loop's operands.
        consts: how many of these are constants.
        carry: how many are carried.
        order: the numbers of the steps, in the order in which the loop runs them.
    """

    body: Body
    told: Sequence[Known | None]
    consts: int
    carry: int
    order: Sequence[int]
    _graphs: list[Graph] = field(default_factory=list)

    @cached_property
    def differ(self) -> bool:
        """Whether more is known at a step than at any step."""
        slices = self.told[self.consts + self.carry :]
        carried = self.told[self.consts : self.consts + self.carry]
        return any(one is not None and one.numbers is not None for one in carried) or any(
            one is not None for one in slices
        )

    def at(self, number: int) -> Graph:
        """The body's equations with what is known at the step of that number."""
        if not self.differ:
            return self.body.structured
        place = self.order.index(number)
        while len(self._graphs) <= place:
            self._graphs.append(self._next())
        return self._graphs[place]

    def _next(self) -> Graph:
        """The step after those that are there."""
        first, last = self.consts, self.consts + self.carry
        number = self.order[len(self._graphs)]
        carried = [self._carried(place) for place in range(self.carry)]
        slices = [one and _slice(one, number) for one in self.told[last:]]
        counts = [
            output.value
            for output, one in zip(self.body.graph.outputs, self.told[first:last], strict=False)
            if one is not None and one.numbers is not None and isinstance(output, Operand)
        ]
        told = [*self.told[:first], *carried, *slices]
        return with_known_places(self.body.graph, told, counts)

    def _carried(self, place: int) -> Known | None:
        """What is known of an input that is carried, at the start or after the last step."""
        start = self.told[self.consts + place]
        if start is None or start.numbers is None:
            return None
        if not self._graphs:
            return Known(numbers=start.numbers)
        output = self.body.graph.outputs[place]
        if not isinstance(output, Operand):
            return Known(numbers=np.asarray(output.array))
        found = self._graphs[-1].known.get(output.value)
        return None if found is None else Known(numbers=found)


def _slice(known: Known, number: int) -> Known:
    """What is known of a slice along the first axis."""
    numbers, may = known.numbers, known.may
    return Known(
        None if numbers is None else np.asarray(numbers)[number],
        None if may is None else may[number],
    )
