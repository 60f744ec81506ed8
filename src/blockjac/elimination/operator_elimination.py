"""Eliminate all edges of one operator together: pull its results back or push its operands."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping

from blockjac.blocks import Block
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.operators.compose import written
from blockjac.operators.direct_sum import pulled_together, pushed_together
from blockjac.operators.operator import Edge, Operator, OperatorGroup


def groups_of(edges: Mapping[Vertex, Edge]) -> list[OperatorGroup]:
    """The operator groups among edges, each once."""
    groups = {id(edge.group): edge.group for edge in edges.values() if isinstance(edge, Operator)}
    return list(groups.values())


class OperatorElimination:
    """The edges of one operator group in a graph, which are eliminated together.

    Attributes:
        columns: operand positions, by the operands' vertices.
        rows: result positions, by the results' vertices.
    """

    def __init__(self, edges: EliminationGraph, group: OperatorGroup, vertex: Vertex) -> None:
        """Collect the operands and results, starting from the vertex of any of them."""
        self.edges, self.group = edges, group
        self.columns: dict[Vertex, int] = {}
        self.rows: dict[Vertex, int] = {}
        unvisited = [vertex]
        while unvisited:
            current = unvisited.pop()
            for head, edge in self._own(edges.leaving.get(current, {})):
                if head not in self.rows:
                    self.rows[head] = edge.row
                    unvisited.append(head)
            for tail, edge in self._own(edges.entering.get(current, {})):
                if tail not in self.columns:
                    self.columns[tail] = edge.column
                    unvisited.append(tail)

    def _own(self, edges: Mapping[Vertex, Edge]) -> list[tuple[Vertex, Operator]]:
        """The edges that belong to the operator group."""
        return [
            (vertex, edge)
            for vertex, edge in edges.items()
            if isinstance(edge, Operator) and edge.group is self.group
        ]

    def is_pulled(self, pending: Container[Vertex]) -> bool:
        """Whether the edges that leave the results can be pulled back now, at no higher cost."""
        if self.group.edge_by_edge or not self.group.can_pull or not self._rows_are_last():
            return False
        if not self.group.can_push or any(tail in pending for tail in self.columns):
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
        """Whether every edge that enters the operands is final."""
        if self.group.edge_by_edge or not self.group.can_push:
            return False
        return not any(tail in pending for tail in self.columns)

    def _edge_from(self, tail: Vertex) -> Operator:
        return self._own(self.edges.leaving[tail])[0][1]

    def _rows_are_last(self) -> bool:
        """Whether only this group enters the results, and only blocks to other vertices leave."""
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
        """Eliminate the results: one pullback for each head of their edges, or for several."""
        tails = {column: tail for tail, column in self.columns.items()}
        heads: dict[Vertex, list[Block | None]] = {}
        for row, position in self.rows.items():
            for head, edge in self.edges.leaving.get(row, {}).items():
                blocks = heads.setdefault(head, [None] * len(self.group.out_shapes))
                blocks[position] = written(edge)
        for row in self.rows:
            self.edges.remove(row)
        for head, blocks in pulled_together(self.group, heads, tails).items():
            for column, block in enumerate(blocks):
                if block is not None and column in tails:
                    self.edges.add(tails[column], head, block)

    def push(self, pending: Container[Vertex]) -> None:
        """Eliminate the operator: one pushforward for each tail of entering edges, or for several.

        Args:
            pending: vertices still to be eliminated. An operand among them without entering edges
                is constant; any other operand without entering edges is an independent itself.
        """
        heads = {position: row for row, position in self.rows.items()}
        sources: dict[Vertex, list[Block | None]] = {}
        for tail, position in self.columns.items():
            entering = self.edges.entering.get(tail, {})
            if not entering and tail not in pending:
                edge = self._edge_from(tail)
                entering = {tail: Block.identity(edge.wrt_shape, self.group.dtypes[position])}
            for source, edge in entering.items():
                tangents = sources.setdefault(source, [None] * len(self.group.wrt_shapes))
                tangents[position] = written(edge)
        for tail in self.columns:
            for row in self.rows:
                self.edges.leaving[tail].pop(row, None)
                self.edges.entering[row].pop(tail, None)
        for source, blocks in pushed_together(self.group, sources, heads).items():
            for position, block in enumerate(blocks):
                if block is not None and position in heads:
                    self.edges.add(source, heads[position], block)
