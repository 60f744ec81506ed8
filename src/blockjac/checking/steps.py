"""The steps of a program: parts from one value to another that everything on the way passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockjac.base import compat
from blockjac.graph.demanded import demanded
from blockjac.graph.graph import Equation, Graph, values_of
from blockjac.graph.linearity import is_inexact

SHOWN_PRIMITIVES = 5
"""A step of more primitives than this is called by its first and last one."""


@dataclass(frozen=True)
class Step:
    """A part of the program from one value to another of the same shape.

    Attributes:
        start: the value u.
        end: the value v; every path to it passes u.
        equations: those between, in order.
    """

    start: int
    end: int
    equations: tuple[Equation, ...]

    def __str__(self) -> str:
        names = [equation.primitive.name for equation in self.equations]
        if len(names) > SHOWN_PRIMITIVES:
            names = [names[0], "...", names[-1]]
        return ", ".join(names) + compat.at_place(self.equations[-1].source)


def steps_of(graph: Graph, wrt: Sequence[int], results: Sequence[int]) -> list[Step]:
    """The steps of a program, the likeliest to be differentiated by hand first.

    These are whole functions and whole lines of the user's code, then single equations, then the
    rest; the shortest of each kind first.

    Only values that are computed from `wrt` count. The dominators of such a value are the values
    that every path from `wrt` to it passes: those that its operands share, and the value itself.
    """
    passed: dict[int, int] = {}  # dominators as bits, by value
    above: dict[int, frozenset[int]] = {}  # positions of the equations that a value is computed by
    for position, value in enumerate(wrt):
        passed[value], above[value] = 1 << position, frozenset()
    order = list(wrt)
    for position, equation in enumerate(graph.equations):
        operands = [value for value in values_of(equation.operands) if value in passed]
        inexact_results = [v for v in equation.results if is_inexact(graph.avals[v])]
        if not operands or not inexact_results:
            continue
        shared = passed[operands[0]]
        for operand in operands[1:]:
            shared &= passed[operand]
        behind = frozenset({position}).union(*(above[operand] for operand in operands))
        for value in inexact_results:
            passed[value] = shared | 1 << len(order)
            above[value] = behind
            order.append(value)
    wanted = demanded(graph, results)
    steps = [
        Step(start, end, tuple(graph.equations[p] for p in sorted(above[end] - above[start])))
        for end in order
        if end in wanted
        for position, start in enumerate(order)
        if start != end and passed[end] >> position & 1 and _are_alike(graph, start, end)
    ]
    boundaries = _Boundaries(graph)
    return sorted(steps, key=lambda step: (boundaries.rank(step), len(step.equations)))


class _Boundaries:
    """Where the functions and lines of the user's code begin and end in a program."""

    def __init__(self, graph: Graph) -> None:
        self.codes = {
            id(equation): compat.user_code(equation.source) for equation in graph.equations
        }
        self.makers = {
            value: equation for equation in graph.equations for value in equation.results
        }
        self.readers: dict[int, list[Equation]] = {}
        for equation in graph.equations:
            for value in values_of(equation.operands):
                self.readers.setdefault(value, []).append(equation)

    def rank(self, step: Step) -> int:
        """0 for a whole function of the user's, 1 for a whole line, 2 for one equation, else 3."""
        for rank, size in enumerate((2, 3)):
            codes = {(self.codes[id(equation)] or ())[:size] for equation in step.equations}
            around = [*self.readers.get(step.end, ())]
            if step.start in self.makers:
                around.append(self.makers[step.start])
            beyond = {(self.codes[id(equation)] or ())[:size] for equation in around}
            if len(codes) == 1 and () not in codes and codes.isdisjoint(beyond):
                return rank
        return 2 if len(step.equations) == 1 else 3


def _are_alike(graph: Graph, start: int, end: int) -> bool:
    start_aval, end_aval = graph.avals[start], graph.avals[end]
    return start_aval.shape == end_aval.shape and start_aval.dtype == end_aval.dtype
