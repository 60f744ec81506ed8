"""The Hessian of a number by symmetric elimination: each product with its mirror image once.

The Hessian of a function is a sum over its equations `v = f(u)` and pairs of their operands,

    H = sum_v sum_ab  J_a' M_ab J_b,    M_ab = sum_k (d result / d v[k]) d2 v[k] / d u_a d u_b

with the Jacobians `J_a` of operands by the inputs, computed forwards once, and the gradient by v.
Equations of the same operands add up before they are multiplied. `M_ba` is the transpose of `M_ab`:
of the two products that they make one is computed, and transposed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

from blockjac.algebra.curved import curved
from blockjac.algebra.nonzeros import without_masks
from blockjac.algebra.star import star
from blockjac.algebra.sums import add_at, compact
from blockjac.base.promises import keeping_structure, reading_forwards
from blockjac.blocks import Block, add
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.elimination_graph import Vertex
from blockjac.elimination.linearize import LinearizedGraph, linearize_to_results
from blockjac.engine.computations import Arrays
from blockjac.engine.finish import NO_LIMIT, finished
from blockjac.graph.graph import Graph
from blockjac.rules.fallback import vertex_shape
from blockjac.second_order.coefficients import Coefficients
from blockjac.second_order.curvature import Curving
from blockjac.second_order.reads import may_read_off
from blockjac.second_order.tangents import Seeds, Tangents, tangents_of
from blockjac.second_order.varying import is_pushed_again, varying_equations
from blockjac.terms.axes import rearranged

Pair = tuple[Vertex, Vertex]

Hessians = dict[tuple[int, int], Block]
"""Blocks by the numbers of two inputs, the first not after the second."""


class NotSymmetricError(Exception):
    """A function without a symmetric elimination.

    Not all of it is written down in Blocks, or its rows and columns may differ, as off the array.
    """


@dataclass(frozen=True)
class SymmetricHessian:
    """The Hessian of a graph's first result, a real number, by real inputs.

    The answer is that of a `Jacobian` of the gradient: rows of arrays, or of Blocks, of which those
    below the diagonal are left out.

    Attributes:
        wrt: the graph's inputs to differentiate by.
        dense: arrays, not Blocks.
        unasked: pairs of numbers of inputs whose block comes as zero.
    """

    wrt: tuple[int, ...]
    dense: bool
    unasked: frozenset[tuple[int, int]] = frozenset()

    takes_any_numbers: ClassVar[bool] = True
    keeps_structure: ClassVar[bool] = True

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and a row for each input."""
        del extra
        linear, blocks = self.blocks(graph, arguments, captured)
        rows: list[list[Any]] = []
        for row, leaf in enumerate(self.wrt):
            own: list[Any] = []
            for column, other in enumerate(self.wrt):
                if column < row and not self.dense:
                    continue
                block = blocks.get((min(row, column), max(row, column)))
                if block is None:
                    shapes = graph.avals[leaf].shape, graph.avals[other].shape
                    block = Block.zeros(*shapes, graph.avals[leaf].dtype)
                elif column < row:
                    block = block.T
                own.append(_finished(graph, leaf, other, block) if self.dense else block)
            rows.append(own)
        return linear.results()[1:], rows

    def blocks(
        self, graph: Graph, arguments: Arrays, captured: Arrays
    ) -> tuple[LinearizedGraph, Hessians]:
        """The function at a point, and the Blocks of its Hessian.

        Raises:
            NotSymmetricError: if not all of the function is written down in Blocks.
        """
        active = ActiveGraph.of(graph, graph.outputs[:1])
        if not is_pushed_again(active):
            raise NotSymmetricError
        size = len(self.wrt)
        wanted = [
            (row, column)
            for row in range(size)
            for column in range(row, size)
            if (row, column) not in self.unasked
        ]
        with keeping_structure(True), reading_forwards(False):
            linear = linearize_to_results(active, arguments, captured)
            if may_read_off(linear):
                raise NotSymmetricError
            found = _hessians(linear, self.wrt, wanted)
            return linear, {pair: compact(without_masks(found[pair], 1)) for pair in found}


def _finished(graph: Graph, leaf: int, other: int, block: Block) -> Any:
    """The array of a block, of the dtype that a Jacobian of the gradient has."""
    avals = graph.avals
    return finished(block.dense(max_bytes=NO_LIMIT), avals[leaf], avals[other], holomorphic=False)


def _hessians(
    linear: LinearizedGraph, wrt: Sequence[int], wanted: Sequence[tuple[int, int]]
) -> Hessians:
    """Blocks of the Hessian of a function's only result; those that are zero are left out."""
    pairs = _middles(linear)
    seeds: Seeds = {
        ("by", leaf): {leaf: Block.identity(aval.shape, aval.dtype)}
        for leaf in wrt
        for aval in [linear.graph.avals[leaf]]
    }
    tangents = tangents_of(linear, seeds, {vertex for pair in pairs for vertex in pair})
    found: Hessians = {}
    for pair, middle in pairs.items():
        for row, column in wanted:
            for product in _products(middle, tangents, pair, (wrt[row], wrt[column])):
                add_at(found, (row, column), product)
    return found


def _products(
    middle: Block, tangents: Mapping[Vertex, Tangents], pair: Pair, leaves: tuple[int, int]
) -> Iterator[Block]:
    """What the second derivatives by two vertices add to those by two inputs."""
    first, second = pair
    row, column = leaves

    def product(row: int, column: int) -> Block | None:
        left = tangents.get(first, {}).get(("by", row))
        right = tangents.get(second, {}).get(("by", column))
        return None if left is None or right is None else star(left.T, star(middle, right))

    own = product(row, column)
    if own is not None:
        yield own
    if first != second:
        mirrored = own if row == column else product(column, row)
        if mirrored is not None:
            yield mirrored.T


def _middles(linear: LinearizedGraph) -> dict[Pair, Block]:
    """The second derivatives by pairs of operands, weighted by the gradient and added up."""
    equations: list[Curving] = []
    for equation in varying_equations(linear):
        if not isinstance(equation, Curving) or not equation.coefficients.is_symmetric:
            raise NotSymmetricError
        equations.append(equation)
    rows = _rows(linear, {head for own in equations for head in own.heads if head is not None})
    order = {vertex: place for place, vertex in enumerate(linear.active.forward_order)}
    pairs: dict[Pair, Block] = {}
    for equation in equations:
        for (first, second), middle in _of_equation(equation, rows):
            is_turned = order.get(first, -1) > order.get(second, -1)
            key, block = ((second, first), middle.T) if is_turned else ((first, second), middle)
            add_at(pairs, key, block)
    return pairs


def _rows(linear: LinearizedGraph, wanted: set[Vertex]) -> dict[Vertex, Block]:
    """The gradient of the result by some vertices, backwards."""
    edges, rows = linear.edges.copy(), dict[Vertex, Block]()

    def keep(vertex: Vertex) -> None:
        edge = edges.leaving.get(vertex, {}).get(("out", 0))
        if vertex in wanted and isinstance(edge, Block):
            rows[vertex] = edge

    eliminate(edges, linear.active.reverse_order, before=keep)
    return rows


def _of_equation(equation: Curving, rows: Mapping[Vertex, Block]) -> Iterator[tuple[Pair, Block]]:
    """The weighted second derivatives of one equation by pairs of operands, each pair once."""
    coefficients = equation.coefficients
    columns = [number for number, tail in enumerate(equation.tails) if tail is not None]
    heads = [(row, rows[head]) for row, head in enumerate(equation.heads) if head in rows]
    numbers = sorted(
        {n for row, _ in heads for column in columns for n in coefficients.varying(row, column)}
    )
    if not numbers:
        return
    linear, arrays = equation.coefficients_at_point(numbers)
    eliminate(linear.edges, linear.active.reverse_order)
    places = {number: place for place, number in enumerate(numbers)}
    for last, other in enumerate(columns):
        for column in columns[: last + 1]:
            parts = [
                star(own, curved(block, arrays[number], bend, directions, "both"))
                for row, own in heads
                for block in [_told_apart(coefficients, row, column, arrays)]
                if block is not None
                for directions in [Block.identity(block.wrt_shape, block.dtype)]
                for number in coefficients.varying(row, column)
                for bend in [_bend(equation, linear, arrays, places[number], other)]
                if bend is not None
            ]
            middle = reduce(add, parts) if parts else None
            if middle is None or middle.is_zero:
                continue
            middle = _as_matrix(middle, len(vertex_shape(equation.operands[column])))
            first, second = equation.tails[column], equation.tails[other]
            if column != other and first == second:
                middle = add(middle, middle.T)
            yield (first, second), middle


def _told_apart(
    coefficients: Coefficients, row: int, column: int, arrays: Sequence[Any]
) -> Block | None:
    """A Block of an equation, of which each array is known by its identity.

    Raises:
        NotSymmetricError: if two of its arrays are one, of an operand that is given twice.
    """
    form = coefficients.blocks[row][column]
    if form is None:
        return None
    own = [arrays[number] for number in form.numbers]
    if len(set(map(id, own))) < len(own):
        raise NotSymmetricError
    return form.filled(arrays)


def _bend(
    equation: Curving, linear: LinearizedGraph, arrays: Sequence[Any], position: int, operand: int
) -> Block | None:
    """The derivative of a coefficient by an operand, by itself and by the results."""
    bends = [
        star(bend, slope)
        for vertex, slope in equation.slopes(linear, operand, arrays)
        for bend in [linear.block(vertex, ("out", position))]
        if bend is not None
    ]
    return reduce(add, bends) if bends else None


def _as_matrix(row: Block, rank: int) -> Block:
    """A row by two values as a Block of the first, which has `rank` axes, by the second."""
    return rearranged(row, range(rank), range(rank, len(row.shape)))
