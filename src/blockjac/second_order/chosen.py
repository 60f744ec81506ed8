"""Chosen partial derivatives of any order, in one pass over the function.

All derivatives that are below those that are asked for are computed, and no others: for `u_xx` and
`u_t` these are `u_x`, `u_xx` and `u_t`. Whatever two of them have in common is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from blockjac.base.promises import keeping_structure
from blockjac.blocks import Block, Index, Label, Term
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.evaluate import typed_as
from blockjac.elimination.linearize import LinearizedGraph, linearize_to_results
from blockjac.engine.computations import Arrays, Values
from blockjac.engine.finish import NO_LIMIT
from blockjac.graph.graph import Graph
from blockjac.rules.fallback import real_dtype, unpacked
from blockjac.second_order.multi_indices import MultiIndex, closed
from blockjac.second_order.nested import derivatives_by_jacobian
from blockjac.second_order.series import OneWayError, Series, check_ways

Seeds = list[dict[int, Block]]
"""For each coordinate, how the inputs move along it."""


@dataclass(frozen=True)
class Coordinate:
    """A coordinate that is differentiated by, at each point of a batch.

    Attributes:
        input: the number of an input, among those that are differentiated.
        entry: which entry on the input's last axis; None for an input that is the coordinate.
    """

    input: int
    entry: int | None


@dataclass(frozen=True)
class PartialDerivatives:
    """Partial derivatives of the results by some coordinates.

    Attributes:
        count: how many results are differentiated.
        wrt: the graph's inputs to differentiate by.
        coordinates: the coordinates.
        indices: the derivatives, each by how often it is by each coordinate.
    """

    count: int
    wrt: tuple[int, ...]
    coordinates: tuple[Coordinate, ...]
    indices: tuple[MultiIndex, ...]

    takes_any_numbers: ClassVar[bool] = True
    keeps_structure: ClassVar[bool] = True

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and for each derivative a list of arrays, like the results."""
        del extra
        active = ActiveGraph.of(graph, graph.outputs[: self.count])
        seeds = self._seeds(graph)
        try:
            check_ways(active)
            with keeping_structure(True):
                return self._in_one_pass(active, seeds, arguments, captured)
        except OneWayError:
            return self._by_jacobian(graph, seeds, arguments, captured)

    def _in_one_pass(
        self,
        active: ActiveGraph,
        seeds: list[dict[int, Block]],
        arguments: Arrays,
        captured: Arrays,
    ) -> Any:
        """The answer, by derivatives order after order."""
        linear = linearize_to_results(active, arguments, captured)
        orders = closed(self.indices)
        results = [("out", position) for position in range(self.count)]
        series = Series(linear, results, len(orders))
        for indices in orders:
            starts = {index: seeds[index.index(1)] for index in indices if sum(index) == 1}
            series.extend(indices, starts)
        values = linear.results()
        return values[self.count :], [
            [self._derivative(linear, series, position, index) for position in range(self.count)]
            if any(index)
            else values[: self.count]
            for index in self.indices
        ]

    def _derivative(
        self, linear: LinearizedGraph, series: Series, position: int, index: MultiIndex
    ) -> Any:
        """One derivative of one result, of its type."""
        result = linear.graph.aval(linear.graph.outputs[position])
        block = series.derivatives.get(("out", position), {}).get(index)
        if block is None:
            return typed_as(jnp.zeros(result.shape, result.dtype), result)
        dense = block.dense(max_bytes=NO_LIMIT).astype(real_dtype(result.dtype))
        return typed_as(unpacked(dense, result.dtype), result)

    def _by_jacobian(self, graph: Graph, seeds: Seeds, arguments: Arrays, captured: Arrays) -> Any:
        """The answer for functions that go one way, by Jacobians of Jacobians."""
        values, _ = Values(self.count)(graph, arguments, captured, ())
        return values[self.count :], [
            [
                typed_as(derivative, value)
                for derivative, value in zip(
                    derivatives_by_jacobian(graph, self.count, seeds, arguments, captured, index),
                    map(graph.aval, graph.outputs),
                    strict=False,
                )
            ]
            if any(index)
            else values[: self.count]
            for index in self.indices
        ]

    def _seeds(self, graph: Graph) -> Seeds:
        """For each coordinate how the inputs move along it, at all points of a batch at once."""
        dtypes = [real_dtype(graph.aval(output).dtype) for output in graph.outputs[: self.count]]
        found: Seeds = []
        for coordinate in self.coordinates:
            vertex = self.wrt[coordinate.input]
            aval = graph.avals[vertex]
            rank = len(aval.shape) - (coordinate.entry is not None)
            indices = [Index.of(Label(size)) for size in aval.shape[:rank]]
            if coordinate.entry is not None:
                indices.append(Index(coordinate.entry))
            # A product of blocks has the dtype of its input: here the widest that is asked for.
            dtype = jnp.result_type(aval.dtype, *dtypes)
            found.append({vertex: Block(aval.shape, (), dtype, [Term((), tuple(indices), ())])})
        return found
