"""Candidate orders and their predicted cost.

A candidate is priced by running the elimination itself inside `planning()`: the same code that will
compute decides on structure alone, and counts operations and bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from blockjac.blocks.block import Block
from blockjac.blocks.dense import dense
from blockjac.blocks.factor import Cost, OverBudget, planning
from blockjac.blocks.operators import Operator, compose
from blockjac.eliminate import (
    Edges,
    Vertex,
    eliminate,
    forward_order,
    is_reversible,
    reverse_order,
)
from blockjac.graph import Graph
from blockjac.plan.one_way import check_backwards, check_forwards, has_one_way

BUDGET = 1000
"""How many contractions of two terms "auto" prices before it gives a candidate up."""

NO_LIMIT = 2**62
"""Bytes: a plan writes nothing, whatever the size."""

MARGIN = 0.95
"""The share of reverse's predicted time that another order must stay below to be taken."""


def choose_order(
    order: str, graph: Graph, edges: Edges, useful: set[int], write: bool
) -> list[Vertex]:
    """The vertices to eliminate, in order.

    Args:
        order: "reverse", "forward", "greedy", or "auto": the cheapest of them by predicted time.
        graph: the traced function.
        edges: its elemental Jacobians, with the results as vertices.
        useful: vertices on a path from an input to a result.
        write: whether the answer will be written out dense, which then is part of the price.
    """
    reverse = reverse_order(graph, useful)
    if order == "reverse":
        check_backwards(graph, useful)
    if order == "reverse" or not reverse:
        return reverse
    if order == "forward" or not is_reversible(graph, useful):
        check_forwards(graph, useful)
        return forward_order(graph, useful)
    if has_one_way(graph, useful):
        return reverse
    if order == "greedy":
        return greedy_order(edges, reverse)
    if _is_wide_gradient(edges):
        return reverse
    least = price(edges, reverse, write).seconds() * MARGIN
    bound, best = least, reverse
    for candidate in (
        lambda: forward_order(graph, useful),
        lambda: greedy_order(edges, reverse, BUDGET, bound),
    ):
        try:
            vertices = candidate()
            seconds = price(edges, vertices, write, BUDGET, least).seconds()
        except OverBudget:
            continue
        if seconds < least:
            best, least = vertices, seconds
    return best


def _is_wide_gradient(edges: Edges) -> bool:
    """Whether one number is differentiated: then backwards carries no more than the values do."""
    results = _results(edges)
    return (
        all(edge.out_shape == () for _, edge in results) and len({head for head, _ in results}) == 1
    )


def _results(edges: Edges) -> list[tuple[Vertex, Any]]:
    return [
        (head, edge)
        for head, tails in edges.entering.items()
        if isinstance(head, tuple)
        for edge in tails.values()
    ]


def price(
    edges: Edges,
    order: Sequence[Vertex],
    write: bool,
    limit: int | None = None,
    bound: float = math.inf,
) -> Cost:
    """The predicted cost of an elimination, run on structure alone.

    Args:
        edges: the graph; it stays as it is.
        order: the vertices to eliminate.
        write: whether writing the answer out dense is part of the price.
        limit: how many contractions of terms may be priced.
        bound: seconds; an order that takes longer is given up on the way.

    Raises:
        OverBudget: over the limit or the bound.
    """
    left = edges.copy()

    def check() -> None:
        if cost.seconds() > bound:
            raise OverBudget

    with planning(limit) as cost:
        eliminate(left, order, check)
        if write:
            for _, edge in _results(left):
                if isinstance(edge, Block):
                    dense(edge, max_bytes=NO_LIMIT)
    return cost


def greedy_order(
    edges: Edges,
    vertices: Sequence[Vertex],
    limit: int | None = None,
    bound: float = math.inf,
) -> list[Vertex]:
    """Always the vertex that is cheapest to eliminate now (Markowitz); ties to the later vertex.

    Operands and results of operators come last, backwards: an operator is passed in one go, and to
    price each of its edges alone would plan a whole loop for each.

    Args:
        edges: the graph; it stays as it is.
        vertices: those to eliminate, last computed first, so that the first minimum is the latest.
        limit: how many contractions of terms may be priced.
        bound: seconds; given up when the order is predicted to take longer.

    Raises:
        OverBudget: over the limit or the bound.
    """
    left = edges.copy()
    last = [vertex for vertex in vertices if _meets_operator(edges, vertex)]
    pending = [vertex for vertex in vertices if vertex not in set(last)]
    order: list[Vertex] = []
    memory: _Memory = {}
    seconds = 0.0
    with planning(limit) as spent:
        prices = {vertex: _elimination_price(left, vertex, memory, spent) for vertex in pending}
        while pending:
            vertex = min(pending, key=lambda one: prices[one])
            seconds += prices[vertex]
            if seconds > bound:
                raise OverBudget
            neighbours = {*left.entering.get(vertex, {}), *left.leaving.get(vertex, {})}
            _eliminate_remembered(left, vertex, memory, spent)
            order.append(vertex)
            pending.remove(vertex)
            for one in pending:
                if one in neighbours:
                    prices[one] = _elimination_price(left, one, memory, spent)
    return [*order, *last]


def _meets_operator(edges: Edges, vertex: Vertex) -> bool:
    around = *edges.entering.get(vertex, {}).values(), *edges.leaving.get(vertex, {}).values()
    return any(isinstance(edge, Operator) for edge in around)


_Memory = dict[tuple[int, int], tuple[Any, Any, Block, float]]
"""By the identities of two edges: the edges, kept alive; what they contract to; its price."""


def _remembered(left: Any, right: Any, memory: _Memory, spent: Cost) -> tuple[Block, float]:
    key = (id(left), id(right))
    if key not in memory:
        with planning(None if spent.limit is None else spent.limit - spent.contractions) as cost:
            block = compose(left, right)
        spent.contractions += cost.contractions
        memory[key] = (left, right, block, cost.seconds())
    return memory[key][2:]


def _elimination_price(edges: Edges, vertex: Vertex, memory: _Memory, spent: Cost) -> float:
    return sum(
        _remembered(leaving, entering, memory, spent)[1]
        for leaving in edges.leaving.get(vertex, {}).values()
        for entering in edges.entering.get(vertex, {}).values()
    )


def _eliminate_remembered(edges: Edges, vertex: Vertex, memory: _Memory, spent: Cost) -> None:
    entering, leaving = edges.remove(vertex)
    for head, left in leaving.items():
        for tail, right in entering.items():
            edges.add(tail, head, _remembered(left, right, memory, spent)[0])
