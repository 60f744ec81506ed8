"""The Jacobian of a function as products that are not made, one sum for each parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.evaluate import read
from blockjac.elimination.linearize import LinearizedGraph, linearize_to_results
from blockjac.graph.graph import Atom, Graph, Operand
from blockjac.graph.loop_uses import Use, with_uses_outside
from blockjac.graph.trace import graph_of
from blockjac.planning import Order, choose_unfinished
from blockjac.transforms.example_places import Examples, Places
from blockjac.transforms.separate_examples import Separate, is_separable
from blockjac.transforms.unmade_edges import Product, Unmade


@dataclass(frozen=True)
class Rows:
    """The Jacobian of a function's results, unmade, and all that the function returns.

    Attributes:
        values: what the function returns.
        products: for each result and each input the products whose sum is the block.
    """

    values: list[Any]
    products: list[list[list[Product]]]


@dataclass(frozen=True)
class Question:
    """What is differentiated, and where.

    Attributes:
        graph: the traced function.
        arguments: values of its inputs.
        captured: values of its constants.
        wrt: the graph's inputs to differentiate by.
        count: how many results are differentiated.
        axes: how many leading axes of the results count examples.
    """

    graph: Graph
    arguments: Sequence[Any]
    captured: Sequence[Any]
    wrt: tuple[int, ...]
    count: int
    axes: int

    def active(self, graph: Graph, uses: Sequence[Use] = ()) -> ActiveGraph:
        """The active part of the graph, or of one that computes the same.

        Args:
            graph: the graph.
            uses: of constants, outside of its loops. What a constant is computed from may lead to
                a result through a use alone.
        """
        outputs = graph.outputs[: self.count]
        active = ActiveGraph.of(graph, outputs)
        constants: list[Atom] = []
        for use in reversed(uses):  # a use may be of what an earlier loop gives
            if use.vertex in active.vertices:
                constants += use.operands
                active = ActiveGraph.of(graph, [*outputs, *constants])
        return replace(active, outputs=outputs)

    def linearized(self, active: ActiveGraph) -> LinearizedGraph:
        """The function at its point; a graph that computes the same may have further constants."""
        captured = [*self.captured, *active.graph.captured[len(self.captured) :]]
        return linearize_to_results(active, self.arguments, captured)

    def rows(self, linear: LinearizedGraph, edges: Unmade) -> Rows:
        """The answer, once the vertices are eliminated."""
        heads = [("out", position) for position in range(self.count)]
        products = [[edges.products(leaf, head) for leaf in self.wrt] for head in heads]
        return Rows(linear.results(), products)

    @property
    def collected(self) -> dict[tuple[Vertex, Vertex], list[Product]]:
        """No products yet, by input and result."""
        return {(leaf, ("out", n)): [] for leaf in self.wrt for n in range(self.count)}


def unmade_rows(question: Question, order: Order) -> Rows:
    """The Jacobian of the first results of a graph as products.

    By the sweep of a sum over the examples where these do not meet; else with the examples as
    deltas, in which case an order of elimination is chosen too.
    """
    graph, uses = question.graph, list[Use]()
    active = question.active(graph)
    if order in ("auto", "reverse") and active.is_reversible:
        separate = _separate_rows(question, active)
        if separate is not None:
            return separate
        rows = sum(math.prod(graph.aval(output).shape) for output in active.outputs)
        graph, uses = with_uses_outside(graph, active.vertices, rows)
        active = question.active(graph, uses)
    linear = question.linearized(active)
    vertices = active.reverse_order if uses else choose_unfinished(order, linear)
    for number, use in enumerate(uses):
        vertices = _Spliced.of(use, number, linear).into(vertices, linear)
    edges = linear.edges
    unmade = Unmade(edges.leaving, edges.entering, edges.same, collected=question.collected)
    eliminate(unmade, vertices)
    return question.rows(linear, unmade)


def _separate_rows(question: Question, active: ActiveGraph) -> Rows | None:
    """The same by the sweep of a sum over the examples; None if that is not possible."""
    graph, uses = with_uses_outside(question.graph, active.vertices)
    active = question.active(graph, uses)
    examples = [
        Examples.of(graph, question.wrt, position, question.axes)
        for position in range(question.count)
    ]
    places: dict[Vertex, Places] = {}
    for position, own in enumerate(examples):
        if not own.add_places(places, {vertex: vertex for vertex in active.vertices}):
            return None
        output = active.outputs[position]
        if not (isinstance(output, Operand) and own.are_in_front(places.get(output.vertex))):
            return None
    linear = question.linearized(active)
    vertices = active.reverse_order
    for number, use in enumerate(uses):
        spliced = _Spliced.of(use, number, linear)
        for own in examples:
            names = {value: spliced.name(value) for value in spliced.active.vertices}
            if not own.inside(spliced.active.graph, use.operands).add_places(places, names):
                return None
        vertices = spliced.into(vertices, linear)
    edges = linear.edges
    if not is_separable(edges, places):
        return None
    separate = Separate(
        edges.leaving,
        edges.entering,
        edges.same,
        collected=question.collected,
        places=places,
        counts={position: own.counts for position, own in enumerate(examples)},
    )
    separate.lead_to_sums(active)
    early = [vertex for vertex in reversed(vertices) if _only_moves(vertex, places, edges)]
    rest = [vertex for vertex in vertices if vertex not in set(early)]
    eliminate(separate, [*early, *rest], before=separate.take_shared)
    return question.rows(linear, separate)


def _only_moves(vertex: Vertex, places: dict[Vertex, Places], edges: EliminationGraph) -> bool:
    """Whether a vertex is a rearrangement of parameters, as in `x @ W.T`."""
    entering = edges.entering.get(vertex, {}).values()
    return vertex not in places and all(
        isinstance(edge, Block) and not any(term.factors for term in edge.terms)
        for edge in entering
    )


@dataclass(frozen=True, eq=False)
class _Spliced:
    """What all steps of a loop do with its constants, as edges of the whole function.

    Attributes:
        use: of the constants.
        number: of the use.
        active: its own program.
        edges: those of that program.
    """

    use: Use
    number: int
    active: ActiveGraph
    edges: EliminationGraph

    @staticmethod
    def of(use: Use, number: int, linear: LinearizedGraph) -> _Spliced:
        """The program of a use at the point of the whole function."""
        inner = graph_of(use.jaxpr, [_vertex(atom) is not None for atom in use.operands])
        active = ActiveGraph.of(inner, inner.outputs)
        arguments = [read(atom, linear.point.values) for atom in use.operands]
        edges = linearize_to_results(active, arguments, inner.captured).edges
        return _Spliced(use, number, active, edges)

    def name(self, vertex: Vertex) -> Vertex:
        """A vertex of the program among those of the whole function."""
        if vertex == ("out", 0):
            return self.use.vertex
        inputs = self.active.graph.inputs
        if vertex in inputs:
            return _vertex(self.use.operands[inputs.index(vertex)])
        return "use", self.number, vertex

    def into(self, vertices: Sequence[Vertex], linear: LinearizedGraph) -> list[Vertex]:
        """Add the edges to those of the whole function; its vertices with those of the program."""
        edges = linear.edges
        for tail, leaving in self.edges.leaving.items():
            for head, edge in leaving.items():
                edges.add(self.name(tail), self.name(head), edge)
        edges.same |= {(self.name(tail), self.name(head)) for tail, head in self.edges.same}
        own = [self.use.vertex, *map(self.name, self.active.reverse_order)]
        last = [vertices.index(vertex) for vertex in self.use.results if vertex in vertices]
        behind = max(last, default=-1) + 1
        return [*vertices[:behind], *own, *vertices[behind:]]


def _vertex(atom: Atom) -> int | None:
    return atom.vertex if isinstance(atom, Operand) else None
