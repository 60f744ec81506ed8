"""A function at a point, linear: the one object between tracing and an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elemental import elemental
from blockjac.elimination.eliminate import EliminationGraph, Vertex
from blockjac.elimination.evaluate import Point, evaluate, results
from blockjac.elimination.shared_trig import SharedTrig
from blockjac.graph.graph import Graph, Operand
from blockjac.operators.operator import Edge, written
from blockjac.rules.fallback import real_dtype, vertex_shape


@dataclass
class LinearizedGraph:
    """A function at a point, linear: all that is between tracing and an answer.

    Attributes:
        active: what is differentiated of the traced function.
        point: where it was evaluated.
        edges: the elemental Jacobians, of which an elimination leaves the answer.
    """

    active: ActiveGraph
    point: Point
    edges: EliminationGraph

    @property
    def graph(self) -> Graph:
        """The traced function."""
        return self.active.graph

    def copy(self) -> LinearizedGraph:
        """The same with edges that can be eliminated apart."""
        return replace(self, edges=self.edges.copy())

    def results(self) -> list[Any]:
        """The values of the graph's results."""
        return results(self.graph, self.point.values)

    def block(self, tail: Vertex, head: Vertex) -> Block | None:
        """What is left between two vertices after elimination, written out if an operator is."""
        edge: Edge | None = self.edges.leaving.get(tail, {}).get(head)
        return None if edge is None else written(edge)


def linearize(
    active: ActiveGraph,
    arguments: Sequence[Any],
    captured: Sequence[Any],
    trig: SharedTrig | None = None,
) -> LinearizedGraph:
    """A function at a point, with its elemental Jacobians.

    Args:
        active: what is differentiated of the traced function.
        arguments: values of its inputs.
        captured: values of its constants.
        trig: a store for sines and cosines.
    """
    point = evaluate(active.graph, arguments, captured, active, trig=trig)
    return LinearizedGraph(active, point, elemental(active, point))


def linearize_to_results(
    active: ActiveGraph, arguments: Sequence[Any], captured: Sequence[Any]
) -> LinearizedGraph:
    """The same, with the results as vertices of their own: what is eliminated in any order."""
    stored = SharedTrig.of(active.graph, active.vertices)
    linear = linearize(active, arguments, captured, stored)
    lead_to_results(active, linear.edges)
    return linear


def lead_to_results(active: ActiveGraph, edges: EliminationGraph) -> None:
    """Add the results as vertices of their own, each an identity of the vertex that it is."""
    for place, output in enumerate(active.outputs):
        vertex = output.vertex if isinstance(output, Operand) else None
        if vertex is not None and vertex in active.vertices:
            aval, result = active.graph.avals[vertex], ("out", place)
            identity = Block.identity(vertex_shape(aval), real_dtype(aval.dtype))
            edges.same.add((vertex, result))
            edges.add(vertex, result, identity)
