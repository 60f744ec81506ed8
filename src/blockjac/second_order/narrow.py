"""Directions that start anew where a function is narrow.

Where all that a function computes later goes through one value z, second derivatives by the inputs
are ones by z: with the Jacobian `J` of z by the inputs, `trace(H) = trace(H_z J J')` and what z
itself adds. Directions by z are fewer where z is smaller than the inputs, and `J J'` is computed
once. Whether that is cheaper is asked of the plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

from blockjac.algebra.backend import planning
from blockjac.algebra.curved import Kept, paired
from blockjac.algebra.star import star
from blockjac.blocks import Block, add
from blockjac.elimination.elimination_graph import Vertex
from blockjac.elimination.linearize import LinearizedGraph
from blockjac.rules.fallback import real_dtype, vertex_shape
from blockjac.second_order.tangents import Seeds, Tangents, tangents_of

NARROW = "narrow"
"""The source of directions that start anew."""


@dataclass(frozen=True, eq=False)
class Directions:
    """The Jacobians that second derivatives are taken along, of each vertex.

    Attributes:
        tangents: by the directions.
        partners: the same times the inner product of the directions, which is mostly the identity.
        pairs: for the sources that were asked for, pairs of the directions that start anew by
            theirs, where each of those has an answer of its own.
        through: the Jacobian of the vertex where directions start anew, by each source.
    """

    tangents: Mapping[Vertex, Tangents]
    partners: Mapping[Vertex, Tangents]
    pairs: Mapping[Any, Block] = field(default_factory=dict[Any, Block])
    through: Mapping[Any, Block] = field(default_factory=dict[Any, Block])

    def by_sources(self, vertex: Vertex) -> dict[Any, Block]:
        """The Jacobian of a vertex by the directions that were asked for."""
        own = self.tangents.get(vertex, {})
        if NARROW not in own:
            return dict(own)
        return {source: star(own[NARROW], block) for source, block in self.through.items()}

    def kept(self, source: Any, are_separate: bool) -> Kept:
        """Which directions of a source stay.

        Args:
            source: of the directions.
            are_separate: whether each direction that was asked for has an answer of its own.
        """
        if not are_separate:
            return "none"
        return "both" if source == NARROW else "one"


def directions_of(
    linear: LinearizedGraph, seeds: Seeds, wanted: Collection[Vertex], kept: bool
) -> Directions:
    """The Jacobians of some vertices, by directions that cost least.

    Args:
        linear: a function at a point.
        seeds: where the directions start.
        wanted: the vertices.
        kept: whether each direction has an answer of its own.
    """
    order = _order(linear, seeds)
    ways: list[Callable[[], Directions]] = [partial(_from_inputs, linear, seeds, wanted)]
    ways += [
        partial(_from_vertex, linear, seeds, _split(order, wanted, vertex), vertex, kept)
        for vertex in _narrow_vertices(linear, seeds, order)
    ]
    return min(ways, key=_seconds)() if len(ways) > 1 else ways[0]()


def _seconds(way: Callable[[], Directions]) -> float:
    """The predicted time of a way."""
    with planning() as cost:
        way()
    return cost.seconds()


def _from_inputs(linear: LinearizedGraph, seeds: Seeds, wanted: Collection[Vertex]) -> Directions:
    """The directions that were asked for, all the way."""
    tangents = tangents_of(linear, seeds, wanted)
    return Directions(tangents, tangents)


def _from_vertex(
    linear: LinearizedGraph,
    seeds: Seeds,
    wanted: tuple[Sequence[Vertex], Sequence[Vertex]],
    vertex: Vertex,
    kept: bool,
) -> Directions:
    """The directions that were asked for up to a vertex, and from there on those by itself.

    Args:
        linear: the function at a point.
        seeds: where the directions start.
        wanted: the vertices before this one, and those from it on.
        vertex: the vertex.
        kept: whether each direction has an answer of its own.
    """
    before, after = wanted
    early = tangents_of(linear, seeds, {*before, vertex})
    aval = linear.graph.avals[vertex]
    identity = Block.identity(vertex_shape(aval), real_dtype(aval.dtype))
    late = tangents_of(linear, {NARROW: {vertex: identity}}, after)
    own = {other: early[other] for other in before}
    if kept:
        pairs = {source: paired(block) for source, block in early[vertex].items()}
        return Directions({**own, **late}, {**own, **late}, pairs, early[vertex])
    inner = reduce(add, [star(block, block.T) for block in early[vertex].values()])
    partners = {
        other: {source: star(block, inner) for source, block in by_source.items()}
        for other, by_source in late.items()
    }
    return Directions({**own, **late}, {**own, **partners}, {}, early[vertex])


def _split(
    order: Sequence[Vertex], wanted: Collection[Vertex], vertex: Vertex
) -> tuple[list[Vertex], list[Vertex]]:
    """The wanted vertices before one, and those from it on."""
    place = order.index(vertex)
    before = [other for other in order[:place] if other in wanted]
    return before, [other for other in order[place:] if other in wanted]


def _order(linear: LinearizedGraph, seeds: Seeds) -> list[Vertex]:
    """The vertices that depend on directions, first computed first."""
    reached = {vertex for starts in seeds.values() for vertex in starts}
    every = [*linear.graph.independents, *linear.active.forward_order]
    for vertex in every:
        if vertex in reached:
            reached.update(linear.edges.leaving.get(vertex, {}))
    return [vertex for vertex in every if vertex in reached]


def _narrow_vertices(
    linear: LinearizedGraph, seeds: Seeds, order: Sequence[Vertex]
) -> list[Vertex]:
    """Vertices that everything later depends through and that are smaller than what is before.

    Of several of one size it is the first.
    """
    least = sum(
        math.prod(next(iter(starts.values())).wrt_shape) for starts in seeds.values() if starts
    )
    positions = {vertex: place for place, vertex in enumerate(order)}
    starts = {vertex for blocks in seeds.values() for vertex in blocks}
    live, narrow = set(starts), list[Vertex]()
    last = {
        vertex: max((positions.get(head, len(order)) for head in heads), default=-1)
        for vertex in order
        for heads in [linear.edges.leaving.get(vertex, {})]
    }
    for place, vertex in enumerate(order):
        live.add(vertex)
        live = {other for other in live if last[other] > place}
        size = math.prod(vertex_shape(linear.graph.avals[vertex]))
        if live == {vertex} and size < least:
            narrow.append(vertex)
            least = size
    return narrow
