"""The graph of elemental Jacobians that vertices are eliminated from."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

from blockjac.blocks import Block, add
from blockjac.graph.graph import Equation
from blockjac.operators.compose import compose, written
from blockjac.operators.operator import Edge

Vertex = Any
"""The number of a vertex of a graph, or `("out", k)` for the k-th result."""


@dataclass
class EliminationGraph:
    """The linearized computational graph, changed as vertices are eliminated.

    Attributes:
        leaving: edges by tail, then by head.
        entering: the same edges by head, then by tail.
        same: pairs of a vertex and a result equal to it, whose edge is the identity.
        skipped: pairs of an input and a result whose Jacobian is not needed.
        whole: whether some operator must receive a tangent as a whole, not in parts that are added
            up, because it need not be linear.
        equations: the equation of each vertex, to report losses of structure.
    """

    leaving: dict[Vertex, dict[Vertex, Edge]] = field(default_factory=dict)
    entering: dict[Vertex, dict[Vertex, Edge]] = field(default_factory=dict)
    same: set[tuple[Vertex, Vertex]] = field(default_factory=set)
    skipped: Set[tuple[Vertex, Vertex]] = frozenset()
    whole: bool = False
    equations: dict[Vertex, Equation] = field(default_factory=dict)

    def add(self, tail: Vertex, head: Vertex, edge: Edge) -> None:
        """Add an edge; parallel edges add up."""
        if (isinstance(edge, Block) and edge.is_zero) or (tail, head) in self.skipped:
            return
        present = self.leaving.get(tail, {}).get(head)
        if present is not None:
            edge = add(written(present), written(edge))
            self.same.discard((tail, head))
        self.leaving.setdefault(tail, {})[head] = edge
        self.entering.setdefault(head, {})[tail] = edge

    def eliminate_vertex(self, vertex: Vertex) -> None:
        """Eliminate a vertex: each pair of edges that meet there makes one that bypasses it."""
        products = [
            (tail, head, self.product(tail, vertex, head))
            for head in self.leaving.get(vertex, {})
            for tail in self.entering.get(vertex, {})
            if (tail, head) not in self.skipped
        ]
        self.remove(vertex)
        for tail, head, edge in products:
            self.add(tail, head, edge)

    def remove(self, vertex: Vertex) -> tuple[dict[Vertex, Edge], dict[Vertex, Edge]]:
        """Remove a vertex and return the edges that entered it and those that left it."""
        entering, leaving = self.entering.pop(vertex, {}), self.leaving.pop(vertex, {})
        for tail in entering:
            self.leaving[tail].pop(vertex, None)
        for head in leaving:
            self.entering[head].pop(vertex, None)
        return entering, leaving

    def copy(self) -> EliminationGraph:
        """A copy that can be eliminated independently."""
        return EliminationGraph(
            {vertex: dict(edges) for vertex, edges in self.leaving.items()},
            {vertex: dict(edges) for vertex, edges in self.entering.items()},
            set(self.same),
            self.skipped,
            self.whole,
            self.equations,
        )

    def product(self, tail: Vertex, vertex: Vertex, head: Vertex) -> Block:
        """The contraction of the edges from tail to vertex and from vertex to head."""
        left, right = self.leaving[vertex][head], self.entering[vertex][tail]
        if (vertex, head) in self.same and isinstance(right, Block):
            return right
        return compose(left, right)
