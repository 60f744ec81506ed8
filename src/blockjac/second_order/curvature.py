"""What the equations of a function add to a Laplacian, each by itself.

With the Jacobians `t_a` of an equation's operands by the directions, and its elemental Jacobians
`E_a`, an equation adds

    sum over operands a and b, and directions x, of  (d E_a / d operand_b) t_b[x] t_a[x]

Of two mixed derivatives that mirror each other one is computed, and counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from blockjac.algebra.cost import OverBudget
from blockjac.algebra.curved import curved
from blockjac.algebra.star import star
from blockjac.blocks import Block, add
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import EliminationGraph, Vertex
from blockjac.elimination.linearize import LinearizedGraph, linearize_to_results
from blockjac.planning.price import price
from blockjac.second_order.coefficients import Coefficients
from blockjac.second_order.tangents import Tangents


@dataclass(frozen=True, eq=False)
class Curving:
    """An equation whose elemental Jacobians vary, at a point.

    Attributes:
        coefficients: its elemental Jacobians as a function.
        operands: the values of its operands.
        results: the values of its results.
        tails: the vertices of its operands; None for those that are not differentiated.
        heads: the vertices of its results; None for those that nothing differentiated depends on.
    """

    coefficients: Coefficients
    operands: Sequence[Any]
    results: Sequence[Any]
    tails: Sequence[Vertex | None]
    heads: Sequence[Vertex | None]

    def curvatures(
        self, tangents: Mapping[Vertex, Tangents], kept: bool
    ) -> dict[Vertex, dict[Any, Block]]:
        """What the equation adds at each of its results, for each source of directions.

        Args:
            tangents: the Jacobians of the operands.
            kept: whether to keep directions apart instead of summing over them.
        """
        coefficients, sums = self.coefficients, dict[Vertex, dict[Any, Block]]()
        values = [*self.operands, *self.results]
        arguments = [values[number] for number in coefficients.taken]
        for column, tail in enumerate(self.tails):
            varying = {
                row: coefficients.varying(row, column)
                for row, head in enumerate(self.heads)
                if head is not None and tail is not None
            }
            numbers = sorted({number for own in varying.values() for number in own})
            own = {} if tail is None else tangents.get(tail, {})
            if not numbers or not own:
                continue
            rates, arrays = self._rates(column, numbers, arguments, tangents)
            for row, head in enumerate(self.heads):
                block = coefficients.block(row, column, arrays) if varying.get(row) else None
                if head is None or block is None:
                    continue
                for source, tangent in own.items():
                    parts = [
                        curved(block, arrays[number], rates[number][source], tangent, kept)
                        for number in varying[row]
                        if source in rates[number]
                    ]
                    if parts:
                        found = sums.setdefault(head, {})
                        before = [found[source]] if source in found else []
                        found[source] = reduce(add, [*before, *parts])
        return sums

    def _rates(
        self,
        column: int,
        numbers: Sequence[int],
        arguments: Sequence[Any],
        tangents: Mapping[Vertex, Tangents],
    ) -> tuple[dict[int, dict[Any, Block]], Sequence[Any]]:
        """The rates of change of some coefficients along the directions, and all coefficients."""
        graph = self.coefficients.graph
        active = ActiveGraph.of(graph, [graph.outputs[number] for number in numbers])
        linear = linearize_to_results(active, arguments, graph.captured)
        arrays = linear.results()
        sources = self._seeds(linear, column, tangents, arrays)
        _eliminate_cheapest(linear)
        rates: dict[int, dict[Any, Block]] = {}
        for place, number in enumerate(numbers):
            blocks = {source: linear.block(source, ("out", place)) for source in sources}
            rates[number] = {source: block for source, block in blocks.items() if block is not None}
        return rates, arrays

    def _seeds(
        self,
        linear: LinearizedGraph,
        column: int,
        tangents: Mapping[Vertex, Tangents],
        arrays: Sequence[Any],
    ) -> dict[Any, None]:
        """Enter the tangents of operands and results into a graph of coefficients."""
        coefficients, graph, count = self.coefficients, linear.graph, len(self.operands)
        inputs = dict(zip(coefficients.taken, graph.inputs, strict=True))
        sources: dict[Any, None] = {}
        for number, tail in enumerate(self.tails):
            weight = _weight(number, column) if coefficients.is_symmetric else 1
            if tail is None or not weight:
                continue
            for source, tangent in tangents.get(tail, {}).items():
                sources[source] = None
                weighted = tangent if weight == 1 else tangent * weight
                if number in inputs:
                    linear.edges.add(source, inputs[number], weighted)
                for row in range(len(self.results)):
                    vertex = inputs.get(count + row)
                    if vertex in linear.active.vertices:
                        block = coefficients.block(row, number, arrays)
                        if block is not None:
                            linear.edges.add(source, vertex, star(block, weighted))
        return sources


def _weight(number: int, column: int) -> int:
    """How often the mixed derivative by two operands counts in the half that is computed."""
    return 0 if number > column else 1 if number == column else 2


def _eliminate_cheapest(linear: LinearizedGraph) -> None:
    """Eliminate a small graph with directions at its inputs, from the cheaper end."""
    independents, forward = linear.graph.independents, linear.active.forward_order
    reverse = [*forward[::-1], *independents]
    order = reverse
    if forward:
        edges, orders = linear.edges, [reverse, [*independents, *forward]]
        order = min(orders, key=lambda order: _seconds(edges, order))
    eliminate(linear.edges, order)


def _seconds(edges: EliminationGraph, order: Sequence[Vertex]) -> float:
    """The predicted time of an order."""
    try:
        return price(edges, order, write=False).seconds()
    except OverBudget:
        return float("inf")
