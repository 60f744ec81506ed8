"""Eliminate the vertices of a graph in a given order: the only loop over vertices.

The edges of the graph are elemental Jacobians. Eliminating a vertex contracts each edge that leaves
it with each edge that enters it, and adds the product to the edge that bypasses it: the chain rule.
When only inputs and outputs are left, the edges between them are the Jacobian. Any order is
correct; reverse order is backpropagation, forward order is forward mode.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

from blockjac.algebra.losses import at_equation
from blockjac.blocks import Block
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.operator_elimination import OperatorElimination, groups_of
from blockjac.operators.operator import Operator


def eliminate(
    edges: EliminationGraph,
    order: Sequence[Vertex],
    after: Callable[[Sequence[Vertex]], None] | None = None,
    before: Callable[[Vertex], None] | None = None,
) -> EliminationGraph:
    """Eliminate vertices in a given order; the edges that remain are the result.

    Args:
        edges: the graph, which is modified.
        order: the vertices.
        after: called after each step with the vertices that it eliminated together.
        before: called with each vertex before it is eliminated.
    """
    pending = dict.fromkeys(order)
    waiting: set[Vertex] = set()
    while pending:
        vertex = next(iter(pending))
        last = _last_operand(edges, vertex, pending, waiting)
        if last is not None:
            postponed = vertex
            if edges.whole:
                _bypass_early(edges, vertex, pending)
            elif _depends(edges, last, vertex):
                postponed = _stand_in(edges, vertex, last)
                pending[postponed] = None
            waiting.add(postponed)
            pending = _moved_after(last, postponed, pending)
            continue
        if before is not None:
            before(vertex)
        with at_equation(edges.equations.get(vertex)):
            together = _eliminate_next(edges, vertex, pending)
        for done in together:
            pending.pop(done, None)
        if after is not None:
            after([done for done in together if not isinstance(done, StandIn)])
    return edges


def _bypass_early(edges: EliminationGraph, vertex: Vertex, pending: Container[Vertex]) -> None:
    """Eliminate all edges that leave a vertex but those of the operators that it waits for.

    Edges to the other operands of these operators then start at the same vertices as those to this
    one, so that the whole tangent arrives at the operators.
    """
    for group in groups_of(edges.leaving.get(vertex, {})):
        operator = OperatorElimination(edges, group, vertex)
        if not any(tail in pending for tail in operator.columns if tail != vertex):
            operator.push(pending)
    for head, edge in list(edges.leaving.get(vertex, {}).items()):
        if isinstance(edge, Operator):
            continue
        products = [
            (tail, edges.product(tail, vertex, head)) for tail in edges.entering.get(vertex, {})
        ]
        del edges.leaving[vertex][head], edges.entering[head][vertex]
        for tail, product in products:
            edges.add(tail, head, product)


@dataclass(frozen=True, eq=False)
class StandIn:
    """A copy of a vertex, as the operand of operators that cannot be eliminated yet."""

    vertex: Vertex


def _depends(edges: EliminationGraph, vertex: Vertex, source: Vertex) -> bool:
    """Whether there is a path to a vertex from another."""
    pending, seen = [source], {source}
    while pending:
        heads = edges.leaving.get(pending.pop(), {})
        if vertex in heads:
            return True
        pending += [head for head in heads if head not in seen]
        seen.update(heads)
    return False


def _stand_in(edges: EliminationGraph, vertex: Vertex, operand: Vertex) -> StandIn:
    """Replace a vertex by a stand-in, as operand of the operators that wait for another operand.

    An example are weights shared by two loops, of which the second reads the result of the first:
    the first must be eliminated before the second can be.
    """
    stand_in = StandIn(vertex)
    waiting = groups_of(edges.leaving[operand])
    moved = {
        head: edge
        for head, edge in edges.leaving[vertex].items()
        if isinstance(edge, Operator) and any(edge.group is group for group in waiting)
    }
    for head, edge in moved.items():
        del edges.leaving[vertex][head]
        del edges.entering[head][vertex]
        edges.leaving.setdefault(stand_in, {})[head] = edge
        edges.entering[head][stand_in] = edge
    edge = next(iter(moved.values()))
    edges.same.add((vertex, stand_in))
    edges.add(vertex, stand_in, Block.identity(edge.wrt_shape, edge.group.dtypes[edge.column]))
    return stand_in


def _moved_after(last: Vertex, vertex: Vertex, pending: Iterable[Vertex]) -> dict[Vertex, None]:
    """The pending vertices with `vertex` moved to just after `last`."""
    order = [candidate for candidate in pending if candidate != vertex]
    order.insert(order.index(last) + 1, vertex)
    return dict.fromkeys(order)


def _last_operand(
    edges: EliminationGraph, vertex: Vertex, pending: Iterable[Vertex], waiting: Container[Vertex]
) -> Vertex | None:
    """The last pending vertex that shares an operator with this vertex as operand.

    A pushforward takes the tangents of all operands at once, so the vertex has to wait for that
    one. None if there is nothing to wait for.
    """
    groups = groups_of(edges.leaving.get(vertex, {}))
    if not groups:
        return None
    operands = {
        tail for group in groups for tail in OperatorElimination(edges, group, vertex).columns
    }
    operands.discard(vertex)
    candidates = [
        candidate for candidate in pending if candidate in operands and candidate not in waiting
    ]
    return candidates[-1] if candidates else None


def _eliminate_next(
    edges: EliminationGraph, vertex: Vertex, pending: Container[Vertex]
) -> list[Vertex]:
    """Eliminate a vertex, or all results of an operator together; return those eliminated."""
    arriving = groups_of(edges.entering.get(vertex, {}))
    if arriving:
        operator = OperatorElimination(edges, arriving[0], vertex)
        if operator.is_pulled(pending):
            operator.pull()
            return list(operator.rows)
        if operator.is_pushed(pending):
            operator.push(pending)
    for group in groups_of(edges.leaving.get(vertex, {})):
        OperatorElimination(edges, group, vertex).push(pending)
    edges.eliminate_vertex(vertex)
    return [vertex]
