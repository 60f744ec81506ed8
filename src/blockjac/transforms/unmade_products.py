"""Jacobians as products that are not made: what leads to a result from each parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from blockjac.blocks import Block, star
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.evaluate import read
from blockjac.elimination.linearize import LinearizedGraph, linearize_to_results
from blockjac.graph.graph import Atom, Graph, Operand
from blockjac.graph.loop_uses import Use, with_uses_outside
from blockjac.graph.trace import graph_of
from blockjac.operators.compose import compose, written
from blockjac.operators.operator import Edge, Operator
from blockjac.planning import Order, choose_unfinished

Product = tuple[Block, ...]
"""Blocks to be contracted with each other, one or two."""


@dataclass(frozen=True)
class Rows:
    """The Jacobian of a function's results, unmade, and all that the function returns.

    Attributes:
        values: what the function returns.
        products: for each result and each input the products whose sum is the block.
    """

    values: list[Any]
    products: list[list[list[Product]]]


def unmade_rows(
    graph: Graph,
    arguments: Sequence[Any],
    captured: Sequence[Any],
    wrt: Sequence[int],
    order: Order,
    count: int,
) -> Rows:
    """The Jacobian of the first results of a graph as products.

    Args:
        graph: the traced function.
        arguments: values of its inputs.
        captured: values of its constants.
        wrt: the graph's inputs to differentiate by.
        order: of elimination.
        count: how many results are differentiated.
    """
    active = ActiveGraph.of(graph, graph.outputs[:count])
    uses: list[Use] = []
    if order in ("auto", "reverse") and active.is_reversible:
        rows = sum(math.prod(graph.aval(output).shape) for output in graph.outputs[:count])
        graph, uses = with_uses_outside(graph, active.vertices, rows)
        captured = [*captured, *graph.captured[len(captured) :]]
        active = ActiveGraph.of(graph, graph.outputs[:count])
    linear = linearize_to_results(active, arguments, captured)
    edges = linear.edges
    vertices = active.reverse_order if uses else choose_unfinished(order, linear)
    for number, use in enumerate(uses):
        vertices = _spliced(use, number, linear, vertices)
    heads = [("out", position) for position in range(count)]
    unmade = Unmade(
        edges.leaving,
        edges.entering,
        edges.same,
        collected={(leaf, head): [] for leaf in wrt for head in heads},
    )
    eliminate(unmade, vertices)
    products = [[unmade.products(leaf, head) for leaf in wrt] for head in heads]
    return Rows(linear.results(), products)


def _spliced(
    use: Use, number: int, linear: LinearizedGraph, vertices: Sequence[Vertex]
) -> list[Vertex]:
    """Add what all steps of a loop do with its constants to the edges, and to the vertices.

    Args:
        use: of the constants.
        number: of the use.
        linear: the function at a point, to whose edges those of the use are added.
        vertices: in the order of elimination.
    """
    values, edges = linear.point.values, linear.edges
    inner = graph_of(use.jaxpr, [_vertex(atom) is not None for atom in use.operands])
    active = ActiveGraph.of(inner, inner.outputs)
    arguments = [read(atom, values) for atom in use.operands]
    inside = linearize_to_results(active, arguments, inner.captured).edges
    names: dict[Vertex, Vertex] = {("out", 0): use.vertex}
    for value, atom in zip(inner.inputs, use.operands, strict=True):
        names[value] = _vertex(atom)

    def name(vertex: Vertex) -> Vertex:
        return names.setdefault(vertex, ("use", number, vertex))

    for tail, leaving in inside.leaving.items():
        for head, edge in leaving.items():
            edges.add(name(tail), name(head), edge)
    edges.same |= {(name(tail), name(head)) for tail, head in inside.same}
    own = [use.vertex, *(name(vertex) for vertex in active.reverse_order)]
    behind = max(
        (vertices.index(result) for result in use.results if result in vertices), default=-1
    )
    return [*vertices[: behind + 1], *own, *vertices[behind + 1 :]]


def _vertex(atom: Atom) -> int | None:
    return atom.vertex if isinstance(atom, Operand) else None


@dataclass
class Unmade(EliminationGraph):
    """Edges of a graph; the products that lead from an input to a result are not made.

    Of weights that are shared over time, as in `sum over t  Q[n,t,h] X[n,t,k]`, a norm may be had
    for less than that sum.

    Attributes:
        collected: the products by input and result; their sum is the Jacobian.
    """

    collected: dict[tuple[Vertex, Vertex], list[Product]] = field(default_factory=dict)

    def add(self, tail: Vertex, head: Vertex, edge: Edge) -> None:
        """Add an edge, or note it if it leads from an input to a result."""
        if (tail, head) in self.collected:
            self.collected[tail, head].append((written(edge),))
        else:
            super().add(tail, head, edge)

    def eliminate_vertex(self, vertex: Vertex) -> None:
        """Eliminate a vertex; the paths through it from an input to a result are noted."""
        for tail, right in self.entering.get(vertex, {}).items():
            for head, left in self.leaving.get(vertex, {}).items():
                if (tail, head) not in self.collected:
                    continue
                if isinstance(left, Operator) or isinstance(right, Operator):
                    product = (compose(left, right),)
                else:
                    product = (right,) if (vertex, head) in self.same else (left, right)
                self.collected[tail, head].append(product)
        self.skipped = self.collected.keys()
        super().eliminate_vertex(vertex)

    def products(self, tail: Vertex, head: Vertex) -> list[Product]:
        """The products of an input and a result, with the edge that was there from the start."""
        direct = self.leaving.get(tail, {}).get(head)
        collected = self.collected[tail, head]
        return collected if direct is None else [*collected, (written(direct),)]


def multiplied(product: Product) -> Block:
    """A product that is made."""
    return reduce(star, product)
