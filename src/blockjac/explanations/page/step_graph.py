"""The graph of an explanation's steps: variables as vertices, elemental Jacobians as edges."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from blockjac.explanations.chain_rule import ChainRule, Use, uses_of
from blockjac.explanations.names import Derivative
from blockjac.explanations.program import Program, Step, Variable

MOST_DRAWN = 60
"""A graph of more vertices than this is drawn with its chains folded."""

MOST_BOXES, BUNDLES, MOST_RESULTS = 240, 100, 20
"""If that leaves more boxes, steps that follow one another are folded into about `BUNDLES` boxes;
up to this many results stay by themselves."""


@dataclass(frozen=True, eq=False)
class Vertex:
    """A variable between the differentiated arguments and the results.

    Attributes:
        variable: the tensor.
        step: that computes it; None for an argument.
        is_result: whether the function returns it.
    """

    variable: Variable
    step: Step | None
    is_result: bool


@dataclass(frozen=True, eq=False)
class Edge:
    """An elemental Jacobian.

    Attributes:
        tail: position of the vertex that is read.
        head: position of the vertex that is computed from it.
        use: the step, with the numbers of both.
        derivative: the name of the Jacobian.
    """

    tail: int
    head: int
    use: Use
    derivative: Derivative


@dataclass(frozen=True, eq=False)
class StepGraph:
    """The active part of a program, in the order in which it computes.

    Attributes:
        program: the program.
        vertices: the arguments, then what is computed.
        edges: sorted by head and tail.
    """

    program: Program
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]

    @cached_property
    def inner(self) -> list[int]:
        """The vertices that are eliminated: what is computed and read again."""
        read = {edge.tail for edge in self.edges}
        return [
            position
            for position, vertex in enumerate(self.vertices)
            if vertex.step is not None and position in read
        ]

    @cached_property
    def groups(self) -> list[list[int]]:
        """The vertices as they are drawn: each by itself, or several that are folded.

        A chain is folded in a large graph alone. Each vertex inside of it is read by the next one
        and by nothing else, which in turn reads nothing else. In a very large graph steps that are
        computed one after another are folded, whatever they read.
        """
        count = len(self.vertices)
        if count <= MOST_DRAWN:
            return [[position] for position in range(count)]
        groups = chains(count, [(edge.tail, edge.head) for edge in self.edges])
        if len(groups) <= MOST_BOXES:
            return groups
        results = [n for n, own in enumerate(self.vertices) if own.is_result]
        alone = results if len(results) <= MOST_RESULTS else []
        arguments = sum(own.step is None for own in self.vertices)
        return bundles(count, arguments, set(alone), -(-count // BUNDLES))


def step_graph(program: Program, rules: Sequence[ChainRule]) -> StepGraph:
    """The graph between the differentiated arguments and the results.

    Args:
        program: the program.
        rules: the chain rule of each result.
    """
    uses = uses_of(rules)
    independents = [variable.number for variable in program.independents]
    results = {rule.result.number for rule in rules}
    numbers = {
        *independents,
        *results,
        *(number for _, use in uses for number in (use.head, use.tail)),
    }
    ordered = [*independents, *sorted(numbers.difference(independents))]
    steps = {use.head: use.step for _, use in uses}
    vertices = tuple(
        Vertex(program.variables[number], steps.get(number), number in results)
        for number in ordered
    )
    position = {number: place for place, number in enumerate(ordered)}
    edges = tuple(
        Edge(position[use.tail], position[use.head], use, rule.elemental(use)) for rule, use in uses
    )
    return StepGraph(program, vertices, edges)


def bundles(count: int, arguments: int, alone: Set[int], size: int) -> list[list[int]]:
    """Vertices that follow one another in groups.

    Args:
        count: of the vertices.
        arguments: how many of them, the first, are arguments, which are grouped by themselves.
        alone: those that stay by themselves.
        size: of a group at most.
    """
    groups: list[list[int]] = []
    for vertex in range(count):
        is_new = vertex == arguments or vertex in alone or vertex - 1 in alone
        if not groups or is_new or len(groups[-1]) == size:
            groups.append([])
        groups[-1].append(vertex)
    return groups


def chains(count: int, edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Vertices with their chains in one group, groups in the order of their first vertices.

    Args:
        count: of the vertices, which are numbered so that every edge goes upwards.
        edges: each once.
    """
    leaving: list[list[int]] = [[] for _ in range(count)]
    entering: list[list[int]] = [[] for _ in range(count)]
    for tail, head in edges:
        leaving[tail].append(head)
        entering[head].append(tail)
    single = [len(leaving[vertex]) == 1 and len(entering[vertex]) == 1 for vertex in range(count)]
    group_of: dict[int, list[int]] = {}
    groups: list[list[int]] = []
    for vertex in range(count):
        before = entering[vertex][0] if entering[vertex] else -1
        if single[vertex] and before >= 0 and single[before]:
            group = group_of[before]
            group.append(vertex)
        else:
            group = [vertex]
            groups.append(group)
        group_of[vertex] = group
    return groups
