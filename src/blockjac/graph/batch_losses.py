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
from blockjac.graph.example_states import SINGLE, Apart, Meeting, MeetingError, State
from blockjac.graph.examples import PROGRAMS, Walk, cotangents_of, state_of, states_of_steps
from blockjac.graph.graph import Atom, Equation, Graph, Operand
from blockjac.graph.linearity import is_inexact, is_linear_in
from blockjac.graph.trace import graph_of

FOLLOWED = frozenset(PROGRAMS) - {"while", "custom_linear_solve"}
"""Primitives whose programs are followed: a loop of unknown length has no reverse sweep."""

PARTS = frozenset({"reshape", "slice", "split"})
"""Primitives that divide a batch, and compute nothing of its examples."""


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
    graph = graph_of(jaxpr, active, by_value={"custom_jvp_call"})
    return _mixing(graph, Walk(graph, count).states(inputs), count)


def _mixing(graph: Graph, states: dict[int, State], count: int) -> State:
    """The same for a graph with known states."""
    needed = _needed(graph)
    for number, equation in enumerate(needed):
        name = equation.primitive.name
        entering = [state_of(atom, states) for atom in equation.operands]
        met = next((state for state in entering if isinstance(state, Meeting)), None)
        here = next((s for s in map(states.get, equation.results) if isinstance(s, Meeting)), None)
        if here is None:
            continue
        if name in FOLLOWED:
            mixing = _inside(graph, equation, entering, count)
        elif met is None and name not in RULES:
            return None
        else:
            is_sum = _adds_up(graph, equation, entering)
            mixing = None if is_sum else here if met is None else met
        if isinstance(mixing, Meeting):
            place = mixing.place or _next_place(needed[number:])
            return replace(mixing, place=place)
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


def _adds_up(graph: Graph, equation: Equation, entering: Sequence[State]) -> bool:
    """Whether an equation leaves a sum over the examples of what is learned as one.

    It does if it is linear in all it adds up, as a penalty is added to a mean; and if it is linear
    in what is learned, and the rest are weights that all examples share.
    """
    avals = [graph.aval(atom) for atom in equation.operands]
    smooth = [is_inexact(aval) for aval in avals]
    apart = [isinstance(state, Apart) for state in entering]
    met = [
        _is_active(atom) and isinstance(state, Meeting)
        for atom, state in zip(equation.operands, entering, strict=True)
    ]
    picks = any(own and not is_smooth for own, is_smooth in zip(apart, smooth, strict=True))
    if not picks and is_linear_in(equation.primitive, equation.params, avals, smooth):
        return True
    if any(met):  # which an example weighs by its own data: these meet the other examples
        learned = [one or other for one, other in zip(met, apart, strict=True)]
    else:
        active = map(_is_active, equation.operands)
        learned = [own and is_active for own, is_active in zip(apart, active, strict=True)]
        if all(learned) and _contracts_examples(equation, entering):
            return True
    return not any(learned) or is_linear_in(equation.primitive, equation.params, avals, learned)


def _contracts_examples(equation: Equation, entering: Sequence[State]) -> bool:
    """Whether an equation is a sum of products, each of one example with itself."""
    if equation.primitive.name != "dot_general":
        return False
    (left, right), _ = equation.params["dimension_numbers"]
    one, other = entering
    if not (isinstance(one, Apart) and isinstance(other, Apart) and one.below == other.below):
        return False
    return (one.axis, other.axis) in zip(left, right, strict=True)


def _is_active(atom: Atom) -> bool:
    """Whether a value depends on what is differentiated."""
    return isinstance(atom, Operand) and atom.vertex is not None


def _inside(graph: Graph, equation: Equation, entering: Sequence[State], count: int) -> State:
    """Where examples meet in the program of an equation: of a call, a branch, a step of a scan."""
    active = [*map(_is_active, equation.operands)]
    name, params = equation.primitive.name, equation.params
    if name == "cond":
        found = [mixing_of(each, entering[1:], active[1:], count) for each in params["branches"]]
        return next((state for state in found if state is not None), None)
    walk = Walk(graph, count)
    if name == "scan":
        consts, carried = compat.scan_counts(params)
        first = consts + carried
        active[consts:first] = [True] * carried
        if any(isinstance(s, Meeting) and s.name in PARTS for s in entering[first:]):
            return None  # steps over parts of the examples, which are not followed
        try:
            states = states_of_steps(walk, equation, entering)
        except MeetingError:  # likewise
            return None
        here = Meeting(name, compat.at_place(equation.source))
        if SINGLE not in entering:  # what steps over the examples carry is of all of them
            carry = [here if state == SINGLE else state for state in states[consts:first]]
            states[consts:first] = carry
        return mixing_of(params["jaxpr"], states, active, count)
    called = compat.called(params)
    mixing = mixing_of(called, entering, active, count)
    if mixing is not None or name != "custom_vjp_call":
        return mixing
    leaving = walk.inside(called, entering)
    if any(isinstance(state, Meeting) for state in (*entering, *leaving)):
        return None  # sums, whose cotangents are of all examples
    try:
        cotangents = cotangents_of(walk, equation, entering, leaving)
    except MeetingError:
        return None
    found = next((state for state in cotangents if isinstance(state, Meeting)), None)
    is_known = found is not None and (found.name in RULES or found.name in PROGRAMS)
    return Meeting(found.name, compat.at_place(equation.source)) if found and is_known else None
