"""From a graph and an order to blocks: the only loop over vertices.

The edges of the graph are elemental Jacobians. Eliminating a vertex contracts each edge that leaves
it with each edge that enters it, and adds the product to the edge that bypasses it: the chain rule.
When only inputs and outputs are left, the edges between them are the answer. Any order is correct;
reverse order is backpropagation, forward order is forward mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from blockjac.algebra.losses import at_equation
from blockjac.blocks import Block, add
from blockjac.graph.graph import Equation
from blockjac.operators.direct_sum import pulled_together, pushed_together
from blockjac.operators.operator import (
    Edge,
    Operator,
    OperatorGroup,
    compose,
    written,
)

Vertex = Any
"""A number of a graph's vertex, or `("out", k)` for the k-th result."""


@dataclass
class EliminationGraph:
    """The computational graph while vertices are eliminated.

    Attributes:
        leaving: edges by tail, then by head.
        entering: the same edges by head, then by tail.
        same: pairs of a vertex and a result that is this vertex; their edge is the identity.
        skipped: pairs of an input and a result whose Jacobian is not asked for.
        whole: whether an operator is among them that takes all of a tangent at once, since it need
            not be linear.
        equations: by vertex, where losses of structure are looked for.
    """

    leaving: dict[Vertex, dict[Vertex, Edge]] = field(default_factory=dict)
    entering: dict[Vertex, dict[Vertex, Edge]] = field(default_factory=dict)
    same: set[tuple[Vertex, Vertex]] = field(default_factory=set)
    skipped: Set[tuple[Vertex, Vertex]] = frozenset()
    whole: bool = False
    equations: dict[Vertex, Equation] = field(default_factory=dict)

    def add(self, tail: Vertex, head: Vertex, edge: Edge) -> None:
        """Add an edge; parallel edges add up."""
        if (isinstance(edge, Block) and edge.is_zero) or (tail, head) in self.skipped:
            return
        present = self.leaving.get(tail, {}).get(head)
        if present is not None:
            edge = add(written(present), written(edge))
            self.same.discard((tail, head))
        self.leaving.setdefault(tail, {})[head] = edge
        self.entering.setdefault(head, {})[tail] = edge

    def eliminate_vertex(self, vertex: Vertex) -> None:
        """Eliminate a vertex: an edge past it for each pair of edges that meet there."""
        products = [
            (tail, head, self.product(tail, vertex, head))
            for head in self.leaving.get(vertex, {})
            for tail in self.entering.get(vertex, {})
            if (tail, head) not in self.skipped
        ]
        self.remove(vertex)
        for tail, head, edge in products:
            self.add(tail, head, edge)

    def remove(self, vertex: Vertex) -> tuple[dict[Vertex, Edge], dict[Vertex, Edge]]:
        """Take a vertex out; returns the edges that entered and left it."""
        entering, leaving = self.entering.pop(vertex, {}), self.leaving.pop(vertex, {})
        for tail in entering:
            self.leaving[tail].pop(vertex, None)
        for head in leaving:
            self.entering[head].pop(vertex, None)
        return entering, leaving

    def copy(self) -> EliminationGraph:
        """A copy that can be eliminated apart."""
        return EliminationGraph(
            {vertex: dict(edges) for vertex, edges in self.leaving.items()},
            {vertex: dict(edges) for vertex, edges in self.entering.items()},
            set(self.same),
            self.skipped,
            self.whole,
            self.equations,
        )

    def product(self, tail: Vertex, vertex: Vertex, head: Vertex) -> Block:
        """What leads from tail to head by way of one vertex: the two edges contracted."""
        left, right = self.leaving[vertex][head], self.entering[vertex][tail]
        if (vertex, head) in self.same and isinstance(right, Block):
            return right
        return compose(left, right)


def eliminate(
    edges: EliminationGraph,
    order: Sequence[Vertex],
    after: Callable[[Sequence[Vertex]], None] | None = None,
    before: Callable[[Vertex], None] | None = None,
) -> EliminationGraph:
    """Eliminate vertices in the given order; the edges that remain are the answer.

    Args:
        edges: the graph; it is used up.
        order: the vertices.
        after: called after each, with all that were eliminated together.
        before: called before each.
    """
    pending = dict.fromkeys(order)
    waiting: set[Vertex] = set()
    while pending:
        vertex = next(iter(pending))
        last = _last_operand(edges, vertex, pending, waiting)
        if last is not None:
            waits = vertex
            if edges.whole:
                _pass_ahead(edges, vertex, pending)
            elif _depends(edges, last, vertex):
                waits = _stand_in(edges, vertex, last)
                pending[waits] = None
            waiting.add(waits)
            pending = _moved_after(last, waits, pending)
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


def _pass_ahead(edges: EliminationGraph, vertex: Vertex, pending: Container[Vertex]) -> None:
    """Lead past a vertex to all but the operators that it waits for.

    What leads to their other operands then starts where what leads to this one does, and all of a
    tangent meets at them.
    """
    for group in _groups(edges.leaving.get(vertex, {})):
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
    """A vertex that is another one, as an operand of operators that are still to be reached."""

    vertex: Vertex


def _depends(edges: EliminationGraph, vertex: Vertex, other: Vertex) -> bool:
    """Whether one vertex is reached from another."""
    pending, seen = [other], {other}
    while pending:
        heads = edges.leaving.get(pending.pop(), {})
        if vertex in heads:
            return True
        pending += [head for head in heads if head not in seen]
        seen.update(heads)
    return False


def _stand_in(edges: EliminationGraph, vertex: Vertex, operand: Vertex) -> StandIn:
    """Let another vertex be the operand of those operators that an operand is still missing of.

    Weights of two loops, of which the second reads what the first gave: the first is to be passed
    before the second can be.
    """
    made = StandIn(vertex)
    missing = _groups(edges.leaving[operand])
    moved = {
        head: edge
        for head, edge in edges.leaving[vertex].items()
        if isinstance(edge, Operator) and any(edge.group is group for group in missing)
    }
    for head, edge in moved.items():
        del edges.leaving[vertex][head]
        del edges.entering[head][vertex]
        edges.leaving.setdefault(made, {})[head] = edge
        edges.entering[head][made] = edge
    edge = next(iter(moved.values()))
    edges.same.add((vertex, made))
    edges.add(vertex, made, Block.identity(edge.wrt_shape, edge.group.dtypes[edge.column]))
    return made


def _moved_after(last: Vertex, vertex: Vertex, pending: Iterable[Vertex]) -> dict[Vertex, None]:
    """The first vertex put behind another."""
    order = [one for one in pending if one != vertex]
    order.insert(order.index(last) + 1, vertex)
    return dict.fromkeys(order)


def _last_operand(
    edges: EliminationGraph, vertex: Vertex, pending: Iterable[Vertex], waiting: Container[Vertex]
) -> Vertex | None:
    """The last of those operands that an operator at this vertex is still to be reached through.

    An operator that is passed forwards takes all operands along at once: the vertex has to wait
    for it. None if there is nothing to wait for.
    """
    groups = _groups(edges.leaving.get(vertex, {}))
    if not groups:
        return None
    operands = {
        tail for group in groups for tail in OperatorElimination(edges, group, vertex).columns
    }
    operands.discard(vertex)
    others = [one for one in pending if one in operands and one not in waiting]
    return others[-1] if others else None


def _eliminate_next(
    edges: EliminationGraph, vertex: Vertex, pending: Container[Vertex]
) -> list[Vertex]:
    """Eliminate a vertex, or all results of an operator together; returns which."""
    arriving = _groups(edges.entering.get(vertex, {}))
    if arriving:
        operator = OperatorElimination(edges, arriving[0], vertex)
        if operator.is_pulled(pending):
            operator.pull()
            return list(operator.rows)
        if operator.is_pushed(pending):
            operator.push(pending)
    for group in _groups(edges.leaving.get(vertex, {})):
        OperatorElimination(edges, group, vertex).push(pending)
    edges.eliminate_vertex(vertex)
    return [vertex]


def _groups(edges: Mapping[Vertex, Edge]) -> list[OperatorGroup]:
    """The operators among edges, each equation once."""
    groups = {id(edge.group): edge.group for edge in edges.values() if isinstance(edge, Operator)}
    return list(groups.values())


class OperatorElimination:
    """All edges of one operator in a graph: its equation is passed in one go, either way.

    Attributes:
        columns: vertices of the operands, with their places.
        rows: vertices of the results, with their places.
    """

    def __init__(self, edges: EliminationGraph, group: OperatorGroup, vertex: Vertex) -> None:
        """Find them from one of the operands or results."""
        self.edges, self.group = edges, group
        self.columns: dict[Vertex, int] = {}
        self.rows: dict[Vertex, int] = {}
        found = [vertex]
        while found:
            one = found.pop()
            for head, edge in self._own(edges.leaving.get(one, {})):
                if head not in self.rows:
                    self.rows[head] = edge.row
                    found.append(head)
            for tail, edge in self._own(edges.entering.get(one, {})):
                if tail not in self.columns:
                    self.columns[tail] = edge.column
                    found.append(tail)

    def _own(self, edges: Mapping[Vertex, Edge]) -> list[tuple[Vertex, Operator]]:
        return [
            (vertex, edge)
            for vertex, edge in edges.items()
            if isinstance(edge, Operator) and edge.group is self.group
        ]

    def is_pulled(self, pending: Container[Vertex]) -> bool:
        """Whether what leaves the results can be pulled back at once, and costs less that way."""
        if self.group.pull is None or not self._rows_are_last():
            return False
        if self.group.push is None or any(tail in pending for tail in self.columns):
            return True
        heads = {
            head: edge
            for row in self.rows
            for head, edge in self.edges.leaving.get(row, {}).items()
        }
        pulled = sum(math.prod(written(edge).out_shape) for edge in heads.values())
        return pulled <= sum(
            math.prod(edge.wrt_shape)
            for tail in self.columns
            for edge in self.edges.entering.get(tail, {}).values() or [self._edge_from(tail)]
        )

    def is_pushed(self, pending: Container[Vertex]) -> bool:
        """Whether all that enters the operands is known."""
        return self.group.push is not None and not any(tail in pending for tail in self.columns)

    def _edge_from(self, tail: Vertex) -> Operator:
        return self._own(self.edges.leaving[tail])[0][1]

    def _rows_are_last(self) -> bool:
        """Whether only this equation enters the results, and only blocks to others leave them."""
        entering = [edge for row in self.rows for edge in self.edges.entering[row].values()]
        leaving = [
            (head, edge)
            for row in self.rows
            for head, edge in self.edges.leaving.get(row, {}).items()
        ]
        return all(
            isinstance(edge, Operator) and edge.group is self.group for edge in entering
        ) and not any(head in self.rows or isinstance(edge, Operator) for head, edge in leaving)

    def pull(self) -> None:
        """Eliminate the results: a pullback for each vertex that they lead to, or for several."""
        tails = {column: tail for tail, column in self.columns.items()}
        heads: dict[Vertex, list[Block | None]] = {}
        for row, place in self.rows.items():
            for head, edge in self.edges.leaving.get(row, {}).items():
                heads.setdefault(head, [None] * len(self.group.out_shapes))[place] = written(edge)
        for row in self.rows:
            self.edges.remove(row)
        for head, answers in pulled_together(self.group, heads, tails).items():
            for column, answer in enumerate(answers):
                if answer is not None and column in tails:
                    self.edges.add(tails[column], head, answer)

    def push(self, pending: Container[Vertex]) -> None:
        """Replace the operator: a pushforward for each vertex that leads to it, or for several.

        Args:
            pending: what is still to be eliminated: with nothing that leads to it, it does not
                move, where any other operand is a variable itself.
        """
        heads = {place: row for row, place in self.rows.items()}
        sources: dict[Vertex, list[Block | None]] = {}
        for tail, place in self.columns.items():
            entering = self.edges.entering.get(tail, {})
            if not entering and tail not in pending:
                edge = self._edge_from(tail)
                entering = {tail: Block.identity(edge.wrt_shape, self.group.dtypes[place])}
            for source, edge in entering.items():
                tangents = sources.setdefault(source, [None] * len(self.group.wrt_shapes))
                tangents[place] = written(edge)
        for tail in self.columns:
            for row in self.rows:
                self.edges.leaving[tail].pop(row, None)
                self.edges.entering[row].pop(tail, None)
        for source, answers in pushed_together(self.group, sources, heads).items():
            for place, answer in enumerate(answers):
                if answer is not None and place in heads:
                    self.edges.add(source, heads[place], answer)
