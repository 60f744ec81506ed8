"""What the equations of a function add to a Laplacian, each by itself.

With the Jacobians `t_a` of an equation's operands by the directions, and its elemental Jacobians
`E_a`, an equation adds

    sum over operands a and b, and directions x, of  (d E_a / d operand_b) t_b[x] t_a[x]

Of two mixed derivatives that mirror each other one is computed, and counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from blockjac.algebra.backend import planning
from blockjac.algebra.curved import curved
from blockjac.algebra.star import star
from blockjac.algebra.sums import add_at
from blockjac.blocks import Block, add
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import Vertex
from blockjac.elimination.linearize import LinearizedGraph, linearize_to_results
from blockjac.planning.price import price
from blockjac.rules.fallback import real_dtype, vertex_shape
from blockjac.second_order.at_point import AtPoint
from blockjac.second_order.coefficients import Coefficients
from blockjac.second_order.narrow import Directions
from blockjac.second_order.tangents import Tangents
from blockjac.terms.block import rebuilt


@dataclass(frozen=True, eq=False)
class Curving(AtPoint):
    """An equation whose elemental Jacobians vary, at a point.

    Attributes:
        coefficients: its elemental Jacobians as a function.
    """

    coefficients: Coefficients

    def curvatures(self, directions: Directions, kept: bool) -> dict[Vertex, dict[Any, Block]]:
        """What the equation adds at each of its results; see `AtPoint`."""
        sums: dict[Vertex, dict[Any, Block]] = {}
        for column, tail in enumerate(self.tails):
            if tail is None or not directions.tangents.get(tail):
                continue
            varying = {
                row: self.coefficients.varying(row, column)
                for row, head in enumerate(self.heads)
                if head is not None
            }
            numbers = sorted({number for own in varying.values() for number in own})
            if not numbers:
                continue
            pairs, arrays = self._pairs(column, numbers, directions)
            for row, head in enumerate(self.heads):
                block = self.coefficients.block(row, column, arrays) if varying.get(row) else None
                if block is None:
                    continue
                for pair in pairs:
                    if pair.number in varying[row]:
                        array = arrays[pair.number]
                        stays = directions.kept(pair.source, kept)
                        part = curved(block, array, pair.rates, pair.tangent, stays)
                        add_at(sums.setdefault(head, {}), pair.source, part)
        return sums

    def _pairs(
        self, column: int, numbers: Sequence[int], directions: Directions
    ) -> tuple[list[_Pair], Sequence[Any]]:
        """Rates of some coefficients with tangents of an operand; and all coefficients.

        The products of all pairs together are what the coefficients add at the operand.
        """
        coefficients, graph = self.coefficients, self.coefficients.graph
        linear, arrays = self.coefficients_at_point(numbers)
        own = directions.partners[self.tails[column]]
        tangents = directions.tangents
        seeds = [self._seeds(number, column, tangents) for number in range(len(self.tails))]
        forward = linear.active.forward_order
        if not (coefficients.is_symmetric and self._is_cheaper_backwards(linear, seeds, arrays)):
            for number, by_source in enumerate(seeds):
                for vertex, edge in self.slopes(linear, number, arrays):
                    for source, seed in by_source.items():
                        linear.edges.add(source, vertex, star(edge, seed))
            eliminate(linear.edges, [*graph.independents, *forward])
            return [
                _Pair(number, source, rates, tangent)
                for place, number in enumerate(numbers)
                for source, tangent in own.items()
                for rates in [linear.block(source, ("out", place))]
                if rates is not None
            ], arrays
        eliminate(linear.edges, forward[::-1])
        pairs: list[_Pair] = []
        for place, number in enumerate(numbers):
            for operand, by_source in enumerate(seeds):
                bends = [
                    star(bend, slope)
                    for vertex, slope in self.slopes(linear, operand, arrays)
                    for bend in [linear.block(vertex, ("out", place))]
                    if bend is not None
                ]
                if not bends:
                    continue
                bend = reduce(add, bends)
                for source, seed in by_source.items():
                    tangent = own.get(source)
                    if tangent is None:
                        continue
                    if operand != column or tangent is not seed:
                        pairs.append(_Pair(number, source, star(bend, seed), tangent))
                    else:
                        pairs += [
                            _Pair(number, source, star(bend, half), term)
                            for half, term in _halves(tangent)
                        ]
        return pairs, arrays

    def coefficients_at_point(
        self, numbers: Sequence[int]
    ) -> tuple[LinearizedGraph, Sequence[Any]]:
        """The graph of some coefficients, linearized; and all coefficients."""
        values, graph = [*self.operands, *self.results], self.coefficients.graph
        arguments = [values[number] for number in self.coefficients.taken]
        active = ActiveGraph.of(graph, [graph.outputs[number] for number in numbers])
        linear = linearize_to_results(active, arguments, graph.captured)
        return linear, linear.results()

    def _seeds(self, number: int, column: int, tangents: Mapping[Vertex, Tangents]) -> Tangents:
        """The tangents of an operand, as often as they count beside those of another one.

        Of the two mixed derivatives by two operands that are equal, the later one counts twice.
        """
        tail = self.tails[number]
        own: Tangents = {} if tail is None else tangents.get(tail, {})
        if number == column or not self.coefficients.is_symmetric:
            return own
        return {source: block * 2 for source, block in own.items()} if number < column else {}

    def slopes(
        self, linear: LinearizedGraph, number: int, arrays: Sequence[Any]
    ) -> list[tuple[Vertex, Block]]:
        """How an operand moves the inputs of the graph of coefficients: itself, and the results."""
        coefficients, count = self.coefficients, len(self.operands)
        inputs = dict(zip(coefficients.taken, linear.graph.inputs, strict=True))
        found: list[tuple[Vertex, Block]] = []
        vertex = inputs.get(number)
        if vertex is not None and vertex in linear.active.vertices:
            aval = linear.graph.avals[vertex]
            identity = Block.identity(vertex_shape(aval), real_dtype(aval.dtype))
            found.append((vertex, identity))
        for row in range(len(self.results)):
            vertex, block = inputs.get(count + row), coefficients.block(row, number, arrays)
            if vertex in linear.active.vertices and block is not None:
                found.append((vertex, block))
        return found

    def _is_cheaper_backwards(
        self, linear: LinearizedGraph, seeds: Sequence[Tangents], arrays: Sequence[Any]
    ) -> bool:
        """Whether derivatives of the coefficients are best formed before tangents come in."""
        forward = linear.active.forward_order
        if not forward:
            return True
        edges, independents = linear.edges.copy(), linear.graph.independents
        for number, by_source in enumerate(seeds):
            for vertex, slope in self.slopes(linear, number, arrays):
                for source, seed in by_source.items():
                    with planning():
                        edges.add(source, vertex, star(slope, seed))
        seconds = [
            price(edges, order, write=False).seconds()
            for order in ([*forward[::-1], *independents], [*independents, *forward])
        ]
        return seconds[0] <= seconds[1]


@dataclass(frozen=True, eq=False)
class _Pair:
    """Rates of a coefficient and tangents of an operand, by the same directions.

    Attributes:
        number: of the coefficient, among the results of their graph.
        source: of the directions.
        rates: of the coefficient.
        tangent: of the operand.
    """

    number: int
    source: Any
    rates: Block
    tangent: Block


def _halves(tangent: Block) -> list[tuple[Block, Block]]:
    """Pairs of blocks whose products add up to that of a sum of terms with itself.

    Of two products of terms that mirror each other one is made, and counts twice.
    """
    terms = [
        rebuilt(tangent.out_shape, tangent.wrt_shape, tangent.dtype, [term])
        for term in tangent.terms
    ]
    pairs: list[tuple[Block, Block]] = []
    for number, term in enumerate(terms):
        before = [
            replace(other, coefficient=2 * other.coefficient) for other in tangent.terms[:number]
        ]
        half = [*before, *term.terms]
        shapes = tangent.out_shape, tangent.wrt_shape, tangent.dtype
        pairs.append((rebuilt(*shapes, half), term))
    return pairs
