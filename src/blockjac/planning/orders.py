"""Candidate orders of elimination, and the choice among them.

Candidates are found on the numbers of `planning.elimination_state`; each is then priced exactly, by
running the elimination itself inside `planning()`: the same code that will compute decides on
structure alone, and counts operations and bytes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast, get_args

from blockjac.algebra.cost import OverBudget
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.linearize import LinearizedGraph
from blockjac.errors import OrderError
from blockjac.planning.annealing import Search
from blockjac.planning.candidates import chain_order, greedy_order, searched_order
from blockjac.planning.directions import (
    check_backwards,
    check_forwards,
    goes_backwards,
    goes_forwards,
)
from blockjac.planning.plan import Plan
from blockjac.planning.price import price, result_edges

Name = Literal["auto", "reverse", "forward", "greedy", "search"]
"""The orders that have one."""

OrderFunction = Callable[[EliminationGraph, Sequence[Vertex]], Sequence[Vertex]]
"""From the edges at a point and the vertices to eliminate, last computed first, to an order."""

Order = Name | Search | tuple[int, ...] | OrderFunction
"""A name, a search, the vertices themselves, or a function that finds them."""

NAMES: tuple[Name, ...] = get_args(Name)

BUDGET = 12_000
"""The effort that "auto" spends on any candidate, see `Cost.effort`: about 0.1 s."""

EFFORT_A_SECOND = 5_000_000
"""The effort on top of that for each second that reverse mode takes: some forty runs."""

MOST_EFFORT = 100_000
"""The most effort for a candidate: a second or two."""

MARGIN = 0.95
"""The share of reverse's predicted time that another order must stay below to be taken."""


def check_order(order: Any) -> Order | Plan:
    """The order as one that can be hashed.

    Raises:
        OrderError: names it and what there is.
    """
    if isinstance(order, Search | Plan) or (isinstance(order, str) and order in NAMES):
        return order
    if callable(order) and not isinstance(order, type):
        return cast("OrderFunction", order)
    vertices: tuple[Any, ...] = ()
    if isinstance(order, Sequence) and not isinstance(order, str):
        vertices = tuple(cast("Sequence[Any]", order))
    if vertices and all(type(vertex) is int for vertex in vertices):
        return vertices
    raise OrderError(
        f"order is {order!r}, but must be one of {', '.join(map(repr, NAMES))}, a "
        "blockjac.Search(...), a Plan, the vertices that a plan prints, each once, or a function "
        "of edges and vertices that finds them"
    )


def choose_order(order: Order, linear: LinearizedGraph, write: bool) -> list[Vertex]:
    """The vertices to eliminate, in order.

    Args:
        order: "reverse", "forward", "greedy"; "auto": the cheapest of them by predicted time;
            a search; the vertices; or a function that finds them.
        linear: the function at a point, with its results as vertices.
        write: whether the answer will be written out dense, which then is part of the price.

    Raises:
        OrderError: for vertices that are not those of the graph.
    """
    active, edges = linear.active, linear.edges
    reverse = active.reverse_order
    if isinstance(order, tuple):
        vertices = _checked(cast("tuple[int, ...]", order), reverse)
        _check_whole(vertices, active)
        return vertices
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
    if callable(order):
        return _checked(_found(order, edges, reverse), reverse)
    if order == "greedy":
        return greedy_order(edges, reverse)
    if order == "search" or isinstance(order, Search):
        search = order if isinstance(order, Search) else Search()
        return searched_order(search, edges, reverse, write)
    if _is_wide_gradient(edges):
        return reverse
    return _cheapest_in_time(edges, reverse, write)


def choose_unfinished(order: Order, linear: LinearizedGraph) -> list[Vertex]:
    """The order for an elimination that keeps some products separate; see `choose_order`.

    Forwards a collective needs whole tangents, by identities at the inputs; then nothing is left to
    keep separate, and the same is computed backwards.
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


def _found(
    order: OrderFunction, edges: EliminationGraph, reverse: Sequence[Vertex]
) -> tuple[int, ...]:
    """The vertices that a function of the user's finds, on a copy of the graph.

    Raises:
        OrderError: if it returns anything but vertices.
    """
    vertices: Any = order(edges.copy(), tuple(reverse))
    try:
        return tuple(operator.index(vertex) for vertex in vertices)
    except TypeError:
        name = getattr(order, "__name__", repr(order))
        raise OrderError(
            f"order={name} must return the vertices to eliminate, each once, as ints, but "
            f"returned {vertices!r}"
        ) from None


def _checked(order: tuple[int, ...], wanted: Sequence[Vertex]) -> list[Vertex]:
    """The vertices of an order, if each of those to eliminate is there once."""
    if sorted(order) != sorted(wanted):
        missing = sorted(set(wanted) - set(order))
        unknown = sorted(set(order) - set(wanted))
        twice = sorted({vertex for vertex in order if order.count(vertex) > 1})
        problems = [
            f"{name} {', '.join(map(str, some[:8]))}"
            for name, some in (("missing:", missing), ("unknown:", unknown), ("twice:", twice))
            if some
        ]
        raise OrderError(
            f"order must hold each of the {len(wanted)} vertices between inputs and results once; "
            f"{'; '.join(problems)}. blockjac.plan(fun)(*args) prints them"
        )
    return list(order)


def _cheapest_in_time(edges: EliminationGraph, reverse: list[Vertex], write: bool) -> list[Vertex]:
    """The candidate of the least predicted time; reverse unless another one is clearly faster."""
    seconds = price(edges, reverse, write).seconds()
    # the longer it runs, the more a better order saves
    limit = min(BUDGET + int(EFFORT_A_SECOND * min(seconds, 1.0)), MOST_EFFORT)
    bound = least = seconds * MARGIN
    best = reverse
    for candidate in (
        lambda: reverse[::-1],
        lambda: greedy_order(edges, reverse, limit=limit, bound=bound),
        lambda: chain_order(edges, reverse, limit=limit, bound=bound),
    ):
        try:
            vertices = candidate()
            seconds = price(edges, vertices, write, limit, least).seconds()
        except OverBudget:
            continue
        if seconds < least:
            best, least = vertices, seconds
    return best


def _is_wide_gradient(edges: EliminationGraph) -> bool:
    """Whether one number is differentiated: then backwards carries no more than the values do."""
    results = result_edges(edges)
    return (
        all(edge.out_shape == () for _, edge in results) and len({head for head, _ in results}) == 1
    )
