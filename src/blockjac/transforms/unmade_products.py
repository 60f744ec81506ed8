"""Norms and inner products of per-example gradients, from gradients kept in factors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import jax.numpy as jnp

from blockjac.algebra.backend import planning
from blockjac.algebra.dense import dense
from blockjac.algebra.star import chain_along
from blockjac.blocks import Block, add, star
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.linearize import linearize_to_results
from blockjac.engine.computations import Arrays
from blockjac.engine.finish import NO_LIMIT
from blockjac.graph.graph import Graph
from blockjac.operators.compose import compose, written
from blockjac.operators.operator import Edge, Operator
from blockjac.planning import Order, choose_unfinished

Product = tuple[Block, ...]
"""Blocks to be contracted with each other, one or two."""


@dataclass(frozen=True)
class Products:
    """Sums over all inputs of `J J'`, or of its diagonal, for a Jacobian of one result `(N,)`.

    Attributes:
        wrt: the graph's inputs to differentiate by.
        order: of elimination.
        norms: whether the roots of the diagonal are asked for, and not the matrix.
    """

    wrt: tuple[int, ...]
    order: Order
    norms: bool

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and an array `(N,)` or `(N, N)`."""
        del extra
        outputs = graph.outputs[:1]
        linear = linearize_to_results(ActiveGraph.of(graph, outputs), arguments, captured)
        edges = linear.edges
        order = choose_unfinished(self.order, linear)
        rows = Unmade(
            edges.leaving, edges.entering, edges.same, collected={x: [] for x in self.wrt}
        )
        eliminate(rows, order)
        size = graph.aval(outputs[0]).shape
        zero = Block.zeros(size, () if self.norms else size, graph.avals[self.wrt[0]].dtype)
        squares = [self._squares(products) for products in rows.products() if products]
        total = reduce(jnp.add, (dense(block, max_bytes=NO_LIMIT) for block in squares or [zero]))
        # Terms that cancel may leave less than 0 of a square.
        answer = jnp.sqrt(jnp.maximum(total, 0)) if self.norms else total
        return linear.results()[1:], answer

    def _squares(self, products: Sequence[Product]) -> Block:
        """`J J'` for the sum J of some products, made first or not, whichever takes less time."""
        multiplied = lambda: self._square([(reduce(add, map(_multiplied, products)),)])  # noqa: E731
        if len(products) > FEW or all(len(product) == 1 for product in products):
            return multiplied()
        return _quickest(lambda: self._square(products), multiplied)

    def _square(self, products: Sequence[Product]) -> Block:
        """The sum over all pairs of products of one times the other's transpose."""
        blocks: list[Block] = []
        for number, left in enumerate(products):
            for right in products[: number + 1]:
                chain = [*left, *(block.T for block in reversed(right))]
                block = chain_along(chain, [(0, 0)] if self.norms else [])
                mirrored = block if self.norms else block.T
                blocks += [block] if left is right else [block, mirrored]
        return reduce(add, blocks)


FEW = 3
"""Up to this many products of two blocks are tried unmade: each meets each other."""


@dataclass
class Unmade(EliminationGraph):
    """Edges of a graph with one result; the products that lead to it from an input are not made.

    Of weights that are shared over time, as in `sum over t  Q[n,t,h] X[n,t,k]`, a norm may be had
    for less than that sum.

    Attributes:
        collected: the products by input; their sum is the Jacobian.
    """

    collected: dict[Vertex, list[Product]] = field(default_factory=dict)

    def add(self, tail: Vertex, head: Vertex, edge: Edge) -> None:
        """Add an edge, or note it if it leads from an input to the result."""
        if tail in self.collected and head == RESULT:
            self.collected[tail].append((written(edge),))
        else:
            super().add(tail, head, edge)

    def eliminate_vertex(self, vertex: Vertex) -> None:
        """Eliminate a vertex; the paths through it from an input to the result are noted."""
        for tail, right in self.entering.get(vertex, {}).items():
            left = self.leaving.get(vertex, {}).get(RESULT)
            if left is None or tail not in self.collected:
                continue
            if isinstance(left, Operator) or isinstance(right, Operator):
                self.collected[tail].append((compose(left, right),))
            else:
                is_same = (vertex, RESULT) in self.same
                self.collected[tail].append((right,) if is_same else (left, right))
        self.skipped = {(tail, RESULT) for tail in self.collected}
        super().eliminate_vertex(vertex)

    def products(self) -> Iterator[list[Product]]:
        """The products of each input, with the edge that was there from the start."""
        for tail, collected in self.collected.items():
            direct = self.leaving.get(tail, {}).get(RESULT)
            yield collected if direct is None else [*collected, (written(direct),)]


RESULT = ("out", 0)


def _multiplied(product: Product) -> Block:
    return reduce(star, product)


def _quickest(*ways: Callable[[], Block]) -> Block:
    """What the way gives that is predicted to take the least time, written out."""

    def seconds(way: Callable[[], Block]) -> float:
        with planning() as cost:
            dense(way(), max_bytes=NO_LIMIT)
        return cost.seconds()

    return min(ways, key=seconds)()
