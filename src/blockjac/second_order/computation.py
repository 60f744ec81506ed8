"""Laplacians and diagonals of Hessians, with value and gradient, in one pass.

The Hessian of a result by the inputs is a sum over the equations of a function:

    H = sum_v  J_v' (sum_k (d result / d v[k]) D2 v[k]) J_v

where `J_v` is the Jacobian of the equation's operands by the inputs. Both factors `J_v` are one
and the same block, kept in its structure and computed once. The trace, or the diagonal, is taken
where the equation stands: what is left there is an array of the equation's own shape. These arrays
enter the graph of the function as one more input, whose elimination adds up the answer: backwards,
with the cotangents that the gradient needs anyway, or forwards, whichever costs less.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from blockjac.algebra.backend import planning
from blockjac.algebra.star import star
from blockjac.base.promises import keeping_structure, reading_forwards
from blockjac.blocks import Block, add
from blockjac.devices import rates
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import Vertex
from blockjac.elimination.linearize import LinearizedGraph, linearize_to_results
from blockjac.engine.computations import Arrays, Jacobian
from blockjac.engine.finish import NO_LIMIT, finished
from blockjac.graph.graph import Graph, Operand
from blockjac.operators.compose import written
from blockjac.planning.orders import MARGIN
from blockjac.planning.price import price
from blockjac.rules.fallback import real_dtype, vertex_shape
from blockjac.second_order.by_gradient import diagonals_by_gradient
from blockjac.second_order.narrow import NARROW, directions_of
from blockjac.second_order.tangents import Seeds, tangents_of
from blockjac.second_order.varying import is_pushed_again, varying_equations

Weighting = Literal["none", "entries", "directions"]
"""Along which directions second derivatives are taken: the entries of the inputs, these scaled by a
number each, or directions that are given."""


@dataclass(frozen=True)
class SecondOrder:
    """Laplacians of results, or the diagonals of their Hessians.

    The answer is a list for each result: its Laplacian alone, or the diagonal by each input. With
    the gradient it is `(results, rows of the Jacobian, these lists)`.

    Attributes:
        count: how many results are differentiated.
        wrt: the graph's inputs to differentiate by.
        kept: whether to give diagonals instead of their sums.
        gradient: whether to give the results and their Jacobian too.
        weighting: what the extra arrays are, one for each input: of its shape, or with one axis
            more in front, that of the directions.
    """

    count: int
    wrt: tuple[int, ...]
    kept: bool = False
    gradient: bool = False
    weighting: Weighting = "none"

    takes_any_numbers: ClassVar[bool] = True
    keeps_structure: ClassVar[bool] = True

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results and the answer."""
        active = ActiveGraph.of(graph, graph.outputs[: self.count])
        if not is_pushed_again(active):
            return self._by_gradient(graph, arguments, captured, extra)
        with keeping_structure(True), reading_forwards(False):
            linear = linearize_to_results(active, arguments, captured)
            self._add_curvatures(linear, extra)
            eliminate(linear.edges, self._order(linear))
            positions = range(self.count)
            seconds = [self._second(linear, position) for position in positions]
            values = linear.results()
            if not self.gradient:
                return values[self.count :], seconds
            rows = [[_row(linear, leaf, position) for leaf in self.wrt] for position in positions]
        return values[self.count :], (values[: self.count], rows, seconds)

    def _order(self, linear: LinearizedGraph) -> list[Vertex]:
        """The order in which curvatures, and the gradient where it is asked for, are added up.

        One direction is pushed forwards at no more than the cost of the values, and nothing has to
        be kept for a way back. Where several are, the cheaper direction is taken.
        """
        forward: list[Vertex] = list(linear.active.forward_order)
        if NARROW in linear.edges.entering:
            forward.insert(0, NARROW)
        inner = set(forward)
        leaves = [head for leaf in self.wrt for head in linear.edges.leaving.get(leaf, {})]
        if self.kept or any(head in inner for head in leaves):
            edges, reverse = linear.edges, forward[::-1]
            return min((forward, reverse), key=lambda order: price(edges, order, True).seconds())
        return forward

    def _add_curvatures(self, linear: LinearizedGraph, extra: Arrays) -> None:
        """Enter what the equations add into the graph, in place of the inputs where these are done.

        Sums over directions are by one source, for all inputs together.
        """
        varying = varying_equations(linear)
        wanted = {tail for own in varying for tail in own.tails if tail is not None}
        seeds = self._seeds(linear, extra)
        ends = self._ends(linear, seeds, wanted)
        directions = directions_of(linear, seeds, {*wanted, *ends.values()}, self.kept)
        arranged = {leaf: _arranged(linear, leaf, seeds) for leaf in self.wrt if ends}
        found: list[tuple[Any, Vertex, Block]] = [
            (source, NARROW, block) for source, block in directions.pairs.items()
        ]
        for equation in varying:
            for head, by_source in equation.curvatures(directions, self.kept).items():
                if self.kept:
                    found += [(source, head, block) for source, block in by_source.items()]
                else:
                    found.append((CURVED, head, reduce(add, by_source.values())))
        for result, vertex in ends.items():
            by_source = directions.by_sources(vertex)
            found += [
                (leaf, result, star(by_source["by", leaf], block))
                for leaf, block in arranged.items()
                if ("by", leaf) in by_source
            ]
        if ends or not self.gradient:
            for leaf in self.wrt:
                linear.edges.remove(leaf)
        for source, head, block in found:
            linear.edges.add(source, head, block)

    def _ends(
        self, linear: LinearizedGraph, seeds: Seeds, wanted: Collection[Vertex]
    ) -> dict[Vertex, Vertex]:
        """The vertices that results are; none if their Jacobians are clearly faster backwards."""
        if not self.gradient or self.kept or self.weighting != "none":
            return {}
        ends: dict[Vertex, Vertex] = {
            ("out", position): output.vertex
            for position, output in enumerate(linear.active.outputs)
            if isinstance(output, Operand) and linear.active.is_active(output)
        }
        forwards, backwards = _costs(linear, seeds, wanted, list(ends.values()))
        return {} if backwards < MARGIN * forwards else ends

    def _seeds(self, linear: LinearizedGraph, extra: Arrays) -> Seeds:
        """The directions, as Jacobians of vertices by their coordinates."""
        avals = [linear.graph.avals[leaf] for leaf in self.wrt]
        if self.weighting == "directions":
            parts = {
                leaf: Block.from_dense(jnp.moveaxis(weights.astype(aval.dtype), 0, -1), aval.ndim)
                for leaf, aval, weights in zip(self.wrt, avals, extra, strict=True)
            }
            return {CURVED: parts}
        if self.weighting == "entries":
            return {
                ("by", leaf): {leaf: Block.diag(weights.astype(aval.dtype))}
                for leaf, aval, weights in zip(self.wrt, avals, extra, strict=True)
            }
        return {
            ("by", leaf): {vertex: Block.identity(shape, aval.dtype)}
            for leaf, aval in zip(self.wrt, avals, strict=True)
            for vertex, shape in [self._start(linear, leaf, aval.shape)]
        }

    def _start(
        self, linear: LinearizedGraph, leaf: int, shape: Sequence[int]
    ) -> tuple[Vertex, Sequence[int]]:
        """The vertex where the directions of an input start, and its shape: an arrangement of it.

        A function that takes all coordinates in one vector mostly puts them into rows first. Then
        directions in rows show that each row has its own.
        """
        vertex = leaf
        while not self.kept:
            heads = linear.edges.leaving.get(vertex, {})
            if len(heads) != 1:
                break
            ((head, edge),) = heads.items()
            equation = linear.edges.equations.get(head)
            if equation is None or equation.primitive.name not in ARRANGING:
                break
            vertex, shape = head, edge.out_shape
        return vertex, shape

    def _second(self, linear: LinearizedGraph, position: int) -> list[Any]:
        """The Laplacian of a result, or the diagonals of its Hessian."""
        if not self.kept:
            avals = [linear.graph.avals[leaf] for leaf in self.wrt]
            dtype = jnp.result_type(*(aval.dtype for aval in avals))
            weak = all(aval.weak_type for aval in avals)
            value = jax.ShapeDtypeStruct((), dtype, weak_type=weak)
            return [_dense(linear, CURVED, position, value)]
        return [
            _dense(linear, ("by", leaf), position, linear.graph.avals[leaf]) for leaf in self.wrt
        ]

    def _by_gradient(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The same from the graph of the first derivative."""
        directions = extra if self.weighting == "directions" else None
        seconds = diagonals_by_gradient(
            graph, self.count, self.wrt, arguments, captured, directions
        )
        if self.weighting == "entries":
            seconds = [
                [scale**2 * diagonal for scale, diagonal in zip(extra, own, strict=True)]
                for own in seconds
            ]
        if not self.kept:
            seconds = [
                [reduce(jnp.add, [_summed(part, output.shape) for part in own])]
                for own, output in zip(seconds, map(graph.aval, graph.outputs), strict=False)
            ]
        jacobian = Jacobian(self.count, self.wrt, "auto", dense=True, values=True)
        auxiliary, (values, rows) = jacobian(graph, arguments, captured, ())
        return auxiliary, ((values, rows, seconds) if self.gradient else seconds)


ARRANGING = frozenset({"reshape", "transpose", "rev", "squeeze", "expand_dims", "copy"})
"""Primitives whose result has each entry of the operand once."""

CURVED = "curved"
"""The source of what curvatures add up to."""


def _costs(
    linear: LinearizedGraph, seeds: Seeds, wanted: Collection[Vertex], ends: Sequence[Vertex]
) -> tuple[float, float]:
    """The predicted seconds of gradient and Laplacian, forwards and backwards.

    Forwards most of the gradient is there already; what is left, and one further direction, for the
    Laplacian. Backwards all values have to be kept, written and read again, and each array that is
    added is contracted with a cotangent.
    """
    seconds: list[float] = []
    for vertices in (wanted, {*wanted, *ends}):
        with planning() as cost:
            tangents_of(linear, seeds, vertices)
        seconds.append(cost.seconds())
    forward, edges = linear.active.forward_order, linear.edges.copy()
    for leaf in linear.graph.independents:
        aval = linear.graph.avals[leaf]
        edges.add(CURVED, leaf, Block.from_dense(jnp.zeros(vertex_shape(aval)), len(aval.shape)))
    direction = price(edges, [*linear.graph.independents, *forward], True).seconds()
    avals = [linear.graph.avals[vertex] for vertex in linear.active.vertices]
    kept = sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in avals)
    back = price(linear.edges, forward[::-1], True).seconds()
    device = rates()
    backwards = back + 2 * kept / device.bytes_per_second
    forwards = seconds[1] - seconds[0] + direction
    return forwards, backwards + len(wanted) * device.seconds_a_contraction


def _arranged(linear: LinearizedGraph, leaf: int, seeds: Seeds) -> Block:
    """The Jacobian by an input of the vertex where its directions start."""
    aval, vertex = linear.graph.avals[leaf], leaf
    block = Block.identity(aval.shape, aval.dtype)
    while vertex not in seeds["by", leaf]:
        ((vertex, edge),) = linear.edges.leaving[vertex].items()
        block = star(written(edge), block)
    return block


def _row(linear: LinearizedGraph, leaf: int, position: int) -> Any:
    """The Jacobian of a result by an input."""
    return _dense(linear, leaf, position, linear.graph.avals[leaf])


def _dense(linear: LinearizedGraph, source: Any, position: int, value: Any) -> Any:
    """The entries of a result's block, of a dtype like that of a value."""
    result = linear.graph.aval(linear.graph.outputs[position])
    block = linear.block(source, ("out", position))
    if block is None:
        block = Block.zeros(vertex_shape(result), value.shape, real_dtype(value.dtype))
    return finished(block.dense(max_bytes=NO_LIMIT), result, value, holomorphic=False)


def _summed(diagonal: Any, out_shape: Sequence[int]) -> Any:
    """The sum over the axes of the input."""
    return jnp.sum(diagonal, axis=tuple(range(len(out_shape), diagonal.ndim)))
