"""What is known of a loop's inputs at each of its steps: its counter, and rows of constants.

A loop that writes at its counter writes at another place in each step. If the start of a counter is
known, and each step computes the next value from known ones, it is known at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from blockjac.control_flow.body import Body
from blockjac.graph.graph import Graph, Known, Literal, Operand
from blockjac.graph.known_places import with_known_places


@dataclass(frozen=True, eq=False)
class KnownSteps:
    """The program of a loop's body, annotated with what is known at each step.

    Attributes:
        body: the body of the loop.
        told: what is known of the loop's operands.
        consts: the number of constants among these.
        carry: the number of those that are carried.
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
        return any(known is not None and known.numbers is not None for known in carried) or any(
            known is not None for known in slices
        )

    def at(self, number: int) -> Graph:
        """The body's equations, annotated with what is known at one step."""
        if not self.differ:
            return self.body.structured
        position = self.order.index(number)
        while len(self._graphs) <= position:
            self._graphs.append(self._next())
        return self._graphs[position]

    def _next(self) -> Graph:
        """The step after the last one so far."""
        first, last = self.consts, self.consts + self.carry
        number = self.order[len(self._graphs)]
        carried = list(map(self._carried, self.body.graph.outputs, self.told[first:last]))
        slices = [known and _slice(known, number) for known in self.told[last:]]
        counts = [
            output.value
            for output, known in zip(self.body.graph.outputs, self.told[first:last], strict=False)
            if known is not None and known.numbers is not None and isinstance(output, Operand)
        ]
        told = [*self.told[:first], *carried, *slices]
        return with_known_places(self.body.graph, told, counts)

    def _carried(self, output: Operand | Literal, start: Known | None) -> Known | None:
        """What is known of a carried input in the next step, from its output and its start."""
        if start is None or start.numbers is None:
            return None
        if not self._graphs:
            return Known(numbers=start.numbers)
        if not isinstance(output, Operand):
            return Known(numbers=np.asarray(output.array))
        array = self._graphs[-1].known.get(output.value)
        return None if array is None else Known(numbers=array)


def _slice(known: Known, number: int) -> Known:
    """What is known of a slice along the first axis."""
    numbers, may = known.numbers, known.may
    return Known(
        None if numbers is None else np.asarray(numbers)[number],
        None if may is None else may[number],
    )
