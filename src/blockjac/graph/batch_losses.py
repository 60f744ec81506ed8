"""Whether the loss of a batch is a sum over its examples, or lets them meet before.

Values of several examples may reach a loss by linear operations alone, as a mean does. Batch norm
divides by such a value, and the logarithm of a mean is not a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from blockjac.base import compat
from blockjac.graph.example_rules import RULES
from blockjac.graph.example_states import Apart, Meeting, State
from blockjac.graph.examples import PROGRAMS, Walk, state_of
from blockjac.graph.graph import Atom, Equation, Graph, Operand
from blockjac.graph.linearity import is_linear_in
from blockjac.graph.trace import graph_of

SUMS = frozenset({"add", "sub", "add_any"})
"""What may add something else to a sum over the examples, such as a penalty."""


def mixing_of(jaxpr: Any, inputs: Sequence[State], active: Sequence[bool], count: int) -> State:
    """Where examples meet in a loss of a batch, beyond a sum over them; None if nowhere.

    Weights that depend on data alone, such as the number of tokens of a batch, are not counted as
    mixing, and neither is what this module does not know.

    Args:
        jaxpr: the traced loss, closed, without further results.
        inputs: where each input has its examples.
        active: whether each input is differentiated.
        count: how many examples there are.
    """
    graph = graph_of(jaxpr, active, by_value=True)
    return _mixing(graph, Walk(graph, count).states(inputs), count)


def _mixing(graph: Graph, states: dict[int, State], count: int) -> State:
    """The same for a graph with known states."""
    needed = _needed(graph)
    for number, equation in enumerate(needed):
        entering = [state_of(atom, states) for atom in equation.operands]
        met = next((state for state in entering if isinstance(state, Meeting)), None)
        leaving = [states.get(value) for value in equation.results]
        if met is None and any(isinstance(state, Meeting) for state in leaving):
            name = equation.primitive.name
            if name not in RULES and name not in PROGRAMS:
                return None
            mixing = _inside(equation, entering, count) if name in PROGRAMS else None
            if mixing is not None:
                return mixing
        elif met is not None and not _is_weighed(graph, equation, entering):
            return met if met.place else replace(met, place=_next_place(needed[number:]))
    return None


def _next_place(equations: Sequence[Equation]) -> str:
    """The place of the first equation that has one: those within `jnp.var` have none."""
    return next(filter(None, (compat.at_place(equation.source) for equation in equations)), "")


def _needed(graph: Graph) -> list[Equation]:
    """The equations on the way to a result, in order."""
    needed = {atom.value for atom in graph.outputs if isinstance(atom, Operand)}
    chosen: list[Equation] = []
    for equation in reversed(graph.equations):
        if needed.intersection(equation.results):
            chosen.append(equation)
            needed |= {atom.value for atom in equation.operands if isinstance(atom, Operand)}
    return chosen[::-1]


def _is_weighed(graph: Graph, equation: Equation, entering: Sequence[State]) -> bool:
    """Whether an equation that gets values of several examples is linear in what is learned."""
    if equation.primitive.name in SUMS:
        return True
    operands = list(zip(equation.operands, entering, strict=True))
    chosen = [_is_active(atom) and isinstance(state, Meeting) for atom, state in operands]
    if not any(chosen):
        chosen = [_is_active(atom) and isinstance(state, Apart) for atom, state in operands]
    avals = [graph.aval(atom) for atom in equation.operands]
    return not any(chosen) or is_linear_in(equation.primitive, equation.params, avals, chosen)


def _is_active(atom: Atom) -> bool:
    """Whether a value depends on what is differentiated."""
    return isinstance(atom, Operand) and atom.vertex is not None


def _inside(equation: Equation, entering: Sequence[State], count: int) -> State:
    """Where examples meet in the program of an equation: of a call, or of the step of a scan."""
    active = [*map(_is_active, equation.operands)]
    if equation.primitive.name == "scan":
        consts, carried = compat.scan_counts(equation.params)
        first = consts + carried
        active[consts:first] = [True] * carried
        states = [*entering[:first], *map(_of_step, entering[first:])]
        return mixing_of(equation.params["jaxpr"], states, active, count)
    if PROGRAMS[equation.primitive.name] is PROGRAMS["jit"]:
        return mixing_of(compat.called(equation.params), entering, active, count)
    return None


def _of_step(state: State) -> State:
    """The state of one step's slice; None for steps over the examples, which are not followed."""
    return Apart(state.axis - 1, state.below) if isinstance(state, Apart) and state.axis else None
