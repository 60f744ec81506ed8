"""Which example of a batch each entry of a value depends on, and where examples meet.

Every value of a program is the same for all examples, or has its examples on one axis, or depends
on several of them in one entry. The last is what batch norm does, and any sum over the batch. It is
found from the primitives alone, also where no derivative would tell: `x > jnp.mean(x, axis=0)` has
none. A primitive that no rule of `example_rules` knows lets examples meet, so that what is found
not to meet does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from blockjac.base import compat
from blockjac.graph.example_rules import RULES
from blockjac.graph.example_states import (
    SINGLE,
    Apart,
    Meeting,
    MeetingError,
    Operands,
    State,
    joined,
)
from blockjac.graph.graph import Atom, Equation, Graph, Literal
from blockjac.graph.known_places import with_known_places
from blockjac.graph.linearity import is_inexact
from blockjac.graph.trace import graph_of


@dataclass(eq=False)
class Walk:
    """A walk through a program.

    Attributes:
        graph: the program.
        count: how many examples there are.
    """

    graph: Graph
    count: int

    @cached_property
    def known(self) -> Mapping[int, Any]:
        """Integers that are constants of the program, by value; found if something is looked up."""
        if not any(equation.primitive.name == "gather" for equation in self.graph.equations):
            return {}
        integers = [
            value
            for value, aval in enumerate(self.graph.avals)
            if np.issubdtype(getattr(aval, "dtype", np.float32), np.integer)
        ]
        return with_known_places(self.graph, beside=integers).known

    def results(self, inputs: Sequence[State]) -> list[State]:
        """The states of the program's results, from those of its inputs."""
        states = self.states(inputs)
        return [state_of(atom, states) for atom in self.graph.outputs]

    def states(self, inputs: Sequence[State]) -> dict[int, State]:
        """The states of all values, from those of the inputs."""
        states: dict[int, State] = dict(zip(self.graph.inputs, inputs, strict=True))
        for equation in self.graph.equations:
            entering = [state_of(atom, states) for atom in equation.operands]
            leaving = self._through(equation, entering)
            states.update(zip(equation.results, leaving, strict=True))
        return states

    def _through(self, equation: Equation, entering: Sequence[State]) -> Sequence[State]:
        """The states of an equation's results."""
        name, count = equation.primitive.name, len(equation.results)
        met = next((state for state in entering if isinstance(state, Meeting)), None)
        if all(state is None for state in entering):
            return [None] * count
        here = Meeting(name, compat.at_place(equation.source))
        try:
            if name in PROGRAMS:
                return PROGRAMS[name](self, equation, entering)
            if met is not None:
                return [met] * count
            if SINGLE in entering:
                return [joined([*entering])] * count
            rule = RULES.get(name)
            return [here] * count if rule is None else rule(self._operands(equation, entering))
        except MeetingError:
            return [here] * count

    def _operands(self, equation: Equation, states: Sequence[State]) -> Operands:
        """What a rule sees of an equation."""
        return Operands(
            equation.params,
            list(states),
            [tuple(self.graph.aval(atom).shape) for atom in equation.operands],
            [tuple(self.graph.avals[value].shape) for value in equation.results],
            self.count,
            [self._numbers(atom) for atom in equation.operands],
        )

    def _numbers(self, atom: Atom) -> np.ndarray | None:
        """An operand, if it is a constant integer."""
        if isinstance(atom, Literal):
            return atom.array
        return self.known.get(atom.value)

    # Programs inside of equations

    def inside(self, jaxpr: Any, inputs: Sequence[State]) -> list[State]:
        """The states of the results of a program inside of an equation."""
        return self.program(jaxpr).results(inputs)

    def program(self, jaxpr: Any) -> Walk:
        """The walk through a program inside of an equation."""
        inputs = compat.open_jaxpr(jaxpr).invars
        return Walk(graph_of(jaxpr, [False] * len(inputs), by_value=True), self.count)


def state_of(atom: Atom, states: Mapping[int, State]) -> State:
    """The state of an operand, and of its vertex where a rule of its own gives the derivative.

    The zeros that such a rule is taken at have the state of their vertex.
    """
    if isinstance(atom, Literal):
        return None
    state = states.get(atom.value)
    if atom.vertex is None or atom.vertex == atom.value:
        return state
    other = states.get(atom.vertex)
    return other if state is None or isinstance(other, Meeting) else state


def _called(walk: Walk, equation: Equation, entering: Sequence[State]) -> Sequence[State]:
    return walk.inside(compat.called(equation.params), entering)


def _called_with_rule(walk: Walk, equation: Equation, entering: Sequence[State]) -> Sequence[State]:
    """A function with a backward rule of its own, which must keep examples separate as well."""
    leaving = _called(walk, equation, entering)
    cotangents = cotangents_of(walk, equation, entering, leaving)
    for state, cotangent in zip(entering, cotangents, strict=True):
        if state is not None and cotangent is not None and joined([state]) != joined([cotangent]):
            raise MeetingError
    return leaving


def cotangents_of(
    walk: Walk, equation: Equation, entering: Sequence[State], leaving: Sequence[State]
) -> list[State]:
    """The states of what a function's own backward rule gives for each operand.

    Args:
        walk: through the program of the equation.
        equation: a call of the function.
        entering: the states of the operands.
        leaving: those of the results, and of their cotangents.

    Raises:
        MeetingError: for results that have no cotangents.
    """
    avals = [walk.graph.aval(atom) for atom in equation.operands]
    results = [walk.graph.avals[value] for value in equation.results]
    smooth = [is_inexact(aval) for aval in avals]
    if not all(map(is_inexact, results)):
        raise MeetingError

    def pulled(*arrays: Any) -> list[Any]:
        """The cotangents of the operands, from operands and cotangents of the results."""

        def called(*operands: Any) -> list[Any]:
            return compat.bind(equation.primitive, operands, equation.params)

        _, pull = jax.vjp(called, *arrays[: len(avals)])
        cotangents = pull(list(arrays[len(avals) :]))
        return [array for array, own in zip(cotangents, smooth, strict=True) if own]

    closed = jax.make_jaxpr(pulled)(*map(compat.struct, [*avals, *results]))
    found = iter(walk.inside(closed, [*entering, *leaving]))
    return [next(found) if own else None for own in smooth]


def _branches(walk: Walk, equation: Equation, entering: Sequence[State]) -> Sequence[State]:
    """Of `cond`: what all examples choose alike, since the choice is one number."""
    which, *operands = entering
    if which is not None and which != SINGLE:
        raise MeetingError
    leaving = [walk.inside(branch, operands) for branch in equation.params["branches"]]
    return [joined([which, *states]) for states in zip(*leaving, strict=True)]


def _while(walk: Walk, equation: Equation, entering: Sequence[State]) -> Sequence[State]:
    """The number of steps must not depend on an example, and a carried array keeps its axis."""
    params = equation.params
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    condition, body = walk.program(params["cond_jaxpr"]), walk.program(params["body_jaxpr"])
    carry = list(entering[second:])
    while True:
        after = body.results([*entering[first:second], *carry])
        grown = [joined(pair) for pair in zip(carry, after, strict=True)]
        if grown == carry:
            break
        carry = grown
    (goes_on,) = condition.results([*entering[:first], *carry])
    if goes_on is not None and goes_on != SINGLE:
        raise MeetingError
    return [joined([goes_on, state]) for state in carry]


def _scan(walk: Walk, equation: Equation, entering: Sequence[State]) -> Sequence[State]:
    """Steps over time carry all examples; steps over the examples carry none."""
    consts, carried = compat.scan_counts(equation.params)
    of_step = states_of_steps(walk, equation, entering)
    carry, slices = of_step[consts : consts + carried], of_step[consts + carried :]
    if SINGLE in slices and SINGLE in carry and SINGLE not in entering:
        raise MeetingError
    leaving = walk.inside(equation.params["jaxpr"], of_step)
    return [*carry, *(_stacked(state, SINGLE in entering) for state in leaving[carried:])]


def states_of_steps(walk: Walk, equation: Equation, entering: Sequence[State]) -> list[State]:
    """The states of the inputs of a scan's steps, the same for all of them."""
    consts, carried = compat.scan_counts(equation.params)
    slices = [_slice(state) for state in entering[consts + carried :]]
    body = walk.program(equation.params["jaxpr"])
    carry = list(entering[consts : consts + carried])
    while True:
        leaving = body.results([*entering[:consts], *carry, *slices])
        grown = [joined(pair) for pair in zip(carry, leaving[:carried], strict=True)]
        if grown == carry:
            return [*entering[:consts], *carry, *slices]
        carry = grown


def _slice(state: State) -> State:
    """The state of a slice: of one example, where a loop goes over the examples."""
    if not isinstance(state, Apart):
        return state
    if state.axis == 0:
        if state.below != 1:
            raise MeetingError
        return SINGLE
    return Apart(state.axis - 1, state.below)


def _stacked(state: State, all_single: bool) -> State:
    """The state of the stacked results of all steps."""
    if state == SINGLE:
        return SINGLE if all_single else Apart(0, 1)
    return Apart(state.axis + 1, state.below) if isinstance(state, Apart) else state


def _linear_solve(walk: Walk, equation: Equation, entering: Sequence[State]) -> Sequence[State]:
    """What the program that solves makes of its constants and the right-hand sides."""
    jaxprs, lengths = equation.params["jaxprs"], equation.params["const_lengths"]
    first = lengths.matvec + lengths.vecmat
    last = first + lengths.solve + lengths.transpose_solve
    return walk.inside(jaxprs.solve, [*entering[first : first + lengths.solve], *entering[last:]])


PROGRAMS = {
    **dict.fromkeys(
        (
            *("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"),
            *("custom_jvp_call", "composite", "custom_vmap_call"),
        ),
        _called,
    ),
    "custom_vjp_call": _called_with_rule,
    "cond": _branches,
    "custom_linear_solve": _linear_solve,
    "scan": _scan,
    "while": _while,
}
"""Primitives with programs inside."""
