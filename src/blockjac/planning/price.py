"""The predicted cost of an order, found by running the elimination on structure alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Cost, OverBudget
from blockjac.algebra.dense import dense
from blockjac.algebra.sums import compact
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.planning.elimination_state import (
    NO_LIMIT,
)
from blockjac.terms.block import Block


def result_edges(edges: EliminationGraph) -> list[tuple[Vertex, Any]]:
    """The edges that lead to results, each with its head."""
    return [
        (head, edge)
        for head, tails in edges.entering.items()
        if isinstance(head, tuple)
        for edge in tails.values()
    ]


def price(
    edges: EliminationGraph,
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
        limit: the effort that may be spent.
        bound: seconds; an order that takes longer is given up on the way.

    Raises:
        OverBudget: over the limit or the bound.
    """
    left = edges.copy()

    def check(_: Sequence[Vertex]) -> None:
        if cost.seconds() > bound:
            raise OverBudget

    with planning(limit) as cost:
        eliminate(left, order, check)
        for _, edge in result_edges(left):
            if isinstance(edge, Block) and write:
                dense(edge, max_bytes=NO_LIMIT)
            elif isinstance(edge, Block) and limit is None:  # of the order that was chosen
                compact(edge)
    return cost
