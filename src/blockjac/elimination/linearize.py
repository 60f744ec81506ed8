"""Linearize a function at a point: the one object between tracing and elimination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elemental import elemental
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.evaluate import Point, evaluate, results
from blockjac.elimination.shared_trig import SharedTrig
from blockjac.graph.graph import Graph, Operand
from blockjac.operators.compose import written
from blockjac.operators.operator import Edge
from blockjac.rules.fallback import real_dtype, vertex_shape


@dataclass
class LinearizedGraph:
    """A function linearized at a point.

    Attributes:
        active: the active part of the traced function.
        point: its values.
        edges: the elemental Jacobians, which elimination reduces to the result.
    """

    active: ActiveGraph
    point: Point
    edges: EliminationGraph

    @property
    def graph(self) -> Graph:
        """The traced function."""
        return self.active.graph

    def copy(self) -> LinearizedGraph:
        """A copy whose edges can be eliminated independently."""
        return replace(self, edges=self.edges.copy())

    def results(self) -> list[Any]:
        """The values of the graph's results."""
        return results(self.graph, self.point.values)

    def block(self, tail: Vertex, head: Vertex) -> Block | None:
        """The edge between two vertices as a block; None if there is none."""
        edge: Edge | None = self.edges.leaving.get(tail, {}).get(head)
        return None if edge is None else written(edge)


def linearize(
    active: ActiveGraph,
    arguments: Sequence[Any],
    captured: Sequence[Any],
    trig: SharedTrig | None = None,
) -> LinearizedGraph:
    """Evaluate a function and build its elemental Jacobians.

    Args:
        active: the active part of the traced function.
        arguments: values of its inputs.
        captured: values of its constants.
        trig: a store for sines and cosines.
    """
    point = evaluate(active.graph, arguments, captured, active, trig=trig)
    return LinearizedGraph(active, point, elemental(active, point))


def linearize_to_results(
    active: ActiveGraph, arguments: Sequence[Any], captured: Sequence[Any]
) -> LinearizedGraph:
    """`linearize` with results as vertices of their own, ready for any order of elimination."""
    stored = SharedTrig.of(active.graph, active.vertices)
    linear = linearize(active, arguments, captured, stored)
    lead_to_results(active, linear.edges)
    return linear


def lead_to_results(active: ActiveGraph, edges: EliminationGraph) -> None:
    """Add each result as a vertex of its own, joined by an identity to the vertex it equals."""
    for position, output in enumerate(active.outputs):
        vertex = output.vertex if isinstance(output, Operand) else None
        if vertex is not None and vertex in active.vertices:
            aval, result = active.graph.avals[vertex], ("out", position)
            identity = Block.identity(vertex_shape(aval), real_dtype(aval.dtype))
            edges.same.add((vertex, result))
            edges.add(vertex, result, identity)
