"""Derivatives of all orders of intermediate values, forwards, order after order.

With the elemental Jacobians `E` of an equation `v = f(u)`, for a multi-index `a` and a coordinate i
in it, `d^a v = d^(a - i) (E d_i u)`, and by the rule of Leibniz

    d^a v = E d^a u + sum over 0 < b <= a - i of binomial(a - i, b) (d^b E) d^(a - b) u

The first part is one direction more, pushed forwards as a tangent is. The sum is of derivatives of
lower order, which are there; it enters the graph where the equation stands. The arrays in `E` are
values of a graph of their own (see `coefficients`), whose derivatives come in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

from blockjac.algebra.star import star
from blockjac.algebra.sums import add_at
from blockjac.blocks import Block, add
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elimination_graph import Vertex
from blockjac.elimination.linearize import LinearizedGraph, linearize_to_results
from blockjac.second_order.curvature import Curving
from blockjac.second_order.directions import Swept
from blockjac.second_order.leibniz import Derivatives, derivative_times
from blockjac.second_order.multi_indices import (
    MultiIndex,
    below,
    binomial,
    minus,
    without_rarest,
)
from blockjac.second_order.nested import rates_along
from blockjac.second_order.tangents import tangents_of
from blockjac.second_order.varying import is_pushed_again, varying_equations

Additions = dict[MultiIndex, dict[Vertex, Block]]
"""What equations add to derivatives, beside what they push forwards."""


class OneWayError(Exception):
    """A function that cannot be pushed forwards, or not more than once."""


def check_ways(active: ActiveGraph) -> None:
    """Raise `OneWayError` unless a function can be pushed forwards again and again."""
    if not is_pushed_again(active):
        raise OneWayError


@dataclass(eq=False)
class Series:
    """The derivatives of the values of a function by some coordinates.

    Attributes:
        linear: the function, linearized at the point; its edges stay as they are.
        results: the vertices whose derivatives are asked for.
        highest: the order of the highest derivatives to come.
        derivatives: by vertex, of those that are needed.
    """

    linear: LinearizedGraph
    results: Sequence[Vertex]
    highest: int
    derivatives: dict[Vertex, dict[MultiIndex, Block]] = field(default_factory=dict)

    def extend(
        self, indices: Sequence[MultiIndex], seeds: Mapping[MultiIndex, Mapping[Vertex, Block]]
    ) -> None:
        """Add the derivatives of one order; all that are below them have to be there.

        Args:
            indices: the derivatives, all of one order.
            seeds: those of the inputs.
        """
        order = sum(indices[0])
        starts = {index: dict(seeds.get(index, {})) for index in indices}
        if order > 1:
            for equation in self.equations:
                for index, by_vertex in equation.additions(self, indices).items():
                    for vertex, block in by_vertex.items():
                        add_at(starts[index], vertex, block)
        wanted = {*self.results, *(self._needed if order < self.highest else ())}
        for vertex, own in tangents_of(self.linear, starts, wanted).items():
            self.derivatives.setdefault(vertex, {}).update(own)

    @cached_property
    def equations(self) -> list[BlockEquation | OperatorEquation]:
        """The equations whose elemental Jacobians vary."""
        return [
            BlockEquation(equation, self.highest - 1)
            if isinstance(equation, Curving)
            else OperatorEquation(equation)
            for equation in varying_equations(self.linear)
            if isinstance(equation, Curving | Swept)
        ]

    @cached_property
    def _needed(self) -> set[Vertex]:
        """The vertices of which derivatives of higher order are made."""
        return {vertex for equation in self.equations for vertex in equation.needed}


@dataclass(eq=False)
class BlockEquation:
    """What an equation with known coefficients adds to derivatives of its results.

    Attributes:
        equation: the equation.
        highest: the order of the highest derivatives of its coefficients.
    """

    equation: Curving
    highest: int

    @property
    def needed(self) -> list[Vertex]:
        """The vertices whose derivatives it takes."""
        return [
            vertex for vertex in (*self.equation.tails, *self.equation.heads) if vertex is not None
        ]

    @cached_property
    def rows(self) -> list[int]:
        """The results that are differentiated: those that anything depends on, its own rule too."""
        count = len(self.equation.operands)
        taken = self.equation.coefficients.taken
        heads = enumerate(self.equation.heads)
        return [row for row, head in heads if head is not None or count + row in taken]

    @cached_property
    def numbers(self) -> list[int]:
        """The numbers of the coefficients that vary."""
        varying = self.equation.coefficients.varying
        columns = [n for n, tail in enumerate(self.equation.tails) if tail is not None]
        return sorted({n for row in self.rows for column in columns for n in varying(row, column)})

    @cached_property
    def series(self) -> Series:
        """The derivatives of its coefficients."""
        equation, graph = self.equation, self.equation.coefficients.graph
        values = [*equation.operands, *equation.results]
        arguments = [values[number] for number in equation.coefficients.taken]
        active = ActiveGraph.of(graph, [graph.outputs[number] for number in self.numbers])
        check_ways(active)
        linear = linearize_to_results(active, arguments, graph.captured)
        results = [("out", place) for place in range(len(self.numbers))]
        return Series(linear, results, self.highest)

    @cached_property
    def arrays(self) -> list[Any]:
        """All coefficients."""
        return self.series.linear.results()

    def additions(self, series: Series, indices: Sequence[MultiIndex]) -> Additions:
        """What it adds to derivatives of its results, by the vertices of these.

        Args:
            series: the derivatives of its operands.
            indices: which derivatives, all of one order.
        """
        if not self.numbers:
            return {}
        self._extend(series, sorted({lower for i in indices for lower in _one_below(i)}))
        rates = self._rates()
        sums: Additions = {}
        for index in indices:
            for row, head in enumerate(self.equation.heads):
                block = None if head is None else self._addition(series, index, row, rates)
                if block is not None:
                    sums.setdefault(index, {})[head] = block
        return sums

    def _rates(self) -> dict[int, Derivatives]:
        """The derivatives of the coefficients that vary, by the identity of the array."""
        return {
            id(self.arrays[number]): self.series.derivatives.get(("out", place), {})
            for place, number in enumerate(self.numbers)
        }

    def _addition(
        self, series: Series, index: MultiIndex, row: int, rates: Mapping[int, Derivatives]
    ) -> Block | None:
        """The sum of Leibniz's rule for one result."""
        rest, parts = without_rarest(index), list[Block]()
        for column, tail in enumerate(self.equation.tails):
            block = self.equation.coefficients.block(row, column, self.arrays)
            own = series.derivatives.get(tail, {})
            if tail is None or block is None:
                continue
            for part in below(rest):
                tangent = own.get(minus(index, part))
                if any(part) and tangent is not None:
                    product = derivative_times(block, rates, part, tangent)
                    parts += [product * binomial(rest, part)] if product is not None else []
        return reduce(add, parts) if parts else None

    def _extend(self, series: Series, indices: Sequence[MultiIndex]) -> None:
        """Add derivatives of the coefficients, of one order less than those that are asked for."""
        equation, linear = self.equation, self.series.linear
        count = len(equation.operands)
        seeds: dict[MultiIndex, dict[Vertex, Block]] = {index: {} for index in indices}
        for number, vertex in zip(equation.coefficients.taken, linear.graph.inputs, strict=True):
            if vertex not in linear.active.vertices:
                continue
            own = (
                series.derivatives.get(equation.tails[number], {})
                if number < count
                else self._of_result(series, number - count, indices)
            )
            for index in indices:
                if index in own:
                    seeds[index][vertex] = own[index]
        self.series.extend(indices, seeds)

    def _of_result(self, series: Series, row: int, indices: Sequence[MultiIndex]) -> Derivatives:
        """The derivatives of a result, also of one that nothing but its own rule depends on."""
        head = self.equation.heads[row]
        if head is not None:
            return series.derivatives.get(head, {})
        rates = self._rates()
        found: dict[MultiIndex, Block] = {}
        for index in indices:
            addition = self._addition(series, index, row, rates) if sum(index) > 1 else None
            if addition is not None:
                found[index] = addition
            for column, tail in enumerate(self.equation.tails):
                block = self.equation.coefficients.block(row, column, self.arrays)
                tangent = series.derivatives.get(tail, {}).get(index)
                if block is not None and tangent is not None:
                    add_at(found, index, star(block, tangent))
        return found


@dataclass(eq=False)
class OperatorEquation:
    """What an equation that is applied and not written down adds to derivatives of its results.

    Attributes:
        equation: the equation.
    """

    equation: Swept

    @property
    def needed(self) -> list[Vertex]:
        """The vertices whose derivatives it takes."""
        return [vertex for vertex in self.equation.tails if vertex is not None]

    def additions(self, series: Series, indices: Sequence[MultiIndex]) -> Additions:
        """What it adds to derivatives of its results, by the vertices of these.

        Args:
            series: the derivatives of its operands.
            indices: which derivatives.
        """
        own = [series.derivatives.get(tail, {}) for tail in self.equation.tails]
        return {index: rates_along(self.equation, own, index) for index in indices}


def _one_below(index: MultiIndex) -> Iterable[MultiIndex]:
    """All that have one derivative less."""
    for number, entry in enumerate(index):
        if entry:
            yield (*index[:number], entry - 1, *index[number + 1 :])
