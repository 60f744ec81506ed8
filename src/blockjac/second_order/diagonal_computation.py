"""The computation of Jacobian diagonals, without the blocks that they belong to."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import jax.numpy as jnp

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Cost, OverBudget
from blockjac.algebra.dense import along, dense
from blockjac.algebra.star import star_along
from blockjac.blocks import Block, add
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.linearize import linearize_to_results
from blockjac.engine.computations import Arrays
from blockjac.engine.finish import NO_LIMIT
from blockjac.graph.graph import Graph
from blockjac.operators.compose import compose, written
from blockjac.operators.operator import Edge
from blockjac.planning import Order, choose_unfinished
from blockjac.planning.directions import has_one_way

EFFORT = 24_000
"""What may be spent on trying vertices as the last, see `Cost.effort`: about 0.2 s."""


@dataclass(frozen=True)
class Wanted:
    """A result and an input whose block's diagonal is asked for.

    Attributes:
        output: the number of the result.
        input: the number of the input, among those that are differentiated.
        leading: how many axes of the result come before those that pair with the input's.
        rank: how many axes the input has.
    """

    output: int
    input: int
    leading: int
    rank: int

    @property
    def axes(self) -> list[tuple[int, int]]:
        """The pairs of an output and an input axis that have to agree."""
        return [(self.leading + axis, axis) for axis in range(self.rank)]


@dataclass(frozen=True)
class Diagonal:
    """The diagonals of some blocks of a Jacobian, one array each.

    Attributes:
        count: how many results are differentiated.
        wrt: the graph's inputs to differentiate by.
        order: of elimination.
        pairs: which blocks.
    """

    count: int
    wrt: tuple[int, ...]
    order: Order
    pairs: tuple[Wanted, ...]

    takes_any_numbers: ClassVar[bool] = True

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and the diagonals, of the shapes of the results."""
        del extra
        outputs = graph.outputs[: self.count]
        linear = linearize_to_results(ActiveGraph.of(graph, outputs), arguments, captured)
        edges = linear.edges
        asked = {(self.wrt[pair.input], ("out", pair.output)) for pair in self.pairs}
        every = {(leaf, ("out", position)) for leaf in self.wrt for position in range(self.count)}
        edges.skipped = every - asked
        order = choose_unfinished(self.order, linear)
        if self.order == "auto" and not has_one_way(linear.active):
            order = self._cheapest(edges, order)
        diagonals = self._diagonals(edges, order)
        return linear.results()[self.count :], [
            jnp.zeros(
                graph.aval(outputs[pair.output]).shape, graph.avals[self.wrt[pair.input]].dtype
            )
            if block is None
            else dense(block, max_bytes=NO_LIMIT)
            for pair, block in zip(self.pairs, diagonals, strict=True)
        ]

    def _diagonals(
        self,
        edges: EliminationGraph,
        order: Sequence[Vertex],
        after: Callable[[Sequence[Vertex]], None] | None = None,
    ) -> list[Block | None]:
        """Eliminate all but the last vertex, and that one at the diagonals alone.

        Args:
            edges: the graph; it is used up.
            order: the vertices.
            after: called after each elimination but the last.
        """
        eliminate(edges, order[:-1], after)
        return [self._diagonal(edges, pair, order[-1:]) for pair in self.pairs]

    def _diagonal(
        self, edges: EliminationGraph, pair: Wanted, left: Sequence[Vertex]
    ) -> Block | None:
        """The diagonal of one block, from the edges around the vertex that is left, if one is."""
        tail, head = self.wrt[pair.input], ("out", pair.output)
        parts: list[Block] = []
        direct = edges.leaving.get(tail, {}).get(head)
        if direct is not None:
            parts.append(along(written(direct), pair.axes))
        for vertex in left:  # gone if an operator took it along
            into, out = edges.entering.get(vertex, {}).get(tail), edges.leaving.get(vertex, {})
            if into is not None and head in out:
                parts.append(_contracted(out[head], into, pair))
        return reduce(add, parts) if parts else None

    def _cheapest(self, edges: EliminationGraph, order: list[Vertex]) -> list[Vertex]:
        """The order, or its reverse, with that vertex put last that makes the diagonal cheapest."""
        best, least, effort = order, math.inf, EFFORT
        for candidate in _with_each_last(order):
            cost = self._price(edges, candidate, effort, least)
            effort -= cost.effort
            if effort < 0:
                break
            if cost.seconds() < least:
                best, least = candidate, cost.seconds()
        return best

    def _price(
        self, edges: EliminationGraph, order: list[Vertex], effort: int, bound: float
    ) -> Cost:
        """The predicted cost of the diagonals, or what it has come to when it passes a limit."""

        def check(_: Sequence[Vertex]) -> None:
            if cost.seconds() > bound:
                raise OverBudget

        with planning(effort) as cost, contextlib.suppress(OverBudget):
            for block in self._diagonals(edges.copy(), order, check):
                if block is not None:
                    dense(block, max_bytes=NO_LIMIT)
        return cost


def _contracted(left: Edge, right: Edge, pair: Wanted) -> Block:
    """The product of two edges at the diagonal; an operator, where there is one, is applied."""
    if isinstance(left, Block) and isinstance(right, Block):
        return star_along(left, right, pair.axes)
    return along(compose(left, right), pair.axes)


def _with_each_last(order: list[Vertex]) -> Iterator[list[Vertex]]:
    """The order, then the order and its reverse with other vertices last, from all over it."""
    last = range(len(order) - 1, -1, -1)
    step = len(order)
    tried: set[int] = set()
    while step:
        for position in last[::step]:
            if position not in tried:
                tried.add(position)
                remaining = [*order[:position], *order[position + 1 :]]
                yield [*remaining, order[position]]
                yield [*remaining[::-1], order[position]]
        step //= 2
