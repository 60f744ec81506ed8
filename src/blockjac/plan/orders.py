"""Candidate orders and their predicted cost.

A candidate is priced by running the elimination itself inside `planning()`: the same code that will compute decides on
structure alone, and counts operations and bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blockjac.blocks.block import Block
from blockjac.blocks.dense import dense
from blockjac.blocks.factor import Cost, planning
from blockjac.blocks.operators import compose
from blockjac.eliminate import Edges, Vertex, eliminate, forward_order, reverse_order
from blockjac.graph import Graph

MAX_PRICED = 200
"""Graphs with more vertices to eliminate than this are taken in reverse unless the caller says otherwise."""

MARGIN = 0.95
"""Another order must be predicted to take less than this share of reverse's time to be preferred."""


def choose_order(order: str, graph: Graph, edges: Edges, useful: set[int], write: bool) -> list[Vertex]:
    """The vertices to eliminate, in order.

    Args:
        order: "reverse", "forward", "greedy", or "auto": the cheapest of them by predicted time.
        graph: the traced function.
        edges: its elemental Jacobians, with the results as vertices.
        useful: vertices on a path from an input to a result.
        write: whether the answer will be written out dense, which then is part of the price.
    """
    reverse = reverse_order(graph, useful)
    if order == "reverse" or not reverse:
        return reverse
    if order == "forward":
        return forward_order(graph, useful)
    if order == "greedy":
        return greedy_order(edges, reverse)
    if len(reverse) > MAX_PRICED or _is_wide_gradient(graph, edges):
        return reverse
    best, least = reverse, price(edges, reverse, write).seconds() * MARGIN
    for candidate in (forward_order(graph, useful), greedy_order(edges, reverse)):
        seconds = price(edges, candidate, write).seconds()
        if seconds < least:
            best, least = candidate, seconds
    return best


def _is_wide_gradient(graph: Graph, edges: Edges) -> bool:
    """Whether one number is differentiated: then going backwards carries no more than the values themselves."""
    heads = [edge for head, edge in _results(edges)]
    return all(edge.out_shape == () for edge in heads) and len({head for head, _ in _results(edges)}) == 1


def _results(edges: Edges) -> list[tuple[Vertex, Any]]:
    return [(head, edge) for head, tails in edges.entering.items() if isinstance(head, tuple) for edge in tails.values()]


def price(edges: Edges, order: Sequence[Vertex], write: bool) -> Cost:
    """The predicted cost of an elimination, run on structure alone."""
    with planning() as cost:
        left = eliminate(edges.copy(), order)
        if write:
            for _, edge in _results(left):
                if isinstance(edge, Block):
                    dense(edge, max_bytes=2**62)
    return cost


def greedy_order(edges: Edges, vertices: Sequence[Vertex]) -> list[Vertex]:
    """Always the vertex whose elimination is cheapest now (Markowitz on structured cost); ties to the later vertex."""
    left = edges.copy()
    pending = list(vertices)  # last computed first, so that the first minimum is the latest vertex
    order: list[Vertex] = []
    with planning():
        prices = {vertex: _elimination_price(left, vertex) for vertex in pending}
        while pending:
            vertex = min(pending, key=lambda one: prices[one])
            neighbours = {*left.entering.get(vertex, {}), *left.leaving.get(vertex, {})}
            eliminate(left, [vertex])
            order.append(vertex)
            pending = [one for one in pending if one != vertex and (one in left.entering or one in left.leaving)]
            for one in pending:
                if one in neighbours:
                    prices[one] = _elimination_price(left, one)
    return [*order, *(vertex for vertex in vertices if vertex not in order)]


def _elimination_price(edges: Edges, vertex: Vertex) -> float:
    with planning() as cost:
        for leaving in edges.leaving.get(vertex, {}).values():
            for entering in edges.entering.get(vertex, {}).values():
                compose(leaving, entering)
    return cost.seconds()
