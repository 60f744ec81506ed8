"""What is known of the examples in the values of a program, and what a rule sees of an equation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


class MeetingError(Exception):
    """Examples meet in an equation."""


@dataclass(frozen=True)
class Apart:
    """An axis that holds the examples.

    An axis may hold more than them, as after a reshape of `(N, T)` to `(N T,)`: an entry at place i
    depends on example `i // below % N`.

    Attributes:
        axis: the axis; that of a value of one example alone is -1.
        below: how many places next to each other belong to the same example.
        own: places on the last axis of indices where each example has its own number.
    """

    axis: int
    below: int
    own: frozenset[int] = frozenset()


SINGLE = Apart(-1, 1)
"""The state of a value that belongs to one example, in a loop over the examples."""


@dataclass(frozen=True)
class Meeting:
    """The first equation on the way to a value that lets examples meet.

    Attributes:
        name: what it computes.
        place: where it stands in the user's code, as in " at file:line (function)".
    """

    name: str
    place: str


State = Apart | Meeting | None
"""What is known of a value; None if it is the same for all examples."""


@dataclass(frozen=True)
class Operands:
    """What a rule sees of an equation: states and shapes of operands, shapes of results.

    Attributes:
        params: the parameters of the primitive.
        states: those of the operands; none of them is a meeting.
        shapes: of the operands.
        outs: shapes of the results.
        count: how many examples there are.
        known: the operands that are constant integers.
    """

    params: Mapping[str, Any]
    states: list[State]
    shapes: list[tuple[int, ...]]
    outs: list[tuple[int, ...]]
    count: int
    known: list[np.ndarray | None]

    def apart(self, position: int) -> Apart | None:
        """The axis of one operand's examples; None if it is the same for all."""
        state = self.states[position]
        return state if isinstance(state, Apart) else None

    def required(self, position: int) -> Apart:
        """The axis of one operand's examples, which must have some."""
        state = self.apart(position)
        if state is None:
            raise MeetingError
        return state

    def common(self) -> Apart:
        """The state of all operands that have examples, in the same places."""
        state = joined(self.states)
        if not isinstance(state, Apart):
            raise MeetingError
        return state

    def only(self, first: int = 0) -> Apart:
        """The state of the first operands, if all others are the same for all examples."""
        require(all(state is None for state in self.states[first + 1 :]))
        state = joined(self.states[: first + 1])
        require(isinstance(state, Apart))
        return state  # pyright: ignore[reportReturnType]


Rule = Callable[[Operands], Sequence[State]]


def require(condition: bool) -> None:
    """Raise unless a condition for examples that do not meet holds."""
    if not condition:
        raise MeetingError


def joined(states: Sequence[State]) -> State:
    """The state of an entry that depends on the same entry of values with these states."""
    states = [state for state in states if state is not None]
    for state in states:
        if isinstance(state, Meeting):
            return state
    places = {replace(state, own=frozenset()) for state in states if isinstance(state, Apart)}
    require(len(places) <= 1)
    return places.pop() if places else None
