"""Jacobians of intermediate values by the inputs, forwards: each is computed once and kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from blockjac.blocks import Block
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.linearize import LinearizedGraph

Tangents = Mapping[Any, Block]
"""The Jacobian of one vertex by directions, by the source of the directions."""

Seeds = Mapping[Any, Mapping[int, Block]]
"""For each source the Blocks of some independents by its directions."""


def tangents_of(
    linear: LinearizedGraph, seeds: Seeds, wanted: Collection[Vertex]
) -> dict[Vertex, Tangents]:
    """The Jacobians of some vertices by all directions that they depend on.

    Args:
        linear: a function at a point; its edges stay as they are.
        seeds: where the directions start.
        wanted: the vertices.
    """
    edges = linear.edges.copy()
    on_the_way = _before(edges, wanted)
    _restrict(edges, {*on_the_way, *wanted})
    for source, starts in seeds.items():
        for leaf, block in starts.items():
            edges.add(source, leaf, block)
    kept: dict[Vertex, Tangents] = {}

    def keep(vertex: Vertex) -> None:
        if vertex in wanted:
            kept[vertex] = _entering(edges, vertex, seeds)

    order = [*linear.graph.independents, *linear.active.forward_order]
    eliminate(edges, [vertex for vertex in order if vertex in on_the_way], before=keep)
    for vertex in wanted:
        if vertex not in kept:
            kept[vertex] = _entering(edges, vertex, seeds)
    return kept


def _entering(edges: EliminationGraph, vertex: Vertex, seeds: Seeds) -> Tangents:
    """The edges from the sources, which are blocks once all before the vertex is eliminated."""
    return {
        source: edge
        for source, edge in edges.entering.get(vertex, {}).items()
        if source in seeds and isinstance(edge, Block)
    }


def _before(edges: EliminationGraph, wanted: Collection[Vertex]) -> set[Vertex]:
    """All vertices from which an edge leads towards one that is wanted."""
    pending, before = list(wanted), set[Vertex]()
    while pending:
        for tail in edges.entering.get(pending.pop(), {}):
            if tail not in before:
                before.add(tail)
                pending.append(tail)
    return before


def _restrict(edges: EliminationGraph, vertices: set[Vertex]) -> None:
    """Drop all edges that lead elsewhere."""
    for head in [head for head in edges.entering if head not in vertices]:
        for tail in edges.entering.pop(head):
            edges.leaving[tail].pop(head, None)
