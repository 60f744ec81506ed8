"""Candidate orders of elimination, and the choice among them.

Candidates are found on the numbers of `planning.elimination_state`; each is then priced exactly, by
running the elimination itself inside `planning()`: the same code that will compute decides on
structure alone, and counts operations and bytes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Cost, OverBudget
from blockjac.algebra.dense import dense
from blockjac.algebra.sums import compact
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.linearize import LinearizedGraph
from blockjac.errors import OrderError
from blockjac.operators.operator import Operator
from blockjac.planning.annealing import Search, annealed
from blockjac.planning.chains import chain_moves
from blockjac.planning.directions import (
    check_backwards,
    check_forwards,
    goes_backwards,
    goes_forwards,
)
from blockjac.planning.elimination_state import (
    NO_LIMIT,
    Elimination,
    Pairs,
    Scalars,
    State,
    Structured,
)
from blockjac.planning.plan import Plan
from blockjac.terms.block import Block

Name = Literal["auto", "reverse", "forward", "greedy", "search"]
"""The orders that have one."""

Order = Name | Search | tuple[int, ...]
"""A name, a search, or the vertices themselves."""

NAMES: tuple[Name, ...] = get_args(Name)

BUDGET = 12_000
"""The effort that "auto" spends on a candidate, see `Cost.effort`: about 0.1 s."""

MARGIN = 0.95
"""The share of reverse's predicted time that another order must stay below to be taken."""


def check_order(order: Any) -> Order | Plan:
    """The order as one that can be hashed.

    Raises:
        OrderError: names it and what there is.
    """
    if isinstance(order, Search | Plan) or (isinstance(order, str) and order in NAMES):
        return order
    vertices = () if isinstance(order, str) or not isinstance(order, Sequence) else tuple(order)
    if vertices and all(type(vertex) is int for vertex in vertices):
        return vertices
    raise OrderError(
        f"order is {order!r}, but must be one of {', '.join(map(repr, NAMES))}, a "
        "blockjac.Search(...), a Plan, or the vertices that a plan prints, each once"
    )


def choose_order(order: Order, linear: LinearizedGraph, write: bool) -> list[Vertex]:
    """The vertices to eliminate, in order.

    Args:
        order: "reverse", "forward", "greedy"; "auto": the cheapest of them by predicted time;
            a search; or the vertices.
        linear: the function at a point, with its results as vertices.
        write: whether the answer will be written out dense, which then is part of the price.

    Raises:
        OrderError: for vertices that are not those of the graph.
    """
    active, edges = linear.active, linear.edges
    reverse = active.reverse_order
    if isinstance(order, tuple):
        given = _given(order, reverse)
        _check_whole(given, active)
        return given
    if order == "reverse":
        check_backwards(active)
    if order == "reverse" or not reverse:
        return reverse
    if order == "forward" or not active.is_reversible:
        check_forwards(active)
        return list(active.forward_order)
    if goes_backwards(active):
        return reverse
    if goes_forwards(active):
        return list(active.forward_order)
    if order == "greedy":
        return greedy_order(edges, reverse)
    if order == "search" or isinstance(order, Search):
        search = order if isinstance(order, Search) else Search()
        return searched_order(search, edges, reverse, write)
    if _is_wide_gradient(edges):
        return reverse
    return _cheapest_in_time(edges, reverse, write)


def choose_unfinished(order: Order, linear: LinearizedGraph) -> list[Vertex]:
    """The order for an elimination that keeps some products apart; see `choose_order`.

    Forwards a collective needs whole tangents, by identities at the inputs; nothing is left to keep
    apart then, and what is asked for is the same backwards.
    """
    chosen = choose_order(order, linear, write=False)
    backwards = order == "forward" and goes_backwards(linear.active)
    return chosen[::-1] if backwards else chosen


def _check_whole(order: list[Vertex], active: ActiveGraph) -> None:
    """Raise for vertices by hand where a rule takes whole tangents only.

    Raises:
        OrderError: says which order there is.
    """
    if goes_forwards(active) and order != active.forward_order:
        raise OrderError(
            "the function holds a custom_jvp rule that is not known to be linear, so that only "
            "whole tangents may go through it: give order='forward' or 'auto' in place of vertices"
        )


def _given(order: tuple[int, ...], wanted: Sequence[Vertex]) -> list[Vertex]:
    if sorted(order) != sorted(wanted):
        missing = sorted(set(wanted) - set(order))
        unknown = sorted(set(order) - set(wanted))
        twice = sorted({vertex for vertex in order if order.count(vertex) > 1})
        found = [
            f"{name} {', '.join(map(str, some[:8]))}"
            for name, some in (("missing:", missing), ("unknown:", unknown), ("twice:", twice))
            if some
        ]
        raise OrderError(
            f"order must hold each of the {len(wanted)} vertices between inputs and results once; "
            f"{'; '.join(found)}. blockjac.plan(fun)(*args) prints them"
        )
    return list(order)


def _cheapest_in_time(edges: EliminationGraph, reverse: list[Vertex], write: bool) -> list[Vertex]:
    least = price(edges, reverse, write).seconds() * MARGIN
    bound, best = least, reverse
    for candidate in (
        lambda: reverse[::-1],
        lambda: greedy_order(edges, reverse, limit=BUDGET, bound=bound),
        lambda: chain_order(edges, reverse, limit=BUDGET, bound=bound),
    ):
        try:
            vertices = candidate()
            seconds = price(edges, vertices, write, BUDGET, least).seconds()
        except OverBudget:
            continue
        if seconds < least:
            best, least = vertices, seconds
    return best


def _is_wide_gradient(edges: EliminationGraph) -> bool:
    """Whether one number is differentiated: then backwards carries no more than the values do."""
    results = _results(edges)
    return (
        all(edge.out_shape == () for _, edge in results) and len({head for head, _ in results}) == 1
    )


def _results(edges: EliminationGraph) -> list[tuple[Vertex, Any]]:
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
        for _, edge in _results(left):
            if isinstance(edge, Block) and write:
                dense(edge, max_bytes=NO_LIMIT)
            elif isinstance(edge, Block) and limit is None:  # of the order that was chosen
                compact(edge)
    return cost


# Orders that are found by playing


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
        for one in around:
            if one in prices:
                prices[one] = _to_ten_digits(elimination.price_of(state, one))
                heapq.heappush(queue, (prices[one], one))
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
        OverBudget: over the limit or the bound, or where there is no chain.
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
    place = {vertex: number for number, vertex in enumerate(free)}
    with planning():
        if search.objective == "edge_products" and Scalars.fits(edges):
            elimination: Elimination = Scalars(edges, free)
        else:
            elimination = Structured(edges, free, Pairs(objective))
        start = [place[vertex] for vertex in candidates[0] if vertex in place]
        found = [*(free[move] for move in annealed(elimination, start, search)), *last]
    return min([found, *candidates], key=exact)


def objective_of(search: Search) -> Callable[[Cost], float]:
    """What a search makes small, as a function of the cost."""
    if search.objective == "seconds":
        return Cost.seconds
    if search.objective == "multiplications":
        return lambda cost: cost.multiplications + cost.operator_operations
    return lambda cost: cost.edge_products + cost.operator_operations
