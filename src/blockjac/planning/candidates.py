"""Orders that planners find: greedily, by chains, by annealing."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Cost, OverBudget
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.operators.operator import Operator
from blockjac.planning.annealing import Search, annealed
from blockjac.planning.chains import chain_moves
from blockjac.planning.elimination_state import Elimination, Pairs, State, Structured
from blockjac.planning.price import price
from blockjac.planning.scalar_state import Scalars


def _apart(
    edges: EliminationGraph, vertices: Sequence[Vertex]
) -> tuple[list[Vertex], list[Vertex]]:
    """The vertices that meet blocks alone, and those that meet operators.

    Operands and results of operators come last, backwards: an operator is passed in one go, and to
    price each of its edges alone would plan a whole loop for each.
    """
    last = [vertex for vertex in vertices if _meets_operator(edges, vertex)]
    behind = set(last)
    return [vertex for vertex in vertices if vertex not in behind], last


def _meets_operator(edges: EliminationGraph, vertex: Vertex) -> bool:
    around = *edges.entering.get(vertex, {}).values(), *edges.leaving.get(vertex, {}).values()
    return any(isinstance(edge, Operator) for edge in around)


def greedy_order(
    edges: EliminationGraph,
    vertices: Sequence[Vertex],
    objective: Callable[[Cost], float] = Cost.seconds,
    limit: int | None = None,
    bound: float = math.inf,
) -> list[Vertex]:
    """Always the vertex that is cheapest to eliminate now (Markowitz); ties to the later vertex.

    Args:
        edges: the graph; it stays as it is.
        vertices: those to eliminate, last computed first, so that the first minimum is the latest.
        objective: what is cheap.
        limit: the effort that may be spent.
        bound: given up when the order is predicted to cost more.

    Raises:
        OverBudget: over the limit or the bound.
    """
    free, last = _apart(edges, vertices)
    with planning(limit):
        elimination = Structured(edges, free, Pairs(objective))
        moves, _ = _greedy_moves(elimination, elimination.start, range(len(free)), bound)
    return [*(free[move] for move in moves), *last]


def _greedy_moves(
    elimination: Structured | Scalars, state: State, moves: Sequence[int], bound: float = math.inf
) -> tuple[list[int], float]:
    """The cheapest move again and again from a state, and the price of all of them.

    Only prices of vertices around the last move change; outdated entries of the queue are skipped.
    """
    prices = {move: _to_ten_digits(elimination.price_of(state, move)) for move in moves}
    queue = [(price, move) for move, price in prices.items()]
    heapq.heapify(queue)
    order: list[int] = []
    spent = 0.0
    while queue:
        price_then, move = heapq.heappop(queue)
        if move not in prices or prices[move] != price_then:
            continue
        del prices[move]
        order.append(move)
        around = elimination.around(state, move)
        state, paid = elimination.move(state, move)
        spent += paid
        if spent > bound:
            raise OverBudget
        for neighbor in around:
            if neighbor in prices:
                prices[neighbor] = _to_ten_digits(elimination.price_of(state, neighbor))
                heapq.heappush(queue, (prices[neighbor], neighbor))
    return order, spent


def _to_ten_digits(price: float) -> float:
    """Equal prices that were added up in another order differ in their last digits, and tie."""
    return float(f"{price:.10g}")


def chain_order(
    edges: EliminationGraph,
    vertices: Sequence[Vertex],
    limit: int | None = None,
    bound: float = math.inf,
) -> list[Vertex]:
    """Each chain of the graph in its best order, by dynamic programming; what is left greedily.

    Raises:
        OverBudget: over the limit or the bound, or where the graph is not a chain.
    """
    free, last = _apart(edges, vertices)
    with planning(limit):
        elimination = Structured(edges, free, Pairs(Cost.seconds))
        moves, state, spent = chain_moves(elimination, len(free))
        if not moves or spent > bound:
            raise OverBudget
        done = set(moves)
        rest = [move for move in range(len(free)) if move not in done]
        more, _ = _greedy_moves(elimination, state, rest, bound - spent)
    return [*(free[move] for move in (*moves, *more)), *last]


def searched_order(
    search: Search, edges: EliminationGraph, reverse: list[Vertex], write: bool
) -> list[Vertex]:
    """The best of reverse, forward, greedy and what annealing makes of the best of these.

    Args:
        search: how long, from which seed, and what is made small.
        edges: the graph; it stays as it is.
        reverse: the vertices to eliminate, last computed first.
        write: whether writing the answer out dense is part of the price.
    """
    objective = objective_of(search)

    def exact(order: Sequence[Vertex]) -> tuple[float, float]:
        cost = price(edges, order, write)
        return objective(cost), cost.seconds()

    candidates = [reverse, reverse[::-1], greedy_order(edges, reverse, objective)]
    candidates.append(greedy_order(edges, reverse))
    candidates.sort(key=exact)
    free, last = _apart(edges, reverse)
    numbers = {vertex: number for number, vertex in enumerate(free)}
    with planning():
        if search.objective == "edge_products" and Scalars.fits(edges):
            elimination: Elimination = Scalars(edges, free)
        else:
            elimination = Structured(edges, free, Pairs(objective))
        start = [numbers[vertex] for vertex in candidates[0] if vertex in numbers]
        annealed_order = [*(free[move] for move in annealed(elimination, start, search)), *last]
    return min([annealed_order, *candidates], key=exact)


def objective_of(search: Search) -> Callable[[Cost], float]:
    """What a search makes small, as a function of the cost."""
    if search.objective == "seconds":
        return Cost.seconds
    if search.objective == "multiplications":
        return lambda cost: cost.multiplications + cost.operator_operations
    return lambda cost: cost.edge_products + cost.operator_operations
