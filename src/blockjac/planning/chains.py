"""The best order of a chain, by dynamic programming: matrix-chain multiplication with structure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from blockjac.planning.elimination_state import State, Structured

LONGEST = 64
"""How many vertices of a chain are ordered together; a longer chain is cut."""

STEPS = 40_000
"""About how many splits of chains are compared in all, a microsecond each: the more vertices there
are in chains, the fewer are ordered together."""


def chain_moves(elimination: Structured, count: int) -> tuple[list[int], State, float]:
    """The moves that eliminate all chains of a graph.

    A chain is a run of vertices with one edge in and one edge out each. Its products may be formed
    in any order; the best one splits the chain at the vertex that is eliminated last, into two
    chains whose best orders are known.

    Args:
        elimination: of the graph.
        count: how many vertices may be eliminated.

    Returns:
        The moves, the state after them, and their price.
    """
    moves = [
        move for chain in _chains(elimination.start, count) for move in _best(elimination, chain)
    ]
    state, spent = elimination.start, 0.0
    for move in moves:
        state, price = elimination.move(state, move)
        spent += price
    return moves, state, spent


def _chains(state: State, count: int) -> list[list[int]]:
    """Runs of at least two vertices, each the only way from the one before to the one after."""
    leaving, entering = state

    def is_link(vertex: int) -> bool:
        return vertex < count and len(leaving[vertex]) == 1 and len(entering[vertex]) == 1

    chains: list[list[int]] = []
    for vertex in range(count):
        if not is_link(vertex) or is_link(entering[vertex][0]):
            continue
        run = [vertex]
        while is_link(following := next(iter(leaving[run[-1]]))):
            run.append(following)
        chains.append(run)
    # Of n vertices ordered together, n^3 / 6 splits are compared.
    linked = sum(map(len, chains))
    longest = min(LONGEST, max(2, math.isqrt(6 * STEPS // max(linked, 1))))
    parts = [run[at : at + longest] for run in chains for at in range(0, len(run), longest)]
    return [part for part in parts if len(part) > 1]


def _best(elimination: Structured, chain: Sequence[int]) -> list[int]:
    """The vertices of a chain in the order that is cheapest."""
    leaving, entering = elimination.start
    points = [entering[chain[0]][0], *chain, next(iter(leaving[chain[-1]]))]
    last = len(points) - 1
    edges: dict[tuple[int, int], int] = {}
    price: dict[tuple[int, int], float] = {}
    split: dict[tuple[int, int], int] = {}
    for first in range(last):
        edges[first, first + 1] = leaving[points[first]][points[first + 1]]
        price[first, first + 1] = 0.0
    for length in range(2, last + 1):
        for first in range(last - length + 1):
            end = first + length
            for middle in range(first + 1, end):
                edge, paid = elimination.pairs.product(edges[middle, end], edges[first, middle])
                paid += price[first, middle] + price[middle, end]
                if length == last:  # factors not yet multiplied are multiplied in the end
                    paid += elimination.pairs.writing(edge)
                if (first, end) not in price or paid < price[first, end]:
                    edges[first, end], price[first, end] = edge, paid
                    split[first, end] = middle

    def moves(first: int, end: int) -> list[int]:
        if (first, end) not in split:
            return []
        middle = split[first, end]
        return [*moves(first, middle), *moves(middle, end), points[middle]]

    return moves(0, last)
