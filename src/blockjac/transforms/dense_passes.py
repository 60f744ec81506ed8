"""The cost of JAX's dense passes, which plans are compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Abstract, Cost
from blockjac.blocks import Block
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.linearize import LinearizedGraph
from blockjac.errors import BlockjacError
from blockjac.operators.operator import Edge, Operator
from blockjac.planning.plan import Figures
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


def figures_of(cost: Cost, peak: int | None = None) -> Figures:
    """The figures of a cost, and of the peak of what is stored."""
    return Figures(*counts_of(cost), cost.seconds(), peak)


def counts_of(cost: Cost) -> tuple[int, int, int, int, int]:
    """The five counts of a cost, in the order in which figures and steps hold them."""
    return (
        cost.multiplications,
        cost.additions,
        cost.edge_products,
        cost.operator_operations,
        cost.bytes,
    )


def dense_passes(linear: LinearizedGraph) -> dict[str, Figures]:
    """What JAX's dense passes cost: one backwards per row, or one forwards per column."""
    graph, active, edges = linear.graph, linear.active, linear.edges
    results: list[Vertex] = [head for head in edges.entering if isinstance(head, tuple)]
    figures: dict[str, Figures] = {}
    if active.is_reversible:
        rows = [
            _passes(edges, head, active.reverse_order, results, backwards=True) for head in results
        ]
        figures["dense, a pass a row (jacrev)"] = figures_of(_summed(rows))
    with contextlib.suppress(BlockjacError, ValueError):
        columns = [
            _passes(edges, leaf, active.forward_order, list(graph.independents), backwards=False)
            for leaf in graph.independents
            if edges.leaving.get(leaf)
        ]
        figures["dense, a pass a column (jacfwd)"] = figures_of(_summed(columns))
    return figures


def _passes(
    edges: EliminationGraph,
    end: Vertex,
    order: Sequence[Vertex],
    ends: Sequence[Vertex],
    backwards: bool,
) -> Cost:
    """The cost of all passes from one end: that of one dense vector, times its length."""
    left = edges.copy()
    for vertex in ends:
        if vertex != end:
            left.remove(vertex)
    around = left.entering[end] if backwards else left.leaving[end]
    edge = next(iter(around.values()))
    shape = edge.out_shape if backwards else edge.wrt_shape
    with planning() as cost:
        vector = _dense_vector(shape, _dtype(edge), backwards)
        if backwards:
            left.add(end, "pass", vector)
        else:
            left.add("pass", end, vector)
        eliminate(left, [end, *order])
    times = int(np.prod(shape, dtype=np.int64))
    return Cost(*(count * times for count in counts_of(cost)), contractions=cost.contractions)


def _dense_vector(shape: Sequence[int], dtype: Any, backwards: bool) -> Block:
    """A dense cotangent, or a dense tangent, without numbers."""
    labels = tuple(Label(size) for size in shape)
    factor = Factor(Abstract(tuple(shape), dtype), labels)
    indices = tuple(map(Index.of, labels))
    out, wrt = ((), indices) if backwards else (indices, ())
    out_shape, wrt_shape = ((), tuple(shape)) if backwards else (tuple(shape), ())
    return Block(out_shape, wrt_shape, dtype, (Term((factor,), out, wrt),))


def _dtype(edge: Edge) -> Any:
    return edge.group.dtypes[edge.column] if isinstance(edge, Operator) else edge.dtype


def _summed(costs: Sequence[Cost]) -> Cost:
    total = Cost()
    for cost in costs:
        total.add(cost)
    return total
