"""Edges of a graph whose last products, those that lead from an input to a result, are not made."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce

from blockjac.blocks import Block, star
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.operators.compose import compose, written
from blockjac.operators.operator import Edge, Operator

Product = tuple[Block, ...]
"""Blocks to be contracted with each other, one or two."""


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
