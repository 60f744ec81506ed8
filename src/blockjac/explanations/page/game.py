"""The graph of the steps as numbers, for the page to eliminate in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockjac.devices import rates
from blockjac.explanations.page.blocks import EdgeBlock
from blockjac.explanations.page.signatures import Numbering, Signature
from blockjac.explanations.page.step_graph import StepGraph


@dataclass(frozen=True)
class Game:
    """The graph before an elimination, as numbers.

    Attributes:
        numbering: of labels and arrays.
        inner: the vertices to eliminate.
        edges: tail, head and structure; None for the identity between a vertex that is a result
            and read again, and the result, which has a vertex of its own.
        results: what each of these further vertices equals.
        weights: the time of an operation, and of a number that is read or written.
    """

    numbering: Numbering
    inner: tuple[int, ...]
    edges: tuple[tuple[int, int, Signature | None], ...]
    results: dict[int, int]
    weights: tuple[float, float]


def game_of(graph: StepGraph, blocks: Sequence[EdgeBlock]) -> Game:
    """The game of a graph.

    Args:
        graph: the graph of the steps.
        blocks: of its edges.
    """
    numbering = Numbering()
    edges: list[tuple[int, int, Signature | None]] = []
    for edge, own in zip(graph.edges, blocks, strict=True):
        head, tail = graph.vertices[edge.head].variable, graph.vertices[edge.tail].variable
        signature = (
            numbering.dense(head.axes, tail.axes)
            if own.block is None
            else numbering.signature(own.block)
        )
        if signature.terms:
            edges.append((edge.tail, edge.head, signature))
    results: dict[int, int] = {}
    inner = set(graph.inner)
    for position, vertex in enumerate(graph.vertices):
        if vertex.is_result and (position in inner or vertex.step is None):
            results[len(graph.vertices) + len(results)] = position
    edges += [(position, result, None) for result, position in results.items()]
    device = rates()
    weights = (1 / device.operations_per_second, 8 / device.bytes_per_second)
    return Game(numbering, tuple(graph.inner), tuple(edges), results, weights)
